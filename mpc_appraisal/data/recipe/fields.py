"""One field of a recipe: how one column of a raw table is read, and which features it becomes.

In goes the content of a field, which the JSON schema has accepted; out comes a `RecipeField`, or an InputError with the
field's name, the setting, its value and what was expected. A setting may be added with a default; what the others mean
has to stay, because both sides of an appraisal read their files by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any

from mpc_appraisal.common.checks import is_number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data.recipe.schema import OTHER, REFUSE
from mpc_appraisal.data.recipe.values import days_of
from mpc_appraisal.data.tables import NUMBER

MISSING = ("",)
TRUE, FALSE = ("true", "True", "TRUE", "1"), ("false", "False", "FALSE", "0")
KINDS = {
    "number": "number",
    "integer": "number",
    "string": "category",
    "boolean": "boolean",
    "date": "date",
    "datetime": "date",
}
# The kinds of fields that each property belongs to.
BELONGS = {
    "categories": ("category",),
    "trueValues": ("boolean",),
    "falseValues": ("boolean",),
    "decimalChar": ("number",),
    "groupChar": ("number",),
    "constraints": ("number",),
    "format": ("date",),
    "unknown": ("category",),
    "mean": ("number", "date"),
    "scale": ("number", "date"),
    "bits": ("number", "date"),
}
LOCAL = ("%a", "%A", "%b", "%B", "%c", "%p", "%x", "%X", "%Z")  # their texts depend on a machine's language


@dataclass(frozen=True)
class RecipeField:
    """State how one column is read, and which features it becomes.

    Attributes:
        name: the column's name.
        type: one of `schema.TYPES`.
        unit: the unit in words; '' where none is stated.
        format: a pattern of strptime for dates; None for ISO 8601.
        categories: the levels, in order; None for a field without levels.
        missing: the texts of a blank.
        true_values, false_values: the texts of a boolean.
        decimal_char, group_char: how a number is written; '' for no separator of groups.
        minimum, maximum: the range of a number; None for an open end.
        leave_out: whether the column is read past.
        blank: what a blank becomes, in the column's own unit, a level, or None for no level; see `takes_blanks`.
        takes_blanks: whether a blank is accepted.
        indicator: whether a further feature is 1 where the column is blank.
        unknown: what an unknown level becomes: refuse, other (a level of its own) or zeros (no level).
        mean, scale: a number becomes (number - mean) / scale.
        bits: the feature is rounded to multiples of 2^-bits; None for no rounding.
        words: the title and the description, which nothing depends on but the digest.
    """

    name: str
    type: str
    unit: str = ""
    format: str | None = None
    categories: tuple[str | int, ...] | None = None
    missing: tuple[str, ...] = MISSING
    true_values: tuple[str, ...] = TRUE
    false_values: tuple[str, ...] = FALSE
    decimal_char: str = "."
    group_char: str = ""
    minimum: float | None = None
    maximum: float | None = None
    leave_out: bool = False
    blank: Any = None
    takes_blanks: bool = False
    indicator: bool = False
    unknown: str = REFUSE
    mean: float = 0.0
    scale: float = 1.0
    bits: int | None = None
    words: tuple[str, str] = ("", "")

    @property
    def kind(self) -> str:
        """How the column is read: 'number', 'boolean', 'category' or 'date'."""
        return "category" if self.categories is not None else KINDS[self.type]

    @cached_property
    def missing_numbers(self) -> list[float]:
        """The missing values that are numbers."""
        return [float(text) for text in self.missing if NUMBER.fullmatch(text)]

    @property
    def blank_number(self) -> float:
        """What a blank becomes, as `values` reads the column: a number, 0 or 1, days, or the place of a level."""
        if self.kind == "category":
            return -1.0 if self.blank is None else float(list(map(str, self.categories)).index(str(self.blank)))
        return days_of(self.blank, self.format) if self.kind == "date" else float(self.blank)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that are features, with that of unknown levels last."""
        return (*map(str, self.categories or ()), *([OTHER] if self.unknown == OTHER else []))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features that the column becomes."""
        if self.leave_out:
            return ()
        own = [f"{self.name}={level}" for level in self.levels] if self.kind == "category" else [self.name]
        return (*own, *([f"{self.name} is blank"] if self.indicator else []))

    @staticmethod
    def of(content: Mapping[str, Any], missing: Sequence[str] | None, where: str, target: bool) -> RecipeField:
        """Return the field that a content of the schema states.

        Args:
            content: the field's content.
            missing: the missing values of the whole table; None for those of Table Schema.
            where: what errors begin with.
            target: whether the field is the target.

        Raises InputError for settings that do not fit the field or each other.
        """
        feature = content.get("feature", {})
        field = _read(content, missing)
        _check_belonging(content, feature, field, where, target)
        _check_levels(field, where)
        if field.kind == "date" and field.format is not None:
            _check_format(field, where)
        if field.minimum is not None and field.maximum is not None and not field.minimum < field.maximum:
            raise InputError(f"{where}.constraints", f"{field.minimum:g} to {field.maximum:g}", "minimum below maximum")
        if field.takes_blanks:
            _check_blank(field, where)
        return field

    def content(self) -> dict[str, Any]:
        """Return everything that the field states, as JSON values of one spelling."""
        return {
            each.name: list(value) if isinstance(value := getattr(self, each.name), tuple) else value
            for each in fields(self)
            if getattr(self, each.name) != each.default
        }


def _read(content: Mapping[str, Any], missing: Sequence[str] | None) -> RecipeField:
    feature, limits = content.get("feature", {}), content.get("constraints", {})
    blank, form = feature.get("blank"), content.get("format")
    given = blank and blank["value"]
    stated = {
        "categories": content.get("categories"),
        "missing": content.get("missingValues", missing),
        "true_values": content.get("trueValues"),
        "false_values": content.get("falseValues"),
    }
    return RecipeField(
        name=content["name"],
        type=content["type"],
        unit=content.get("unit", ""),
        format=None if form == "default" else form,
        decimal_char=content.get("decimalChar", "."),
        group_char=content.get("groupChar", ""),
        minimum=_float(limits.get("minimum")),
        maximum=_float(limits.get("maximum")),
        leave_out=feature.get("leave_out", False),
        blank=_float(given) if is_number(given) and "categories" not in content else given,
        takes_blanks=blank is not None,
        indicator=bool(blank and blank.get("indicator", False)),
        unknown=feature.get("unknown", REFUSE),
        mean=float(feature.get("mean", 0.0)),
        scale=float(feature.get("scale", 1.0)),
        bits=feature.get("bits"),
        words=(content.get("title", ""), content.get("description", "")),
        **{key: tuple(value) for key, value in stated.items() if value is not None},
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _check_belonging(
    content: Mapping[str, Any], feature: Mapping[str, Any], field: RecipeField, where: str, target: bool
) -> None:
    """Raise InputError for a property that such a field does not have."""
    if target and feature:
        raise InputError(f"{where}.feature", ", ".join(feature), "no such setting, because the target is no feature")
    if field.leave_out and len(feature) > 1:
        raise InputError(f"{where}.feature", ", ".join(feature), "leave_out alone")
    for key, kinds in BELONGS.items():
        stated = f".feature.{key}" if key in feature else f".{key}" if key in content else ""
        free = key == "format" and content.get(key) == "default"
        if stated and not free and (field.kind not in kinds or (key == "categories" and field.type not in KEYS)):
            what = {"category": "a field with categories, of type string or integer"}
            expected = " or ".join(what.get(kind, f"a {kind}") for kind in kinds)
            raise InputError(f"{where}{stated}", f"a setting of a field of type {field.type}", f"it for {expected}")
    if field.type == "string" and field.categories is None and not field.leave_out:
        expected = "categories, a list of its levels, or feature.leave_out: true"
        raise InputError(f"{where}.categories", "none for a field of type string", expected)


KEYS = ("string", "integer")  # the types of fields that may have categories


def _check_levels(field: RecipeField, where: str) -> None:
    """Raise InputError for levels that are blank, of another type, or stated twice; and so for a boolean's texts."""
    lists = {"categories": field.categories or (), "trueValues, falseValues": field.true_values + field.false_values}
    for key, levels in lists.items():
        texts = [str(level) for level in levels]
        if len(set(texts)) < len(texts) or any(text != text.strip() or text in field.missing for text in texts):
            found = ", ".join(shown(repr(level)) for level in levels[:20])
            raise InputError(
                f"{where}.{key}", found, "different texts without spaces around them, none a missing value"
            )
    kind = int if field.type == "integer" else str
    for level in field.categories or ():
        if type(level) is not kind:
            expected = "integers" if kind is int else "texts, in quotation marks where they look like numbers"
            raise InputError(f"{where}.categories", shown(repr(level)), expected)
    if field.unknown == OTHER and OTHER in map(str, field.categories or ()):
        raise InputError(f"{where}.feature.unknown", OTHER, f"zeros or refuse, because {OTHER} is a level itself")


