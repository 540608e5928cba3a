"""A party's own files: `.npz` (arrays x and y), `.csv` and `.parquet` (a label column by name).

A path goes in. The file is read whole into a `Dataset`, or stays where it is as a `StoredDataset` and is read in
blocks. Both read the same blocks (`arrays`, `tables`) and refuse the same faults in the same words, which has to stay:
the size of a file must not decide what is refused. A new format is a reader with `rows`, `features`, `columns`,
`class_names` and `blocks`, and an entry in FORMATS. No reader may unpickle anything. The sizes of blocks may change.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.arrays import NpzArrays
from mpc_appraisal.data.dataset import Dataset, order_of, real_array
from mpc_appraisal.data.faults import Faults
from mpc_appraisal.data.sizes import Sizes
from mpc_appraisal.data.tables import CsvTable, ParquetTable
from mpc_appraisal.data.targets import CLASSES, NUMBER

if TYPE_CHECKING:
    from mpc_appraisal.data.recipe import Recipe

STORED_BYTES = 1 << 26  # larger files are read in blocks
STORED_BLOCK = 1 << 10  # the number of rows that are read at a time where they are looked at once
FORMATS = {".npz": NpzArrays, ".csv": CsvTable, ".parquet": ParquetTable}


def standardise(
    data: Dataset | StoredDataset, mean: float | Sequence[float], scale: float | Sequence[float]
) -> Dataset | StoredDataset:
    """Return the data with (x - mean) / scale in place of x.

    mean and scale are public, scalars or d numbers each, so that both parties apply the same. Raises InputError for
    another shape, for a number that is not finite, and for a scale of 0.
    """
    if isinstance(data, StoredDataset):
        other = data.changed(partial(standardise, mean=mean, scale=scale))
        next(other.blocks(1))  # reading one row refuses unfit numbers now
        return other
    shift, divisor = real_array(mean, "mean"), real_array(scale, "scale")
    for name, value in (("mean", shift), ("scale", divisor)):
        if value.shape not in ((), (data.features,)):
            raise InputError(name, f"shape {value.shape}", f"one number, or {data.features}: one a feature")
        if not np.isfinite(value).all() or (name == "scale" and (value == 0).any()):
            raise InputError(name, value.tolist(), "finite numbers" + (" other than 0" if name == "scale" else ""))
    x = (data.x - torch.tensor(shift, dtype=data.x.dtype)) / torch.tensor(divisor, dtype=data.x.dtype)
    return replace(data, x=x)


def read_dataset(
    path: str | os.PathLike[str],
    label: str | None = "label",
    classes: int | None = None,
    name: str = "party.data",
    sizes: Sizes | None = None,
    recipe: Recipe | None = None,
    target: str = CLASSES,
) -> Dataset:
    """Read a party's file in float64: `.npz` (arrays x, y), `.csv` or `.parquet` (a label column; the rest features).

    Args:
        path: the file.
        label: the name of the label column; where YAML took it for a number, its text counts. None means that the file
            has no labels: each column is a feature, and of a .npz file x alone is read.
        classes: the number of classes; None where the labels or the names of classes show it.
        name: the configuration key that errors name.
        sizes: the rows and features that the file must have, where they are known; they are compared before the file is
            unpacked.
        recipe: what makes features of a raw table, whose columns it states; `label` is not used then.
        target: what the label column holds, one of `targets.KINDS`. The model of the run states it.

    Raises InputError for a file that cannot be read or holds no `Dataset`.
    """
    path = Path(path)
    if recipe is not None:
        recipe.check_target(target, name)
    file = _open(path, label, name, sizes, recipe, target)
    with readable(path, name):
        x = np.empty((file.rows, file.features))
        y = np.empty(file.rows, np.float64 if target == NUMBER else np.int64)
        faults, start = Faults(name, classes, file.class_names, file.columns, target), 0
        for rows, labels in file.blocks(STORED_BLOCK):
            end = start + len(rows)
            x[start:end] = rows
            y[start:end] = faults.add(x[start:end], labels)
            start = end
        classes = faults.found(file.rows)
        labelled = label is not None or recipe is not None
        both = torch.from_numpy(x), torch.from_numpy(y)
        return Dataset(*both, classes, name, file.columns, file.class_names, labelled)


def transformed(
    data: Dataset | StoredDataset,
    rows: Callable[..., torch.Tensor],
    classes: int,
    targets: Callable[[torch.Tensor], torch.Tensor] | None = None,
    by_group: bool = False,
) -> Dataset | StoredDataset:
    """Return the same data with the function `rows`, (n, d) -> (n, d), applied to x block by block.

    classes: labels of `classes` or more become the last class.
    targets: a function (n,) -> (n,) that is applied to a numeric target; None leaves it as it is.
    by_group: whether `rows` is given the rows' groups, (n,), as a second argument.
    """
    names = data.class_names and data.class_names[:classes]
    if isinstance(data, StoredDataset):
        facts = {"classes": classes, "class_names": names, "_largest": min(data._largest, classes - 1)}
        step = partial(transformed, rows=rows, classes=classes, targets=targets, by_group=by_group)
        return data.changed(step, **facts)
    x = rows(data.x, data.groups) if by_group else rows(data.x)
    if data.numeric:
        return replace(data, x=x, y=targets(data.y) if targets else data.y)
    return replace(data, x=x, y=data.y.clamp_max(classes - 1), classes=classes, class_names=names)


class StoredDataset:
    """Hold a data set that stays in its file and is read in blocks.

    The file is a .npz with a plain x of two dimensions, a .parquet, or any that a recipe reads. Like a `Dataset`, this
    has rows, features, classes, name, columns, class_names, `renamed`, `with_classes`, `arranged` and `blocks`; it has
    no x. When it is made, the file is read once, and every fault that a `Dataset` refuses is refused. The arguments are
    those of `read_dataset`.
    """

    def __init__(
        self,
        path: Path,
        label: str | None,
        classes: int | None,
        name: str,
        sizes: Sizes | None = None,
        recipe: Recipe | None = None,
        target: str = CLASSES,
    ):
        if recipe is not None:
            recipe.check_target(target, name)
        self._path, self._key, self._target = path, name, target
        self._steps: tuple[Callable[[Dataset], Dataset], ...] = ()
        self.groups: torch.Tensor | None = None
        self._file = file = _open(path, label, name, sizes, recipe, target)
        self.labelled = label is not None or recipe is not None
        self.name, self.rows, self.features = name, file.rows, file.features
        self.columns, self.class_names = file.columns, file.class_names
        faults = Faults(name, classes, file.class_names, file.columns, target)
        for x, y in self._read(STORED_BLOCK):
            faults.add(x.astype(_narrow(x.dtype), copy=False), y)
            del x, y  # the next rows are read in their memory
        self._classes = self.classes = faults.found(file.rows)
        self._largest = faults.largest

    @property
    def numeric(self) -> bool:
        """Whether the target holds numbers to predict, and no labels."""
        return self._target == NUMBER

    def grouped(self, groups: torch.Tensor) -> StoredDataset:
        """Return the same as `Dataset.grouped`. Each block is given the groups of its rows as it is read."""
        if groups.dtype != torch.int64 or groups.shape != (self.rows,) or (groups < 0).any():
            found = f"groups of {groups.dtype} of shape {tuple(groups.shape)}"
            raise InputError(self.name, found, f"groups in torch.int64 of shape ({self.rows},), each 0 or more")
        other = copy.copy(self)
        other.groups = torch.unique(groups, return_inverse=True)[1]
        return other

    def renamed(self, name: str) -> StoredDataset:
        """Return the same data set under another name, which errors then begin with."""
        other = copy.copy(self)
        other.name = name
        return other

    def with_classes(self, classes: int) -> StoredDataset:
        """Return the same data set for a problem of `classes` classes. Raises InputError if a label does not fit."""
        if self.numeric and classes != 1:
            raise InputError(self.name, "a numeric target", f"labels 0 .. {classes - 1}")
        if classes <= self._largest and not self.numeric:
            raise InputError(self.name, f"a label {self._largest}", f"labels 0 .. {classes - 1}")
        other = copy.copy(self)
        other.classes, other.class_names = classes, self.class_names and self.class_names[:classes]
        return other

    def arranged(self, columns: Sequence[str]) -> StoredDataset:
        """Return the same as `Dataset.arranged`. Each block is arranged as it is read."""
        order_of(self.columns, columns, self.name)
        return self.changed(lambda block: block.arranged(columns), columns=tuple(columns))

    def changed(self, step: Callable[[Dataset], Dataset], **facts: Any) -> StoredDataset:
        """Return the same data set with `step` applied to each block as it is read, after all earlier steps.

        facts: the features, classes, columns and class_names that the step changes.
        """
        other = copy.copy(self)
        other._steps = (*self._steps, step)
        for key, value in facts.items():
            setattr(other, key, value)
        return other

    def blocks(self, size: int) -> Iterator[Dataset]:
        """Yield the rows in order, `size` at a time, in float32 where the file holds no more than that."""
        # map keeps no block, so that a caller may have one in memory
        return map(self._block, self._read(size), count(0, size))

    def _block(self, arrays: tuple[np.ndarray, np.ndarray], start: int) -> Dataset:
        x, y = arrays
        groups = None if self.groups is None else self.groups[start : start + len(y)]
        values = torch.from_numpy(np.require(x, _narrow(x.dtype), ["C", "W"]))
        names = self._file.columns, self._file.class_names
        labels = torch.from_numpy(self._labels(y))
        block = Dataset(values, labels, self._classes, self._key, *names, self.labelled, groups)
        for step in self._steps:
            block = step(block)
        return block if block.classes == self.classes else block.with_classes(self.classes)

    def _labels(self, y: np.ndarray) -> np.ndarray:
        if self._target == CLASSES:
            return y.astype(np.int64)
        return y.astype(np.float64) if self.numeric else (y.astype(np.float64) == 1).astype(np.int64)

    def _read(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with readable(self._path, self._key):
            yield from self._file.blocks(size)


def open_dataset(
    path: str | os.PathLike[str],
    label: str | None = "label",
    classes: int | None = None,
    name: str = "party.data",
    sizes: Sizes | None = None,
    recipe: Recipe | None = None,
    target: str = CLASSES,
) -> Dataset | StoredDataset:
    """Do the same as `read_dataset`, except that a .npz or .parquet file of more than 64 MiB stays where it is.

    With a recipe a .csv file of that size stays where it is too.
    """
    path = Path(path)
    formats = (".npz", ".parquet") if recipe is None else tuple(FORMATS)
    if path.is_file() and path.suffix.lower() in formats and path.stat().st_size > STORED_BYTES:
        return StoredDataset(path, label, classes, name, sizes, recipe, target)
    return read_dataset(path, label, classes, name, sizes, recipe, target)


def read_blocks(path: str | os.PathLike[str], recipe: Recipe, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features (n, d) and targets (n,) that a recipe makes of a file, block by block."""
    path = Path(path)
    file = _open(path, "", name, None, recipe, CLASSES)
    with readable(path, name):
        yield from file.blocks(STORED_BLOCK)


