"""One validated record of labelled data.

A data set is (x, y): x of shape (n, d) in float32 or float64, all finite, and y of shape (n,) in int64 with labels
0 .. classes-1. Nothing else gets past `Dataset`, so whatever is shared later has been checked in the owner's process.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpc_appraisal.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled rows. x: (n, d) float32 or float64, finite; y: (n,) int64 with 0 <= y < classes; n, d >= 1.

    Raises InputError, under `name`, for anything else.
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: int
    name: str = "data"

    def __post_init__(self) -> None:
        x, y, name = self.x, self.y, self.name
        if (
            isinstance(self.classes, bool)
            or not isinstance(self.classes, numbers.Integral)
            or (not 2 <= self.classes < 2**31)
        ):
            raise InputError(f"{name}: classes", repr(self.classes), "an integer of 2 or more, below 2**31")
        if x.dtype not in (torch.float32, torch.float64):
            raise InputError(name, f"x of {x.dtype}", "x in torch.float32 or torch.float64")
        if y.dtype != torch.int64:
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
        low, high = torch.aminmax(x)  # NaN if one is
        if not (math.isfinite(low) and math.isfinite(high)):
            bad = (~torch.isfinite(x)).sum(dim=1)
            first = int(bad.nonzero()[0])
            raise InputError(
                name,
                f"{int(bad.sum())} values of x that are NaN or infinite, the first in row {first}",
                "finite numbers only",
            )
        wrong = (y < 0) | (y >= self.classes)
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise InputError(
                name,
                f"{int(wrong.sum())} labels out of range, the first is {int(y[first])} in row {first}",
                f"labels 0 .. {self.classes - 1}",
            )

    @property
    def rows(self) -> int:
        return self.x.shape[0]

    @property
    def features(self) -> int:
        return self.x.shape[1]

    def subset(self, index: torch.Tensor | Sequence[int] | np.ndarray) -> Dataset:
        """The rows at `index` (integers, in that order; shape (m,)) as a new data set of the same name."""
        index = torch.as_tensor(index, dtype=torch.int64)
        return Dataset(self.x[index], self.y[index], self.classes, self.name)

    def one_hot(self) -> torch.Tensor:
        """The labels as (n, classes) float64, a single 1 a row."""
        return torch.nn.functional.one_hot(self.y, self.classes).to(torch.float64)

    def renamed(self, name: str) -> Dataset:
        return Dataset(self.x, self.y, self.classes, name)

    def blocks(self, size: int) -> Iterator[Dataset]:
        """The rows in order, `size` at a time."""
        for start in range(0, self.rows, size):
            end = start + size
            yield Dataset(self.x[start:end], self.y[start:end], self.classes, self.name)

    def with_classes(self, classes: int) -> Dataset:
        """The same rows for a problem of `classes` classes; InputError if a label does not fit."""
        return Dataset(self.x, self.y, classes, self.name)

    @staticmethod
    def of(x: Any, y: Any, classes: int | None = None, name: str = "data") -> Dataset:
        """A data set from anything array-like (numpy, lists, pandas, torch); the values are copied.

        x: (n, d), or images (n, ...) that are flattened to (n, d); float32 stays, all else becomes float64.
        y: (n,) integers, or floats that are whole numbers. classes: max(y) + 1 where None, and at least 2.
        """
        features, labels = real_array(x, f"{name}: x"), real_array(y, f"{name}: y")
        if features.ndim > 2:
            features = features.reshape(len(features), math.prod(features.shape[1:]))
        features = np.array(features, dtype=np.float32 if features.dtype == np.float32 else np.float64, order="C")
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
            classes = max(2, int(labels.max()) + 1) if labels.size else 2
        return Dataset(torch.from_numpy(features), torch.from_numpy(labels), classes, name)


def with_bias(x: torch.Tensor) -> torch.Tensor:
    """(n, d) -> (n, d+1): the constant feature 1 as the last column, whose weight is the bias."""
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def real_array(values: Any, name: str) -> np.ndarray:
    """Array-like -> real numbers (bool, integer or float array); InputError for text, objects and ragged lists."""
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
