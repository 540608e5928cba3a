"""A proposal of a recipe for a table: its columns' types, levels, means and scales, for its owner to read and to edit.

A raw table of the model owner goes in; out come the content of a recipe's file, and sentences on what it discloses of
the table's rows. This is the only place where a type is guessed and a value is taken from data; both sides then read
their files by the recipe alone. The order in which types are tried and the limits may change. Everything that is taken
from the rows has to be named by a sentence.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import listed, near_misses
from mpc_appraisal.data.files import check_path, readable
from mpc_appraisal.data.recipe.fields import RecipeField
from mpc_appraisal.data.recipe.raw import raw_columns
from mpc_appraisal.data.recipe.schema import OTHER
from mpc_appraisal.data.recipe.values import EPOCH, ReadColumn, TypeRefused, read_column

EXACT, ROUND, RANGES = "exact", "round", "ranges"  # how means and scales are taken from the rows
BLOCK = 1 << 14
MOST_LEVELS = 50  # a column of more different texts is proposed to be left out
FEW = 20  # a target with at most so many different integers is proposed as classes
PAIRS = (("no", "yes"), ("n", "y"), ("false", "true"), ("f", "t"))
BOOLEAN = {"type": "boolean", "trueValues": ["true", "True", "1"], "falseValues": ["false", "False", "0"]}
COMMON = ("NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-")  # texts of a blank among numbers


@dataclass(frozen=True)
class Proposal:
    """Hold a proposed recipe.

    Attributes:
        content: the content of the recipe's file.
        disclosed: sentences on what it says of the table's rows.
    """

    content: dict[str, Any]
    disclosed: tuple[str, ...]


def infer(
    source: str | os.PathLike[str], label: str, figures: str = EXACT, least: int = 1, delimiter: str = ","
) -> Proposal:
    """Propose a recipe for a table.

    Args:
        source: the table's path.
        label: the name of the target.
        figures: how means and scales are stated: EXACT; ROUND, to the first digit of the deviation; or RANGES, the
            middle and half the width of a range with ends of one digit.
        least: a level in fewer rows is not stated, and counts as other.
        delimiter: what separates the fields of a CSV file, one of `schema.DELIMITERS`; it is never guessed.

    Raises InputError for a table that cannot be read or has no such target.
    """
    path = Path(source)
    check_path(path, "recipe infer")
    with readable(path, "recipe infer"):
        columns = _columns(path, label, delimiter)
    fields, disclosed = [], []
    for name, column in columns.items():
        field, said = _field(name, column, name == label, figures, least)
        fields.append(field)
        disclosed += [f"column {name!r}: {each}" for each in said]
    dialect = {} if delimiter == "," else {"dialect": {"delimiter": delimiter}}
    content = {"missingValues": [""], "fieldsMatch": ["equal"], "fields": fields, "target": label}
    return Proposal(dialect | content, tuple(disclosed))


def _columns(source: Path, label: str, delimiter: str) -> dict[str, Any]:
    """Read all columns. Raises InputError without the target, without rows, and for a repeated name."""
    import pyarrow as pa

    raw = raw_columns(source, "recipe infer", label, delimiter)
    if label not in raw.names:
        near = [found for _, found in near_misses([label], raw.names)]
        hint = f" (perhaps --label {near[0]})" if near else ""
        raise InputError("--label", repr(label), f"one of the columns {listed(raw.names)}{hint}")
    if len(set(raw.names)) < len(raw.names) or not all(name.strip() for name in raw.names):
        raise InputError("recipe infer", f"columns {listed(raw.names)}", "a different, non-empty name for each")
    parts: dict[str, list[Any]] = {name: [] for name in raw.names}
    for block in raw.blocks(BLOCK, raw.names):
        if block.wrong:
            line, found = block.wrong[0]
            raise InputError("recipe infer", f"line {line} of {found} fields", f"{len(raw.names)}, as the header has")
        for name, column in block.columns.items():
            parts[name].append(column)
    if not raw.rows:
        raise InputError("recipe infer", f"{raw.where} with no rows", "one row or more")
    words = {name: next((each for each in held if isinstance(each, str)), None) for name, held in parts.items()}
    return {name: words[name] or pa.chunked_array(held) for name, held in parts.items()}


def _field(name: str, column: Any, target: bool, figures: str, least: int) -> tuple[dict[str, Any], list[str]]:
    """Return the content of one field, and what it discloses."""
    for stated in _candidates(name, column):
        try:
            read = read_column(column, RecipeField.of(stated, None, name, target))
        except TypeRefused:
            continue
        if not read.faults.any() and np.isfinite(read.values).any():
            return _target(stated, read) if target else _feature(stated, read, figures)
    return _levels(name, column, target, least)


def _candidates(name: str, column: Any) -> list[dict[str, Any]]:
    """Return the contents that are tried, the narrowest type first."""
    found: list[dict[str, Any]] = []
    texts = _texts(column)
    if texts is not None:
        for no, yes in PAIRS:
            spelt = {text for text in texts if text.lower() in (no, yes)}
            if spelt == texts and len(spelt) == len({text.lower() for text in spelt}) and spelt:
                both = [next((text for text in spelt if text.lower() == word), word) for word in (no, yes)]
                found.append({"name": name, "type": "boolean", "trueValues": [both[1]], "falseValues": [both[0]]})
        missing = sorted(texts & set(COMMON))
    else:
        found.append(BOOLEAN | {"name": name} if _holds(column, "bool") else {"name": name, "type": "integer"})
        missing = []
    more = {"missingValues": ["", *missing]} if missing else {}
    return found + [{"name": name, "type": kind, **more} for kind in ("integer", "number", "date", "datetime")]


def _holds(column: Any, kind: str) -> bool:
    return str(getattr(column, "type", "")) == kind


def _texts(column: Any) -> set[str] | None:
    """Return the different texts that are not blank; None for a column of another type."""
    import pyarrow as pa

    kind = getattr(column, "type", None)
    kind = kind.value_type if kind is not None and pa.types.is_dictionary(kind) else kind
    if kind is None or not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    return {text.strip() for text in column.unique().to_pylist() if text is not None and text.strip()}


def _target(stated: dict[str, Any], read: ReadColumn) -> tuple[dict[str, Any], list[str]]:
    values = np.unique(read.values[np.isfinite(read.values)])
    if stated["type"] == "boolean":
        return stated, [f"its two classes {stated['falseValues'][0]!r} and {stated['trueValues'][0]!r}"]
    if stated["type"] == "integer" and len(values) <= FEW:
        return stated | {"categories": [int(value) for value in values]}, [f"its {len(values)} classes"]
    low, high = _outward(float(values[0]), float(values[-1]))
    said = f"its range {low:g} to {high:g}, rounded outwards"
    return stated | {"constraints": {"minimum": low, "maximum": high}}, [said]


def _feature(stated: dict[str, Any], read: ReadColumn, figures: str) -> tuple[dict[str, Any], list[str]]:
    known, blank = read.values[np.isfinite(read.values)], bool(np.isnan(read.values).any())
    if stated["type"] == "boolean":
        feature = {"blank": {"value": False, "indicator": True}} if blank else {}
        said = "that it holds two values" + ", and blanks" * blank
        return stated | ({"feature": feature} if blank else {}), [said]
    mean, scale = _figures(known, figures)
    feature = {"mean": mean, "scale": scale}
    if blank:
        value = {"number": mean, "integer": int(round(mean))}.get(stated["type"])
        if value is None:
            value = (EPOCH + timedelta(days=round(mean))).strftime("%Y-%m-%d")
        feature["blank"] = {"value": value, "indicator": True}
    what = {
        EXACT: "the mean {:g} and the standard deviation {:g} of its rows",
        ROUND: "the mean {:g} and the standard deviation {:g} of its rows, rounded",
        RANGES: "the middle {:g} and half the width {:g} of its range, with ends of one digit",
    }[figures]
    return stated | {"feature": feature}, [what.format(mean, scale) + ", and that it has blanks" * blank]


def _figures(values: np.ndarray, figures: str) -> tuple[float, float]:
    """Return what is taken for the mean and the scale."""
    if figures == RANGES:
        low, high = _outward(float(values.min()), float(values.max()))
        return _neat((low + high) / 2), _neat((high - low) / 2)
    mean, scale = float(values.mean()), float(values.std())
    scale = scale if scale > 0 and math.isfinite(scale) else 1.0
    if figures == ROUND:
        step = 10.0 ** math.floor(math.log10(scale))
        mean, scale = _neat(round(mean / step) * step), float(f"{scale:.1e}")
    return mean, scale


def _outward(low: float, high: float) -> tuple[float, float]:
    """Return a range around both ends, whose ends have one digit or the width's."""
    width = max(abs(low), abs(high), 1e-300) if low == high else high - low
    step = 10.0 ** math.floor(math.log10(width))
    ends = _neat(math.floor(low / step) * step), _neat(math.ceil(high / step) * step)
    return ends if ends[0] < ends[1] else (ends[0], _neat(ends[0] + step))