def check_path(path: Path, name: str) -> str:
    """Return the suffix of a data file, in lower case. Raises InputError, under `name`, for any other path."""
    suffix = path.suffix.lower()
    if path.is_dir():
        raise InputError(name, f"{path}, a folder", "an existing file (of a folder, name the files)")
    if suffix not in FORMATS:
        raise InputError(name, f"{path} (suffix {path.suffix!r})", "a file ending in .npz, .csv or .parquet")
    if not path.is_file():
        raise InputError(name, str(path), "an existing file")
    return suffix


def _open(path: Path, label: str | None, name: str, sizes: Sizes | None, recipe: Recipe | None, target: str) -> Any:
    """Open the file, and read and check its header."""
    suffix, label = check_path(path, name), label if label is None else str(label)
    with readable(path, name):
        file = recipe.table(path, name, sizes) if recipe else FORMATS[suffix](path, label, name, sizes, target)
    if file.rows < 1:
        raise InputError(name, f"{path} with no rows", "one row or more")
    if file.features < 1:
        raise InputError(name, f"{path} with no features", "one feature or more")
    return file


@contextmanager
def readable(path: Path, name: str) -> Iterator[None]:
    """Turn every error of a reader into one InputError.

    The four foreign parsers have exceptions of their own, among them MemoryError for a damaged size. All of them mean
    that the file is not readable.
    """
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except Exception as error:
        found = f"{path} ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        raise InputError(name, found, f"a readable {path.suffix.lower()} file with rows") from error


def _narrow(dtype: np.dtype) -> type:
    """Return float32 where it holds every number of the type, and float64 otherwise."""
    narrow = dtype.kind in "biu" and dtype.itemsize < 4 or dtype.kind == "f" and dtype.itemsize <= 4
    return np.float32 if narrow else np.float64
