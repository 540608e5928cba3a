"""How one column of a raw table becomes numbers by the rule that the recipe states for it.

A column of Arrow and a `RecipeField` go in; a `ReadColumn` comes out: a double for each row, NaN where the row is
blank, and the kind of fault where the value cannot be read. A value means the same in every format:

text      is read without the spaces around it. It is blank where it is one of the field's missing values.
number    is the nearest double. NaN and null are blank; a missing value that is a number means every spelling of it.
boolean   is 1 or 0. A column of booleans, or a text among the true or the false values, is accepted.
category  is the place of the level. A typed number is taken by its shortest decimal text, and 3.0 counts as 3.
date      is the number of days since 1970-01-01; a datetime has a fraction, to the microsecond, and no zone means UTC.

A decimal is taken as the text of it, and a column with a dictionary as its values. Times of day, durations, bytes,
lists and structures are refused by name. These rules have to stay, because a commitment to data is a hash of what they
give; a further type of Arrow may be added.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc_appraisal.common.text import shown
from mpc_appraisal.data.recipe.schema import OTHER, ZEROS
from mpc_appraisal.data.tables import NUMBER

if TYPE_CHECKING:
    from mpc_appraisal.data.recipe.fields import RecipeField

FINE, UNREAD, UNKNOWN, RANGE, BLANK = range(5)  # the kinds of faults
DAY = 86_400_000_000  # microseconds
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DIGITS = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"  # a text whose number Arrow and Python read alike
WHOLE = re.compile(r"[+-]?\d+\.0+", re.ASCII)
WHEN = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6})0*)?)?\s?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)


class TypeRefused(Exception):
    """Says that a column's type holds nothing that the field may hold."""


@dataclass(frozen=True)
class ReadColumn:
    """Hold one column as numbers.

    Attributes:
        values: the numbers, (n,) float64; NaN where a row is blank or cannot be read.
        faults: the kind of fault of each row, (n,).
        text: a function from a row to what stands there, for errors.
    """

    values: np.ndarray
    faults: np.ndarray
    text: Callable[[int], str]


def read_column(column: Any, field: RecipeField) -> ReadColumn:
    """Read one column, an array of Arrow, by the rule of its field. Raises TypeRefused for a type that cannot be."""
    import pyarrow as pa
    from pyarrow import types

    column = _plain(column)
    kind = column.type
    if types.is_null(kind):
        return _blanks(len(column))
    if field.kind == "number" and (types.is_integer(kind) or types.is_floating(kind)):
        return _numbers(column, field)
    if types.is_boolean(kind):
        if field.kind != "boolean":
            raise TypeRefused(f"holds booleans; write it as {field.type}, or state type: boolean")
        return _numbers(column.cast(pa.uint8()), field)
    if types.is_date(kind) or types.is_timestamp(kind):
        if field.kind != "date":
            raise TypeRefused(f"holds {kind}; write it as {field.type}, or state type: date or datetime")
        return _times(column, field)
    parse = reader_of(field)
    if types.is_decimal(kind):
        parse = reader_of(field, plain=True)
        texts = lambda values: [format(value, "f") for value in values]  # noqa: E731
    elif types.is_integer(kind):
        texts = lambda values: [str(value) for value in values]  # noqa: E731
    elif types.is_floating(kind):
        texts = lambda values: [None if value != value else decimal_of(value) for value in values]  # noqa: E731
    elif types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        if field.kind == "number" and (field.decimal_char, field.group_char) == (".", ""):
            return _digits(column, parse, field)
        texts = list
    else:
        raise TypeRefused(f"holds {kind}; write numbers, texts, booleans, dates or datetimes")
    return _distinct(column, texts, parse, field)


