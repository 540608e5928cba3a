"""One validated record of labelled data.

A data set is (x, y): x of shape (n, d) in float32 or float64, all finite, and y of shape (n,), either in int64 with
labels 0 .. classes-1, or in float64 with numbers to predict. n is the number of rows and d that of features. Arrays
go in, and a `Dataset` or an error by its name comes out. `Dataset` refuses everything else, so that data are checked in
the owner's process before they are shared. Further checks and methods may be added; what a `Dataset` promises has to
stay, because no later step looks again.
"""

from __future__ import annotations

import copy
import difflib
import math
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.targets import CLASSES, NUMBER, TWO, as_two, check_target_kind


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold labelled rows.

    Attributes:
        x: the features, (n, d) float32 or float64, finite, with n, d >= 1.
        y: the labels, (n,) int64 with 0 <= y < classes; or a numeric target, (n,) float64, finite.
        classes: the number of classes; 1 for a numeric target, which is one output that is a number.
        name: the name of the data set, which errors begin with.
        columns: the names of the d features in order, all different; None where they have no names.
        class_names: the names of labels 0, 1, ..., all different, one for each label; None where there are none.
        labelled: whether y was given. Rows without labels have zeros there, which no method may read.
        groups: a number for each row, (n,) int64, 0 or more: rows of one person have the same number. It is no feature,
            is never shared, and only clipping reads it; see `groups`. None where rows are of no stated persons.

    Raises InputError, under `name`, for anything else.
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: int
    name: str = "data"
    columns: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    labelled: bool = True
    groups: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self._check_classes()
        self._check_rows()
        self._check_labels()
        self._check_names()

    @property
    def numeric(self) -> bool:
        """Whether y holds numbers to predict, and no labels."""
        return self.classes == 1 and self.y.dtype == torch.float64

    def _check_classes(self) -> None:
        if self.numeric:
            return
        expected = "an integer of 2 or more, below 2**31"
        integer(f"{self.name}: classes", self.classes, 2, 2**31 - 1, expected, kind=numbers.Integral)

    def _check_rows(self) -> None:
        x, y, name = self.x, self.y, self.name
        if x.dtype not in (torch.float32, torch.float64):
            raise InputError(name, f"x of {x.dtype}", "x in torch.float32 or torch.float64")
        if y.dtype != torch.int64 and not self.numeric:
            raise InputError(name, f"y of {y.dtype}", "y in torch.int64")
        if x.ndim != 2:
            raise InputError(name, f"x of shape {tuple(x.shape)}", "x with two dimensions, (rows, features)")
        if y.ndim != 1:
            raise InputError(name, f"y of shape {tuple(y.shape)}", "y with one dimension, one label a row")
        if len(x) != len(y):
            raise InputError(name, f"{len(x)} rows of x and {len(y)} of y", "as many labels as rows")
        if len(x) == 0:
            raise InputError(name, "no rows", "one row or more")
        if x.shape[1] == 0:
            raise InputError(name, "no features", "one feature or more")
        groups = self.groups
        if groups is not None and (groups.dtype != torch.int64 or groups.shape != y.shape or (groups < 0).any()):
            found = f"groups of {groups.dtype} of shape {tuple(groups.shape)}"
            raise InputError(name, found, f"groups in torch.int64 of shape ({len(y)},), each 0 or more")
        low, high = torch.aminmax(x)  # NaN if one is
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = (~torch.isfinite(x)).sum(dim=1)
            first = int(bad.nonzero()[0])
            raise InputError(
                name,
                f"{int(bad.sum())} values of x that are NaN or infinite, the first in row {first}{self._column(first)}",
                "finite numbers only",
            )

    def _column(self, row: int) -> str:
        """Return the name of the column of the first number of a row that is not finite, in words; '' without names."""
        column = int((~torch.isfinite(self.x[row])).nonzero()[0])
        named = isinstance(self.columns, tuple) and column < len(self.columns)
        return f" and column {self.columns[column]!r}" if named else ""

    def _check_labels(self) -> None:
        if self.numeric:
            bad = ~torch.isfinite(self.y)
            if bad.any():
                found = f"{int(bad.sum())} targets that are NaN or infinite, the first in row {int(bad.nonzero()[0])}"
                raise InputError(self.name, found, "finite numbers only")
            return
        wrong = (self.y < 0) | (self.y >= self.classes)
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise InputError(
                self.name,
                f"{int(wrong.sum())} labels out of range, the first is {int(self.y[first])} in row {first}",
                f"labels 0 .. {self.classes - 1}",
            )

    def _check_names(self) -> None:
        for key, names in (("columns", self.columns), ("class names", self.class_names)):
            fits = names is None or isinstance(names, tuple) and all(isinstance(n, str) and n.strip() for n in names)
            if not fits or names is not None and len(set(names)) < len(names):
                raise InputError(f"{self.name}: {key}", listed(names), "a tuple of different, non-empty names, or None")
        if self.columns is not None and len(self.columns) != self.features:
            raise InputError(f"{self.name}: columns", f"{len(self.columns)} names", f"{self.features}, one a feature")
        if self.class_names is not None and self.numeric:
            raise InputError(f"{self.name}: class names", listed(self.class_names), "none, for a numeric target")
        if self.class_names is not None and len(self.class_names) < self.classes:
            largest = int(self.y.max())
            if largest >= len(self.class_names):
                expected = f"labels 0 .. {len(self.class_names) - 1}, as there are {len(self.class_names)} class names"
                raise InputError(self.name, f"a label {largest} without a name", expected)

    @property
    def rows(self) -> int:
        """The number n of rows."""
        return self.x.shape[0]

    @property
    def features(self) -> int:
        """The number d of features, without a constant feature."""
        return self.x.shape[1]

    def subset(self, index: torch.Tensor | Sequence[int] | np.ndarray) -> Dataset:
        """Return the rows at `index` (integers, in that order; shape (m,)) as a new data set of the same name."""
        index = torch.as_tensor(index, dtype=torch.int64)
        groups = None if self.groups is None else self.groups[index]
        return replace(self, x=self.x[index], y=self.y[index], groups=groups)

    def one_hot(self) -> torch.Tensor:
        """Return the labels as (n, classes) float64, with a single 1 in each row."""
        return torch.nn.functional.one_hot(self.y, self.classes).to(torch.float64)

    def targets(self, outputs: int | None = None) -> torch.Tensor:
        """Return what a model of so many outputs is fitted to, (n, outputs) float64.

        These are the labels as `one_hot`, the numbers of a numeric target in one column, or, where a model of two
        classes has one output, the labels 0 and 1 in one column. None takes `classes` outputs.
        """
        if self.numeric or (outputs == 1 and self.classes == 2):
            return self.y.to(torch.float64).reshape(-1, 1)
        return self.one_hot()

    def _of_checked(self, **changes: Any) -> Dataset:
        """Return this data set with other fields, unchecked: rows that were checked once stay good."""
        other = copy.copy(self)  # which does not call __post_init__
        for key, value in changes.items():
            object.__setattr__(other, key, value)
        return other

    def grouped(self, groups: torch.Tensor) -> Dataset:
        """Return the same rows with a number for each, (n,) int64, that says which person a row is of (see `groups`).

        Any numbers of 0 or more will do, as customers have them; what is kept counts persons from 0. Raises InputError
        for another shape or type.
        """
        return replace(replace(self, groups=groups), groups=torch.unique(groups, return_inverse=True)[1])

    def renamed(self, name: str) -> Dataset:
        """Return the same rows under another name, which errors then begin with."""
        return self._of_checked(name=name)

    def blocks(self, size: int) -> Iterator[Dataset]:
        """Yield the rows in order, `size` at a time."""
        for start in range(0, self.rows, size):
            end = start + size
            groups = None if self.groups is None else self.groups[start:end]
            yield self._of_checked(x=self.x[start:end], y=self.y[start:end], groups=groups)

    def with_classes(self, classes: int) -> Dataset:
        """Return the same rows for a problem of `classes` classes. Raises InputError if a label does not fit."""
        if self.numeric and classes != 1:
            raise InputError(self.name, "a numeric target", f"labels 0 .. {classes - 1}")
        if self.numeric:
            return self
        other = self._of_checked(classes=classes, class_names=self.class_names and self.class_names[:classes])
        other._check_classes()
        other._check_labels()
        other._check_names()
        return other

    def arranged(self, columns: Sequence[str]) -> Dataset:
        """Return the same rows with the features in the order of `columns`, which are found by name.

        Raises InputError, which lists the difference, where the names differ or this data set has none.
        """
        order = order_of(self.columns, columns, self.name)
        if columns == self.columns:
            return self
        return self._of_checked(x=self.x[:, order], columns=tuple(columns))

    @staticmethod
    def of(
        x: Any,
        y: Any,
        classes: int | None = None,
        name: str = "data",
        columns: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        target: str = CLASSES,
    ) -> Dataset:
        """Return a data set of anything array-like (numpy, lists, pandas, torch). The values are copied.

        Args:
            x: the features, (n, d), or images (n, ...) that are flattened to (n, d). float32 is kept, and every other
                type becomes float64.
            y: the labels, (n,) integers, or floats that are whole numbers; None for rows without labels.
            classes: the number of classes; None for max(y) + 1 or the number of class names, whichever is more, and at
                least 2.
            name, columns, class_names: as in `Dataset`.
            target: what y holds, which is never guessed: 'classes'; 'number' for numbers to predict; or 'two' for two
                classes, which may also be written -1 and +1, false and true, or no and yes.

        Raises InputError, under `name` or a name that begins so, where the values are no such data.
        """
        check_target_kind(target, f"{name}: target")
        if y is None:
            zeros = np.zeros(len(real_array(x, f"{name}: x")), np.int64)
            return replace(Dataset.of(x, zeros, classes, name, columns, class_names, target), labelled=False)
        if target == TWO:
            y, classes = as_two(y, name), 2
        features, labels = real_array(x, f"{name}: x"), real_array(y, f"{name}: y")
        if features.ndim > 2:
            features = features.reshape(len(features), math.prod(features.shape[1:]))
        features = np.array(features, dtype=np.float32 if features.dtype == np.float32 else np.float64, order="C")
        names = [None if named is None else tuple(named) for named in (columns, class_names)]
        if target == NUMBER:
            numbers = np.array(labels, dtype=np.float64)
            return Dataset(torch.from_numpy(features), torch.from_numpy(numbers), 1, name, *names)
        # 2**53: beyond it a float no longer tells neighbouring integers apart
        whole = (
            np.ones(labels.shape, bool)
            if labels.dtype.kind in "biu"
            else (np.isfinite(labels) & (np.abs(labels) <= 2.0**53) & (labels == np.floor(labels)))
        )
        if not whole.all():
            first = tuple(np.argwhere(~whole)[0])
            raise InputError(
                name,
                f"{int((~whole).sum())} labels that are not integers, the first is {labels[first]} "
                f"in row {first[0] if first else 0}",
                "integer labels",
            )
        if labels.dtype.kind == "u":  # above int64 a cast would wrap round to a negative or a small label
            labels = np.minimum(labels.astype(np.uint64), np.iinfo(np.int64).max)
        labels = labels.astype(np.int64)
        if classes is None:
            classes = max(2, int(labels.max()) + 1 if labels.size else 2, len(class_names or ()))
        return Dataset(torch.from_numpy(features), torch.from_numpy(labels), classes, name, *names)


