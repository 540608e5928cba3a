"""What is wrong with rows that are read in blocks: counted over all of them, in the same words for every size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.row_index import RowNumbers

FEW = 20  # so many different values may be classes
MOST_TOLD = 1000  # different labels are counted so far


class Faults:
    """Counts values and labels that no data set may hold, and looks for row numbers among the named columns. largest:
    the largest label so far."""

    def __init__(
        self, name: str, classes: int | None, class_names: Sequence[str] | None, columns: Sequence[str] | None
    ):
        self._numbers = RowNumbers(columns, name)
        self.name, self.classes, self.largest = name, classes, 0
        self._names = class_names
        self._rows = 0
        self._values = 0, 0  # how many are bad, and the row of the first
        self._labels: dict[str, list] = {}
        self._different: set[float] = set()

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Count the next rows: x (n, d) floats, y (n,) numbers. Returns the labels as int64; bad ones are any."""
        self._numbers.add(x)
        if not np.isfinite(x).all():
            bad = (~np.isfinite(x)).sum(1)
            first = self._values[1] if self._values[0] else self._rows + int(bad.nonzero()[0][0])
            self._values = self._values[0] + int(bad.sum()), first
        if y.dtype.kind == "u":  # above int64 a cast would wrap round to a negative or a small label
            y = np.minimum(y.astype(np.uint64), np.iinfo(np.int64).max)
        if y.dtype.kind == "f":  # 2**53: beyond it a float no longer tells neighbouring integers apart
            whole = np.isfinite(y) & (np.abs(y) <= 2.0**53) & (y == np.floor(y))
            self._count("that are not integers", ~whole, y)
            if not whole.all() and len(self._different) < MOST_TOLD:
                self._different.update(np.unique(y[np.isfinite(y)]).tolist())
            y = np.where(whole, y, 0)
        labels = y.astype(np.int64)
        self._count("out of range", (labels < 0) | (labels >= (self.classes or 2**31 - 1)), labels)
        self.largest = max(self.largest, int(labels.max(initial=0)))
        self._rows += len(x)
        return labels

    def _count(self, what: str, bad: np.ndarray, labels: np.ndarray) -> None:
        if bad.any():
            first = int(bad.nonzero()[0][0])
            found = self._labels.setdefault(what, [0, labels[first], self._rows + first])
            found[0] += int(bad.sum())

    def found(self, rows: int) -> int:
        """The number of classes. Raises InputError where anything was wrong, or there were not so many rows."""
        if rows != self._rows:
            raise InputError(self.name, f"{self._rows} rows", f"{rows}, as the file says in its header")
        expected = f"labels 0 .. {self.classes - 1}" if self.classes else "labels 0, 1, 2, ..., below 2**31 - 1"
        for what, wanted in (("that are not integers", "integer labels"), ("out of range", expected)):
            if what in self._labels:
                count, label, row = self._labels[what]
                found = f"{count} labels {what}, the first is {label} in row {row}"
                if len(self._different) > FEW:
                    found += f"; they look like a number, as of a regression: {rows} rows, {self._told()}"
                raise InputError(self.name, found, wanted)
        if self._values[0]:
            found = f"{self._values[0]} values of x that are NaN or infinite, the first in row {self._values[1]}"
            raise InputError(self.name, found, "finite numbers only")
        self._numbers.check()
        return self.classes or max(2, self.largest + 1, len(self._names or ()))

    def _told(self) -> str:
        values = len(self._different)
        return f"{values} values" if values < MOST_TOLD else f"{MOST_TOLD} values or more"
