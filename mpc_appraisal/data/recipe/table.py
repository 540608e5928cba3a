"""A raw table read by a recipe: blocks of features and targets, and one error for all that is wrong with the table.

A raw table and a `Recipe` go in; out come blocks (x, y) in the form that `data.files` reads, or an InputError. Faults
are counted over the whole table, by column and kind, with the first rows that show each, so that one error names them
all and says what to do; this has to stay the same for every size of block and for every format. The limits may change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data.dataset import listed, near_misses
from mpc_appraisal.data.recipe.fields import RecipeField
from mpc_appraisal.data.recipe.values import BLANK, RANGE, UNKNOWN, ReadColumn, TypeRefused, read_column

if TYPE_CHECKING:
    from mpc_appraisal.data.recipe.recipe import Recipe

FIRST = 3  # the rows that an error shows of each fault
MOST_LINES = 40  # the faults that one error names
MOST_COMPARED = 100  # the names that are searched for near misses


class RecipeTable:
    """Read a raw table by a recipe.

    Args:
        raw: the table, as `raw.raw_columns` opens it.
        recipe: the recipe.
        name: the setting that errors begin with.

    Attributes:
        rows, features: the numbers of rows and of features.
        columns: the names of the features.
        class_names: the names of the classes; None where the target is a number.
    """

    def __init__(self, raw: Any, recipe: Recipe, name: str):
        self._raw, self._recipe, self._name = raw, recipe, name
        self.rows, self.columns, self.class_names = raw.rows, recipe.columns, recipe.class_names
        self.features = len(self.columns)

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) for `size` rows at a time: x (n, d) float64, y (n,) the numbers of classes, or float64.

        Raises InputError, after the last block, where anything is wrong; a value that is wrong counts as zero till
        then.
        """
        recipe, faults = self._recipe, RecipeFaults(self._raw.where, self._name, self._recipe)
        known = faults.names(self._raw.names)
        used = [field for field in (*recipe.fields, recipe.target) if not field.leave_out]
        wanted = [field.name for field in used if field.name in known]
        for block in self._raw.blocks(size, wanted):
            found = np.zeros((_rows(block), len(used)))
            for k, field in enumerate(used):
                if field.name in block.columns:
                    found[:, k] = faults.column(block, field, field is recipe.target)
            faults.end(block, len(found))
            if len(found):
                y = found[:, -1] if self.class_names is None else found[:, -1].astype(np.int64)
                yield recipe.features(found[:, :-1]), y
        faults.check()


