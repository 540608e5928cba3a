"""Faults of rows that are read in blocks.

Blocks of rows go in: features x (n, d) and labels y (n,). Labels as integers come out, and at the end the number of
classes or an error. Faults are counted over all blocks, so that one error says the same for every size of block; this
has to stay, and so has the agreement with what `Dataset` refuses. The limits FEW and MOST_COUNTED may change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.row_index import RowNumbers
from mpc_appraisal.data.targets import CLASSES, NUMBER, TWO, TwoLabels

FEW = 20  # at most so many different values are taken for classes
MOST_COUNTED = 1000  # different labels are counted up to this number


class Faults:
    """Count values and labels that no data set may hold, and look for row numbers among the named columns.

    Args:
        name: the setting that errors begin with.
        classes: the number of classes; None where the labels show it.
        class_names: the names of the classes, or None.
        columns: the names of the features, or None.
        target: what the labels are, one of `targets.KINDS`.

    Attributes:
        largest: the largest label so far.
    """

    def __init__(
        self,
        name: str,
        classes: int | None,
        class_names: Sequence[str] | None,
        columns: Sequence[str] | None,
        target: str = CLASSES,
    ):
        self._numbers, self._target = RowNumbers(columns, name), target
        self._two = TwoLabels(name)
        classes = {NUMBER: 1, TWO: 2}.get(target, classes)
        self.name, self.classes, self.largest = name, classes, 0
        self._names = class_names
        self._rows = 0
        self._values = 0, 0  # the number of bad values, and the row of the first one
        self._labels: dict[str, list] = {}
        self._different: set[float] = set()

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Count the faults of the next rows, x (n, d) floats and y (n,) numbers, and return the labels as int64.

        A numeric target is returned as float64. A bad label comes out as an arbitrary number; `found` refuses it.
        """
        self._numbers.add(x)
        if not np.isfinite(x).all():
            bad = (~np.isfinite(x)).sum(1)
            first = self._values[1] if self._values[0] else self._rows + int(bad.nonzero()[0][0])
            self._values = self._values[0] + int(bad.sum()), first
        if self._target == NUMBER:
            y = y.astype(np.float64)
            self._count("that are NaN or infinite", ~np.isfinite(y), y)
            self._rows += len(x)
            return y
        if self._target == TWO:
            y = self._two.add(y)
        if y.dtype.kind == "u":  # a cast of a number beyond int64 would wrap round to another label
            y = np.minimum(y.astype(np.uint64), np.iinfo(np.int64).max)
        if y.dtype.kind == "f":  # beyond 2**53 a float cannot hold every integer
            whole = np.isfinite(y) & (np.abs(y) <= 2.0**53) & (y == np.floor(y))
            self._count("that are not integers", ~whole, y)
            if not whole.all() and len(self._different) < MOST_COUNTED:
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
        """Return the number of classes.

        Raises InputError where anything was wrong, or where there were not `rows` rows.
        """
        if rows != self._rows:
            raise InputError(self.name, f"{self._rows} rows", f"{rows}, as the file says in its header")
        expected = f"labels 0 .. {self.classes - 1}" if self.classes else "labels 0, 1, 2, ..., below 2**31 - 1"
        for what, wanted in (("that are not integers", "integer labels"), ("out of range", expected)):
            if what in self._labels:
                count, label, row = self._labels[what]
                found = f"{count} labels {what}, the first is {label} in row {row}"
                if len(self._different) > FEW:
                    found += f"; they look like a number, as of a regression: {rows} rows, {self._counted()}"
                raise InputError(self.name, found, wanted)
        if self._target == NUMBER and self._labels:
            count, _, row = self._labels["that are NaN or infinite"]
            found = f"{count} targets that are NaN or infinite, the first in row {row}"
            raise InputError(self.name, found, "finite numbers only")
        if self._values[0]:
            found = f"{self._values[0]} values of x that are NaN or infinite, the first in row {self._values[1]}"
            raise InputError(self.name, found, "finite numbers only")
        self._numbers.check()
        return self.classes or max(2, self.largest + 1, len(self._names or ()))

    def _counted(self) -> str:
        values = len(self._different)
        return f"{values} values" if values < MOST_COUNTED else f"{MOST_COUNTED} values or more"
