"""Schemas of JSON: how JSON from a file is read, what its fields may hold, and what an error says of the first bad one.

`read_json` reads a text; functions such as `record`, `text` and `whole` build a JSON schema of the 2020-12 draft, a
dictionary that is called a part here; a `Schema` checks values by a part and raises InputError with the field's name,
its value and what was expected. A part that has a `description` states the expectation in words; for others the
expectation follows from the rule that is broken. A new function for a part may be added. Reading has to stay strict (no
field twice, no infinite number, no unknown field), because files come from strangers and their digests are compared.
"""

from __future__ import annotations

import json
import math
import numbers
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, cached_property
from typing import Any

from mpc_appraisal.common.checks import is_number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

COUNT = 2**53  # the largest whole number: beyond it JSON readers differ
LARGEST = sys.float_info.max
ZONED_TIME, DAY = "zoned-time", "day"  # formats of texts, in the sense of JSON schemas

Part = dict[str, Any]  # a JSON schema of one value


def read_json(text: str) -> Any:
    """Read JSON whose keys are stated once and whose numbers are finite; raises ValueError and RecursionError."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite)


def record(optional: dict[str, Part] | None = None, **required: Part) -> Part:
    """Describe an object with all required fields, perhaps optional ones, and no other.

    An unknown field is refused, so that nothing is asked for unseen.
    """
    fields = required | (optional or {})
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": fields}


def open_record(optional: dict[str, Part] | None = None, **required: Part) -> Part:
    """Describe an object with all required fields and perhaps optional ones; fields that are not named are ignored."""
    return record(optional, **required) | {"additionalProperties": True}


def text(longest: int, shortest: int = 0) -> Part:
    """Describe a text of `shortest` to `longest` characters."""
    words = f"a text of {f'{shortest} to' if shortest else 'at most'} {longest} characters"
    return {"type": "string", "minLength": shortest, "maxLength": longest, "description": words}


def matching(pattern: str, expected: str) -> Part:
    """Describe a text that the pattern matches from its beginning to its end. expected: what errors say of it."""
    return {"type": "string", "pattern": f"^({pattern})$(?!\n)", "description": expected}


def hexadecimal(digits: int) -> Part:
    """Describe a text of so many digits 0 to 9 and a to f."""
    return matching(f"[0-9a-f]{{{digits}}}", f"{digits} hex digits")


def one_of(*choices: str) -> Part:
    """Describe a value that is one of `choices`."""
    return {"enum": list(choices)}


def whole(least: int, most: float = COUNT) -> Part:
    """Describe an integer from `least` to `most`."""
    words = f"an integer of {least} or more" if most >= COUNT else f"an integer from {least} to {most}"
    return {"type": "integer", "minimum": least, "maximum": most, "description": words}


def number(least: float | None = None, below: float | None = None, most: float = LARGEST) -> Part:
    """Describe a number that a float can hold, `least` or more, smaller than `below` and at most `most`."""
    words = "a finite number" + ("" if least is None else f", {least:g} or more")
    words += "" if most == LARGEST else f" and at most {most:g}"
    found = {"type": "number", "minimum": -LARGEST if least is None else least, "maximum": most}
    if below is None:
        return found | {"description": words}
    return found | {"exclusiveMaximum": below, "description": f"{words} and below {below:g}"}


def zoned_time() -> Part:
    """Describe a text that states a time with its zone in ISO 8601."""
    words = "a time with its zone, as in 2026-01-31T12:00:00+00:00"
    return {"type": "string", "format": ZONED_TIME, "description": words}


def day() -> Part:
    """Describe a text that states a day as ISO 8601 does, year, month and day with hyphens."""
    return {"type": "string", "format": DAY, "description": "a day of the calendar, as in 2026-01-31"}


def many(items: Part, least: int = 1, most: int | None = None) -> Part:
    """Describe a list of `least` to `most` items."""
    found = {"type": "array", "items": items, "minItems": least, "description": f"a list of {least} or more"}
    return found if most is None else found | {"maxItems": most, "description": f"a list of {least} to {most}"}


def mapping(keys: Part, values: Part) -> Part:
    """Describe an object of any number of fields. keys, values: what the fields' names and values may be."""
    return {"type": "object", "propertyNames": keys, "additionalProperties": values}