def order_of(columns: Sequence[str] | None, expected: Sequence[str], name: str) -> list[int]:
    """Return the places of the `expected` names among `columns`.

    Raises InputError, under `name`, with the names that are missing and those that are additional; the error says where
    a missing name may only be written differently.
    """
    if columns is None:
        raise InputError(name, "features without names", f"columns {listed(expected)}")
    missing = [column for column in expected if column not in columns]
    additional = [column for column in columns if column not in expected]
    if missing or additional or len(expected) != len(columns):
        near = [f"{found!r} for {column!r}" for column, found in near_misses(missing, additional)]
        parts = [f"without {listed(missing)}"] if missing else []
        parts += [f"with {listed(additional)} in addition"] if additional else []
        parts += [f"perhaps {listed(near, quoted=False)}"] if near else []
        raise InputError(name, f"columns {', '.join(parts)}", f"columns {listed(expected)}, in any order")
    place = {column: k for k, column in enumerate(columns)}
    return [place[column] for column in expected]


def near_misses(missing: Sequence[str], additional: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of a missing name and an additional one that may only be the same name written differently."""
    folded = {column.casefold(): column for column in additional}
    return [
        (column, folded[found])
        for column in missing
        for found in difflib.get_close_matches(column.casefold(), folded, n=1)
    ]


def listed(names: Any, most: int = 20, quoted: bool = True) -> str:
    """Return the first `most` names as one text, and how many more there are."""
    if not isinstance(names, (list, tuple)):
        return repr(names)
    shown = ", ".join(repr(name) if quoted else str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"


def with_bias(x: torch.Tensor) -> torch.Tensor:
    """Return x, (n, d), with the constant feature 1 as a last column, (n, d+1); its weight is the bias."""
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def real_array(values: Any, name: str) -> np.ndarray:
    """Return an array of booleans, integers or floats. Raises InputError for text, objects and ragged lists."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.to(torch.float64) if values.is_floating_point() and values.dtype != torch.float32 else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(name, f"a ragged array ({error})", "rows of equal length") from error
    if array.dtype == object and all(isinstance(v, numbers.Real) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise InputError(name, f"an array of {array.dtype}", "real numbers only")
    return array