def reader_of(field: RecipeField, plain: bool = False) -> Callable[[str], tuple[float, int]]:
    """Return a function that reads a text which is not blank: (number, kind of fault).

    plain: whether numbers are written with '.' and without separators of groups, whatever the field states.
    """
    if field.kind == "category":
        places = {str(level): float(place) for place, level in enumerate(field.categories)}
        unknown = {OTHER: (float(len(places)), FINE), ZEROS: (-1.0, FINE)}.get(field.unknown, (math.nan, UNKNOWN))

        def level(text: str) -> tuple[float, int]:
            place = places.get(text, places.get(whole_text(text)))
            return unknown if place is None else (place, FINE)

        return level
    if field.kind == "boolean":
        truths = dict.fromkeys(field.false_values, 0.0) | dict.fromkeys(field.true_values, 1.0)

        def truth(text: str) -> tuple[float, int]:
            value = truths.get(text, truths.get(whole_text(text)))
            return (math.nan, UNREAD) if value is None else (value, FINE)

        return truth
    if field.kind == "date":
        return lambda text: _when(whole_text(text), field)
    decimal, group = (".", "") if plain else (field.decimal_char, field.group_char)
    return lambda text: _checked(_number(text, decimal, group), field)


def whole_text(text: str) -> str:
    """Return the text without the decimals of a whole number: 3 for 3.0, as programs write an integer beside blanks."""
    return text.partition(".")[0] if WHOLE.fullmatch(text) else text


def decimal_of(value: float) -> str:
    """Return the shortest decimal text of a number: 3 for 3.0, and 0.1 for 0.1."""
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))