def nullable(part: Part) -> Part:
    """Describe a value that is `part`, which has a type, or null. A description says so too."""
    words = {"description": f"{part['description']}, or null"} if "description" in part else {}
    return part | {"type": [part["type"], "null"]} | words


@dataclass(frozen=True)
class Violation:
    """State what is wrong with a value.

    Attributes:
        path: The keys and places that lead to the bad field.
        got: What the field holds, in words.
        expected: What was expected, in words.
    """

    path: tuple[str | int, ...]
    got: str
    expected: str

    def named(self, name: str) -> str:
        """Return the bad field of the value that is called `name`, as in name.candidates[0].rows."""
        return name + "".join(f"[{p}]" if isinstance(p, int) else f".{shown(p)}" for p in self.path)


class Schema:
    """Check values by a JSON schema.

    An integer is a number that JSON writes without a fraction: 3, not 3.0. NaN is no number.
    """

    def __init__(self, part: Part):
        self.part = part

    def check(self, value: Any, name: str) -> None:
        """Raise InputError for the first bad field of `value`, which errors call `name`."""
        wrong = self.violation(value)
        if wrong is not None:
            raise InputError(wrong.named(name), wrong.got, wrong.expected)

    def violation(self, value: Any) -> Violation | None:
        """Return what is wrong with `value`, the field that is least deep first; None where nothing is."""
        from jsonschema.exceptions import best_match

        error = best_match(self._validator.iter_errors(value))
        return None if error is None else Violation(tuple(error.absolute_path), *_words(error))

    @cached_property
    def _validator(self) -> Any:
        return _validator_class()(self.part, format_checker=_formats())


@cache
def _validator_class() -> Any:
    from jsonschema import Draft202012Validator, validators  # a tenth of a second to import

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    # NaN alone differs from itself; math.isnan fails for large integers
    types = types.redefine("number", lambda _, value: is_number(value, numbers.Real) and value == value)
    return validators.extend(Draft202012Validator, type_checker=types)


@cache
def _formats() -> Any:
    from jsonschema import FormatChecker

    found = FormatChecker(formats=())
    found.checks(ZONED_TIME, raises=ValueError)(_has_zone)
    found.checks(DAY, raises=ValueError)(_is_day)
    return found


def _is_day(value: Any) -> bool:
    # Later versions of Python read other forms too, such as 20260131 and 2026-W05-6.
    return not isinstance(value, str) or date.fromisoformat(value).isoformat() == value


def _has_zone(value: Any) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None


def _words(error: Any) -> tuple[str, str]:
    """Return what a field holds, and what was expected of it."""
    value, rule, against = error.instance, error.validator, error.validator_value
    if rule == "required":
        return f"no {', '.join(key for key in against if key not in value)}", f"all of {', '.join(against)}"
    if rule == "dependentRequired":
        key = next(key for key, others in against.items() if key in value and not set(others) <= set(value))
        return f"{key} without {', '.join(against[key])}", "both, or neither"
    if rule == "additionalProperties" and against is False:
        known = error.schema["properties"]
        return shown(", ".join(repr(key) for key in value if key not in known)), f"no field but {', '.join(known)}"
    got = shown(repr(value) if isinstance(value, str) else value)
    if "propertyNames" in error.relative_schema_path:
        got = f"the key {got}"
    return got, error.schema.get("description") or _expected(rule, against) or shown(error.message)


def _expected(rule: str, against: Any) -> str | None:
    if rule == "type":
        kinds = [against] if isinstance(against, str) else against
        return " or ".join(each if each == "null" else f"{'an' if each[0] in 'aio' else 'a'} {each}" for each in kinds)
    if rule == "enum":
        return f"one of {', '.join(map(str, against))}"
    words = {
        "const": "{!r}",
        "minimum": "{} or more",
        "exclusiveMinimum": "more than {}",
        "maximum": "{} or less",
        "exclusiveMaximum": "less than {}",
        "minLength": "a text of {} characters or more",
        "maxLength": "a text of at most {} characters",
        "minItems": "a list of {} or more",
        "maxItems": "a list of at most {}",
    }
    if rule == "pattern":
        return f"a text that matches {shown(against.removesuffix('(?!' + chr(92) + 'n)'))}"
    return words[rule].format(against) if rule in words else None


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"field {twice!r} is stated twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