def _neat(value: float) -> float:
    """Return the value without the last digits, which only the arithmetic has put there."""
    return float(f"{value:.12g}")


def _levels(name: str, column: Any, target: bool, least: int) -> tuple[dict[str, Any], list[str]]:
    """Return a field of categories, or one that is left out."""
    counts = _counted(column)
    kept = sorted(text for text, rows in counts.items() if rows >= least or target)
    if not target and (not kept or len(kept) > MOST_LEVELS or (len(kept) > 2 and 2 * len(kept) > sum(counts.values()))):
        return {"name": name, "type": "string", "feature": {"leave_out": True}}, []
    if len(kept) < 2 and target:
        raise InputError("--label", repr(name), "a column of two classes or more, or of numbers")
    said = [f"its {len(kept)} {'classes' if target else 'levels'} {listed(kept)}"]
    if target:
        return {"name": name, "type": "string", "categories": kept}, said
    unknown = "zeros" if OTHER in kept else OTHER
    feature: dict[str, Any] = {"unknown": unknown, "blank": {"value": None}}
    return {"name": name, "type": "string", "categories": kept, "feature": feature}, said


def _counted(column: Any) -> dict[str, int]:
    """Return the rows of each text; nothing for a column that holds no texts."""
    if _texts(column) is None:
        return {}
    found: dict[str, int] = {}
    for pair in column.value_counts().to_pylist():
        if pair["values"] is not None and pair["values"].strip():
            text = pair["values"].strip()
            found[text] = found.get(text, 0) + pair["counts"]
    return found


def left_out(content: dict[str, Any]) -> Sequence[str]:
    """Return the names of the columns that the content leaves out."""
    return [field["name"] for field in content["fields"] if field.get("feature", {}).get("leave_out")]