def _plain(column: Any) -> Any:
    """Return the column without dictionary, runs, extension and chunks."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


def _blanks(rows: int) -> ReadColumn:
    return ReadColumn(np.full(rows, np.nan), np.zeros(rows, np.uint8), lambda row: "")


def _numbers(column: Any, field: RecipeField) -> ReadColumn:
    """Read a column of numbers of any width."""
    found = column.to_numpy(zero_copy_only=False).astype(np.float64)
    values = np.where(np.isin(found, field.missing_numbers), np.nan, found) + 0.0  # -0.0 becomes 0.0
    faults = np.where(np.isinf(values), UNREAD, FINE).astype(np.uint8)
    if field.type == "integer":
        faults[np.isfinite(values) & (values != np.floor(values))] = UNREAD
    low, high = field.minimum, field.maximum
    with np.errstate(invalid="ignore"):
        outside = (values < (-np.inf if low is None else low)) | (values > (np.inf if high is None else high))
    faults[outside & (faults == FINE)] = RANGE
    values = np.where(faults == FINE, values, np.nan)
    return ReadColumn(values, faults, lambda row: decimal_of(found[row]))


def _times(column: Any, field: RecipeField) -> ReadColumn:
    """Read a column of dates or timestamps: days since 1970-01-01, in UTC."""
    import pyarrow as pa

    texts = column
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    steps = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 0}[column.type.unit]
    blank = column.is_null().to_numpy(zero_copy_only=False)
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    most = np.iinfo(np.int64).max // max(steps, 1)
    wrong = (ticks > most) | (ticks < -most)
    micros = np.where(wrong, 0, ticks) * steps if steps else ticks // 1000
    if not steps:
        wrong |= ticks % 1000 != 0
    if field.type == "date":
        wrong |= micros % DAY != 0
    wrong &= ~blank
    values = np.where(blank | wrong, np.nan, micros.astype(np.float64) / DAY)
    return ReadColumn(values, np.where(wrong, UNREAD, FINE).astype(np.uint8), lambda row: str(texts[row]))


def _distinct(
    column: Any,
    texts: Callable[[list], list[str | None]],
    parse: Callable[[str], tuple[float, int]],
    field: RecipeField,
) -> ReadColumn:
    """Read every different value once. texts: makes texts of the different values, and None of NaN."""
    encoded = column.dictionary_encode()
    different = [text if text is None else text.strip() for text in texts(encoded.dictionary.to_pylist())]
    values, faults = np.full(len(different) + 1, np.nan), np.zeros(len(different) + 1, np.uint8)
    for place, text in enumerate(different):
        blank = text is None or text in field.missing or (field.kind != "number" and whole_text(text) in field.missing)
        if not blank:
            values[place], faults[place] = parse(text)
    values += 0.0
    places = encoded.indices.fill_null(len(different)).to_numpy(zero_copy_only=False).astype(np.int64)
    different.append("")
    return ReadColumn(values[places], faults[places], lambda row: different[places[row]] or "")


def _digits(column: Any, parse: Callable[[str], tuple[float, int]], field: RecipeField) -> ReadColumn:
    """Read a column of texts that are numbers: plain digits by Arrow, which is fast, and any other text by `parse`.

    Arrow takes the nearest double too, and the texts of DIGITS are read alike by both.
    """
    import pyarrow as pa
    from pyarrow import compute

    column = column.cast(pa.string())
    plain = compute.fill_null(compute.match_substring_regex(column, DIGITS), False)
    chosen = plain.to_numpy(zero_copy_only=False)
    values, faults = np.full(len(column), np.nan), np.zeros(len(column), np.uint8)
    values[chosen] = column.filter(plain).cast(pa.float64()).to_numpy(zero_copy_only=False)
    if not chosen.all():
        others = _distinct(column.filter(compute.invert(plain)), list, parse, field)
        values[~chosen], faults[~chosen] = others.values, others.faults
    found = values[chosen]
    wrong = (found != np.floor(found)) & (field.type == "integer")
    blank = np.isin(found, field.missing_numbers) & ~wrong
    low, high = field.minimum, field.maximum
    outside = (found < (-np.inf if low is None else low)) | (found > (np.inf if high is None else high))
    outside &= ~(wrong | blank)
    faults[chosen] = np.where(wrong, UNREAD, np.where(outside, RANGE, FINE))
    values[chosen] = np.where(wrong | blank | outside, np.nan, found + 0.0)  # -0.0 becomes 0.0
    return ReadColumn(values, faults, lambda row: (column[row].as_py() or "").strip())


def _number(text: str, decimal: str, group: str) -> float:
    """Return the nearest double, or an infinite number for a text that is no number."""
    if group:
        text = text.replace(group, "")
    if decimal != ".":
        text = "" if "." in text else text.replace(decimal, ".")
    return float(text) if NUMBER.fullmatch(text) else math.inf


def _checked(value: float, field: RecipeField) -> tuple[float, int]:
    if math.isinf(value) or (field.type == "integer" and value != math.floor(value)):
        return math.nan, UNREAD
    if value in field.missing_numbers:
        return math.nan, FINE
    low, high = field.minimum, field.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        return math.nan, RANGE
    return value, FINE


def _when(text: str, field: RecipeField) -> tuple[float, int]:
    """Return the days since 1970-01-01 of a date or a datetime."""
    try:
        found = days_of(text, field.format)
    except (ValueError, OverflowError):
        return math.nan, UNREAD
    return (math.nan, UNREAD) if field.type == "date" and found != math.floor(found) else (found, FINE)


def days_of(text: str, form: str | None) -> float:
    """Return the days since 1970-01-01. form: a pattern of strptime; None for ISO 8601. Raises ValueError."""
    if form is not None:
        when = datetime.strptime(text, form)
    else:
        parts = WHEN.fullmatch(text)
        if parts is None:
            raise ValueError(f"{shown(text)} is no date")
        numbers = [int(part or 0) for part in parts.groups()[:6]]
        micros = int((parts[7] or "0").ljust(6, "0"))
        zone = timezone.utc
        if parts[8] not in (None, "Z"):
            sign, digits = (-1 if parts[8][0] == "-" else 1), parts[8][1:].replace(":", "")
            zone = timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
        when = datetime(*numbers, micros, tzinfo=zone)
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return float((when - EPOCH) // timedelta(microseconds=1)) / DAY