class RecipeFaults:
    """Collect all that is wrong with a table. where: the table. name: the setting that errors begin with."""

    def __init__(self, where: str, name: str, recipe: Recipe):
        self._where, self._name, self._recipe = where, name, recipe
        self._rows = 0  # of the blocks before this one
        self._header: list[str] = []
        self._found: dict[tuple[str, int | str], list[Any]] = {}  # the number of rows, and texts of the first
        self._wrong: list[tuple[int, int]] = []
        self._fields = {field.name: field for field in (*recipe.fields, recipe.target)}

    def names(self, names: Sequence[str]) -> set[str]:
        """Compare the table's columns with the recipe's, and return those that can be read."""
        left_out = {field.name for field in self._recipe.fields if field.leave_out}
        missing = [name for name in self._fields if name not in names and name not in left_out]
        additional = [name for name in dict.fromkeys(names) if name not in self._fields]
        twice = [name for name, times in Counter(names).items() if times > 1]
        near = dict(near_misses(missing[:MOST_COMPARED], additional[:MOST_COMPARED]))
        for name in missing:
            hint = f"; {near[name]!r} is nearly the same: rename it" if name in near else "; add it"
            self._header.append(f"column {_quoted(name)} is missing{hint}")
        if others := [name for name in additional if name not in near.values()]:
            what = "is no column" if len(others) == 1 else "are no columns"
            self._header.append(f"{listed(others)} {what} of the recipe; remove, or state with feature.leave_out: true")
        if twice:
            self._header.append(f"{listed(twice)} stands more than once in the header; give each column its own name")
        return {name for name in self._fields if name in names}

    def column(self, block: Any, field: RecipeField, target: bool) -> np.ndarray:
        """Read one column of a block: numbers, with NaN where a blank is accepted and 0 where a value is wrong."""
        column = block.columns[field.name]
        try:
            if isinstance(column, str):
                raise TypeRefused(f"holds {column}; write numbers, texts, booleans, dates or datetimes")
            read = read_column(column, field)
        except TypeRefused as error:
            self._found.setdefault((field.name, str(error)), [0, []])
            return np.zeros(_rows(block))
        codes = read.faults.copy()
        if target or not field.takes_blanks:
            codes[np.isnan(read.values) & (codes == 0)] = BLANK
        if codes.any():
            self._count(block, field, codes, read)
        return np.where(codes > 0, 0.0, read.values)

    def _count(self, block: Any, field: RecipeField, codes: np.ndarray, read: ReadColumn) -> None:
        for code in np.unique(codes[codes > 0]).tolist():
            rows = np.flatnonzero(codes == code)
            found = self._found.setdefault((field.name, code), [0, []])
            for row in rows[: FIRST - len(found[1])].tolist():
                line = "" if block.lines is None else f" (line {block.lines[row]})"
                text = "" if code == BLANK else f"{shown(repr(read.text(row)), 40)} in "
                found[1].append(f"{text}row {self._rows + row}{line}")
            found[0] += len(rows)

    def end(self, block: Any, rows: int) -> None:
        """Count the rows of a block after its columns were read."""
        self._rows += rows
        self._wrong += block.wrong

    def check(self) -> None:
        """Raise InputError with all faults, where there is any."""
        lines = [*self._header, *self._lengths()]
        order = {name: place for place, name in enumerate(self._fields)}
        kinds = sorted(self._found, key=lambda key: (order[key[0]], isinstance(key[1], str), str(key[1])))
        lines += [self._line(*kind, *self._found[kind]) for kind in kinds]
        if not lines:
            return
        more = f"\n  and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
        count = f"{len(lines)} fault{'s' * (len(lines) > 1)}"
        found = f"{self._where}, in which the recipe {self._recipe.digest[:12]} finds {count}"
        counted = " (rows count from 0)" if self._found else ""
        expected = (
            f"a table without {'these' if len(lines) > 1 else 'it'}{counted}:\n  "
            + "\n  ".join(lines[:MOST_LINES])
            + more
        )
        raise InputError(self._name, found, expected)

    def _lengths(self) -> list[str]:
        if not self._wrong:
            return []
        first = ", ".join(f"line {line} has {fields}" for line, fields in self._wrong[:FIRST])
        each = "a row is" if len(self._wrong) == 1 else f"{len(self._wrong)} rows are"
        todo = f"write one field for each name, separated by {self._recipe.delimiter!r}"
        return [f"{each} longer or shorter than the header ({first}); {todo}"]

    def _line(self, name: str, code: int | str, count: int, first: Sequence[str]) -> str:
        """Return the line on one kind of fault of one column: what, the first rows, and what to do."""
        field, target = self._fields[name], name == self._recipe.target.name
        who = f"{'target' if target else 'column'} {_quoted(name)}"
        if isinstance(code, str):
            return f"{who} {code}"
        what, todo = _words(field, code, target)
        rows = ", ".join(first) + ", ..." * (count > len(first))
        are = "values are" if count > 1 else "value is"
        return f"{who}: {count} {are} {what}: {rows}; {todo}"


def _words(field: RecipeField, code: int, target: bool) -> tuple[str, str]:
    """Return what is wrong, and what to do."""
    plural = {"integer": "no integer", "boolean": "no boolean", "date": "no date", "datetime": "no datetime"}
    if code == BLANK:
        todo = "remove these rows" if target else "fill them, or state feature.blank in the recipe"
        return "blank", todo
    if code == UNKNOWN:
        levels = listed([str(level) for level in field.categories])
        todo = f"write one of {levels}" + ("" if target else ", or state feature.unknown: other or zeros")
        return "outside its categories", todo
    if code == RANGE:
        low, high = ("open" if end is None else f"{end:g}" for end in (field.minimum, field.maximum))
        return f"outside its range {low} to {high}", "correct them, or remove these rows"
    how = {
        "boolean": f"write one of {listed([*field.true_values, *field.false_values])}",
        "date": f"write {field.format or 'YYYY-MM-DD' + ('Thh:mm:ss' * (field.type == 'datetime'))}",
        "number": "write digits" + f" with {field.decimal_char!r} for decimals" * (field.type == "number"),
    }[field.kind]
    return plural.get(field.type, "no number"), how + ", or add the text to missingValues" * (not target)


def _rows(block: Any) -> int:
    if block.lines is not None:
        return len(block.lines)
    return next((len(column) for column in block.columns.values() if not isinstance(column, str)), 0)


def _quoted(name: str) -> str:
    return f"'{shown(name, 60)}'"