def _check_format(field: RecipeField, where: str) -> None:
    """Raise InputError for a pattern that cannot give back what it writes."""
    sample = datetime(2004, 12, 31) if field.type == "date" else datetime(2004, 12, 31, 23, 58, 57)
    try:
        found = None
        if not any(code in field.format for code in LOCAL):
            found = datetime.strptime(sample.strftime(field.format), field.format).replace(tzinfo=None)
    except ValueError:
        found = None
    if found != sample:
        expected = "a pattern of strptime with all parts of the date as numbers, as in %d.%m.%Y"
        raise InputError(f"{where}.format", shown(repr(field.format)), expected)


def _check_blank(field: RecipeField, where: str) -> None:
    """Raise InputError for a value in place of blanks that the column itself could not hold."""
    value, key = field.blank, f"{where}.feature.blank.value"
    if field.kind == "number":
        low, high = field.minimum, field.maximum
        fits = is_number(value) and math.isfinite(value) and (field.type == "number" or value == math.floor(value))
        fits = fits and (low is None or value >= low) and (high is None or value <= high)
        expected = "a number that the column could hold"
    elif field.kind == "boolean":
        fits, expected = isinstance(value, bool), "true or false"
    elif field.kind == "category":
        fits = value is None or str(value) in map(str, field.categories)
        expected = "one of the categories, or null for none of them"
    else:
        expected = "a text that is a date as the column writes it"
        try:
            fits = isinstance(value, str) and math.isfinite(days_of(value, field.format))
        except (ValueError, OverflowError):
            fits = False
    if not fits:
        raise InputError(key, shown(repr(value)), expected)
