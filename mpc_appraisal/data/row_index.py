"""Columns that number the rows: the index of a table, which a program wrote beside the features.

A model would learn from such a column in what order somebody stored the rows. Names of columns and blocks of rows go
in; nothing or an InputError comes out. Some names are made up for an index alone and are refused at once. Others, such
as `index`, are also names of features; such a column is refused only where its values are the numbers of its rows,
0 .. n-1 or 1 .. n in order. Names may be added to the two patterns. A column whose name is not among them has to pass,
whatever its values are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from mpc_appraisal.common.errors import InputError

# The names that pandas gives an index without a name in CSV and in Parquet, and that dask gives it.
MADE_UP = re.compile(r"unnamed: \d+(_level_\d+)?(\.\d+)?|__index_level_\d+__|__null_dask_index__", re.IGNORECASE)
# The names that reset_index of pandas, with_row_index and with_row_count of polars, and R's tibbles and readr write.
POSSIBLE = re.compile(r"index|level_\d+|row_nr|row_?names?|\.\.\.\d+", re.IGNORECASE)
FIRST = (0, 1)  # the numbers that an index of rows begins with
EXPECTED = "the features and the label alone: leave the row index out (in pandas, write with index=False, or drop "


def refuse(columns: Sequence[str], looks: str, name: str) -> None:
    """Raise InputError, under `name`, for `columns` that are a row index. looks: what shows it, in words."""
    word = "columns" if len(columns) > 1 else "a column"
    each = ", ".join(map(repr, columns[:10])) + ", ..." * (len(columns) > 10)
    raise InputError(name, f"{word} {each}, {looks}", f"{EXPECTED}{'them' if len(columns) > 1 else 'it'})")


def refuse_names(columns: Sequence[str] | None, name: str) -> None:
    """Raise InputError, under `name`, for names that a table program makes up for a row index."""
    if found := [column for column in columns or () if MADE_UP.fullmatch(column.strip())]:
        refuse(found, "which is how a table program names a row index that it wrote as a column", name)


class RowNumbers:
    """Look, block by block, for columns that hold the numbers of their rows.

    columns: the names of the features, or None. name: the setting that errors begin with.
    """

    def __init__(self, columns: Sequence[str] | None, name: str):
        self._columns, self._name, self._rows = columns, name, 0
        places = [k for k, column in enumerate(columns or ()) if POSSIBLE.fullmatch(column.strip())]
        self._left = [(k, first) for k in places for first in FIRST]

    def add(self, x: np.ndarray) -> None:
        """Look at the next rows, (n, d)."""
        held = x.dtype if x.dtype.kind == "f" else np.int64  # large numbers are rounded as they are in the file
        start, end, width = self._rows, self._rows + len(x), x.shape[1]
        self._left = [
            (k, first)
            for k, first in self._left
            if k < width and np.array_equal(x[:, k], np.arange(start + first, end + first).astype(held))
        ]
        self._rows += len(x)

    def check(self) -> None:
        """Raise InputError for a column that held row numbers in all rows so far."""
        for k, first in self._left if self._rows else ():
            numbers = ", ".join(str(first + row) for row in range(min(self._rows, 3))) + ", ..." * (self._rows > 3)
            refuse([self._columns[k]], f"which numbers the rows: {numbers}", self._name)
