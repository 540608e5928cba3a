"""A party's own files: `.npz` (arrays x and y), `.csv` and `.parquet` (a label column by name).

A file is read whole into a `Dataset`, or stays where it is as a `StoredDataset` and is read in blocks. No reader
unpickles anything.
"""

from __future__ import annotations

import copy
import csv
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpc_appraisal.data.dataset import Dataset, order_of, real_array
from mpc_appraisal.errors import InputError

STORED_BYTES = 1 << 26  # larger files are read in blocks
STORED_BLOCK = 1 << 14


def standardise(
    data: Dataset | StoredDataset, mean: float | Sequence[float], scale: float | Sequence[float]
) -> Dataset | StoredDataset:
    """(x - mean) / scale with public numbers, so that both sides can apply the same. Scalars or d numbers each."""
    if isinstance(data, StoredDataset):
        other = data.changed(partial(standardise, mean=mean, scale=scale))
        next(other.blocks(1))  # refuses unfit numbers now
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
    path: str | os.PathLike[str], label: str = "label", classes: int | None = None, name: str = "party.data"
) -> Dataset:
    """Reads a party's file in float64: `.npz` (arrays x, y), `.csv` or `.parquet` (column `label`, the rest features).

    `name` is the config key that errors name. Raises InputError for what cannot be read or is not a `Dataset`.
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".csv": _read_table, ".parquet": _read_table}
    if path.suffix.lower() not in readers:
        raise InputError(name, f"{path} (suffix {path.suffix!r})", "a file ending in .npz, .csv or .parquet")
    if not path.is_file():
        raise InputError(name, str(path), "an existing file")
    try:
        x, y, *names = readers[path.suffix.lower()](path, label, name)
    except InputError:
        raise
    except Exception as error:  # three foreign parsers, each with exceptions of its own: all mean "not readable"
        raise InputError(
            name, f"{path} ({type(error).__name__}: {error})", f"a readable {path.suffix.lower()} file with rows"
        ) from error
    return Dataset.of(real_array(x, f"{name}: x").astype(np.float64), y, classes, name, *names)


def transformed(
    data: Dataset | StoredDataset, rows: Callable[[torch.Tensor], torch.Tensor], classes: int
) -> Dataset | StoredDataset:
    """The same data with `rows` applied to x, (n, d) -> (n, d), block by block; labels of `classes` or more become the
    last of them."""
    names = data.class_names and data.class_names[:classes]
    if isinstance(data, StoredDataset):
        facts = {"classes": classes, "class_names": names, "_largest": min(data._largest, classes - 1)}
        return data.changed(partial(transformed, rows=rows, classes=classes), **facts)
    return replace(data, x=rows(data.x), y=data.y.clamp_max(classes - 1), classes=classes, class_names=names)


class StoredDataset:
    """A data set that stays in its file (.npz with a plain x of two dimensions, or .parquet) and is read in blocks.

    Like a `Dataset` it has rows, features, classes, name, columns, class_names, `renamed`, `with_classes`, `arranged`
    and `blocks`; it has no x. Making it reads the file once and refuses what a `Dataset` refuses.
    """

    def __init__(self, path: Path, label: str, classes: int | None, name: str):
        self._path, self._label, self._key = path, label, name
        self._steps: tuple[Callable[[Dataset], Dataset], ...] = ()
        self.name, self.rows, self.features, self._largest = name, 0, 0, 0
        self._names = self.columns, self.class_names = _stored_names(path, label, name)
        self._classes = self.classes = classes or 2**31 - 1
        for block in self.blocks(STORED_BLOCK):
            self.rows, self.features = self.rows + block.rows, block.features
            self._largest = max(self._largest, int(block.y.max()))
        if not self.rows:
            raise InputError(name, f"{path} with no rows", "one row or more")
        self._classes = self.classes = classes or max(2, self._largest + 1, len(self.class_names or ()))

    def renamed(self, name: str) -> StoredDataset:
        other = copy.copy(self)
        other.name = name
        return other

    def with_classes(self, classes: int) -> StoredDataset:
        if classes <= self._largest:
            raise InputError(self.name, f"a label {self._largest}", f"labels 0 .. {classes - 1}")
        other = copy.copy(self)
        other.classes, other.class_names = classes, self.class_names and self.class_names[:classes]
        return other

    def arranged(self, columns: Sequence[str]) -> StoredDataset:
        """As `Dataset.arranged`; each block is arranged as it is read."""
        order_of(self.columns, columns, self.name)
        return self.changed(lambda block: block.arranged(columns), columns=tuple(columns))

    def changed(self, step: Callable[[Dataset], Dataset], **facts: Any) -> StoredDataset:
        """The same with `step` applied to each block as it is read, after all earlier steps; facts: what it changes of
        features, classes, columns and class_names."""
        other = copy.copy(self)
        other._steps = (*self._steps, step)
        for key, value in facts.items():
            setattr(other, key, value)
        return other

    def blocks(self, size: int) -> Iterator[Dataset]:
        """The rows in order, `size` at a time, in float32 where the file holds no more than that."""
        parts = _stored_npz if self._path.suffix.lower() == ".npz" else _stored_parquet
        for x, y in parts(self._path, self._label, self._key, size):
            narrow = x.dtype.kind in "biu" and x.dtype.itemsize < 4 or x.dtype == np.float32
            x = x.astype(np.float32 if narrow else np.float64)
            block = Dataset.of(x, y, self._classes, self._key, *self._names)
            for step in self._steps:
                block = step(block)
            yield block if block.classes == self.classes else block.with_classes(self.classes)


def open_dataset(
    path: str | os.PathLike[str], label: str = "label", classes: int | None = None, name: str = "party.data"
) -> Dataset | StoredDataset:
    """`read_dataset`, but a .npz or .parquet file of more than 64 MiB is left where it is."""
    path = Path(path)
    if path.is_file() and path.suffix.lower() in (".npz", ".parquet") and path.stat().st_size > STORED_BYTES:
        return StoredDataset(path, label, classes, name)
    return read_dataset(path, label, classes, name)


def _stored_npz(path: Path, label: str, name: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if not zipfile.is_zipfile(path):
        raise InputError(name, f"{path} (not a zip archive)", "a readable .npz file")
    with zipfile.ZipFile(path) as archive:
        if not {"x.npy", "y.npy"} <= set(archive.namelist()):
            raise InputError(name, f"{path} with {archive.namelist()}", "arrays named x and y")
        with archive.open("y.npy") as file:
            y = np.lib.format.read_array(file, allow_pickle=False)
        with archive.open("x.npy") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if len(shape) != 2 or fortran or dtype.kind not in "biuf":
                raise InputError(
                    name,
                    f"{path} with x of shape {shape}, {dtype}, {'by columns' if fortran else 'by rows'}",
                    "x with two dimensions, real numbers, stored by rows",
                )
            if len(y) != shape[0]:
                raise InputError(name, f"{shape[0]} rows of x and {len(y)} of y", "as many labels as rows")
            for start in range(0, shape[0], size):
                rows = min(size, shape[0] - start)
                raw = file.read(rows * shape[1] * dtype.itemsize)
                if len(raw) < rows * shape[1] * dtype.itemsize:
                    raise InputError(name, f"{path} cut off at row {start}", f"{shape[0]} rows")
                yield np.frombuffer(raw, dtype).reshape(rows, shape[1]), y[start : start + rows]


def _stored_parquet(path: Path, label: str, name: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        if columns.count(label) != 1:
            raise InputError(
                name,
                f"{columns.count(label)} columns {label!r} among {', '.join(columns[:20])}",
                f"one label column named {label!r}",
            )
        for batch in file.iter_batches(batch_size=size):
            table = batch.to_pandas()
            yield table.drop(columns=label).to_numpy(dtype=np.float64, na_value=np.nan), table[label].to_numpy()


def _names_of(archive: Any, files: Sequence[str], path: Path, name: str) -> list[tuple[str, ...] | None]:
    """The optional arrays `columns` and `class_names` of a .npz file: texts of one dimension."""
    found: list[tuple[str, ...] | None] = []
    for key in ("columns", "class_names"):
        names = archive[key] if key in files else None
        if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
            raise InputError(
                name,
                f"{path} with {key} of shape {names.shape}, {names.dtype}",
                f"{key} of one dimension, texts (numpy's str)",
            )
        found.append(None if names is None else tuple(names.tolist()))
    return found


def _stored_names(path: Path, label: str, name: str) -> list[tuple[str, ...] | None]:
    """The names of the features in order, and those of the labels; None where the file has none."""
    if path.suffix.lower() == ".npz":
        if not zipfile.is_zipfile(path):
            raise InputError(name, f"{path} (not a zip archive)", "a readable .npz file")
        with np.load(path, allow_pickle=False) as archive:
            return _names_of(archive, archive.files, path, name)
    from pyarrow import parquet

    columns = parquet.read_schema(path).names
    return [tuple(column for column in columns if column != label), None]


def _read_npz(path: Path, label: str, name: str) -> tuple[Any, ...]:
    if not zipfile.is_zipfile(path):
        raise InputError(name, f"{path} (not a zip archive)", "a readable .npz file")
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in ("x", "y") if key not in archive.files]
        if missing:
            raise InputError(
                name, f"{path} with arrays {archive.files}, without {' and '.join(missing)}", "arrays named x and y"
            )
        return archive["x"], archive["y"], *_names_of(archive, archive.files, path, name)


def _read_table(path: Path, label: str, name: str) -> tuple[Any, ...]:
    import pandas as pd  # half a second to import, and only needed here
    from pandas.api.types import is_numeric_dtype

    if path.suffix.lower() == ".csv":
        # pandas would call a second column of one name "label.1", and a label would pass for a feature; and where rows
        # are longer than the header it would take the first column for an index: so compare with the header itself
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = [column.strip() for column in next((row for row in csv.reader(file) if row), [])]
        table = pd.read_csv(path, low_memory=False) if header else pd.DataFrame()
        if header and (table.shape[1] != len(header) or not isinstance(table.index, pd.RangeIndex)):
            raise InputError(name, f"{path} with rows longer than its header", "a name for every column")
        table.columns = header
    else:
        table = pd.read_parquet(path)
    if table.empty:
        raise InputError(name, f"{path} with no rows", "one row or more")
    columns = [str(column) for column in table.columns]
    if columns.count(label) != 1:
        raise InputError(
            name,
            f"{columns.count(label)} columns {label!r} among {', '.join(columns[:20])}",
            f"one label column named {label!r}",
        )
    if len(set(columns)) < len(columns) or "" in columns:
        raise InputError(
            name,
            f"columns {', '.join(map(repr, columns[:20]))}",
            "a different, non-empty name for every column (write without the row index)",
        )
    table.columns = columns
    text = [column for column in columns if not is_numeric_dtype(table[column])]
    if text:
        raise InputError(name, f"non-numeric columns {', '.join(text[:20])}", "numeric columns only")
    features = table.drop(columns=label).to_numpy(dtype=np.float64, na_value=np.nan)
    labels = table[label]  # floats lose integers above 2**53, so only labels with gaps become floats
    y = labels.to_numpy(dtype=np.float64, na_value=np.nan) if labels.isna().any() else labels.to_numpy()
    return features, y, tuple(column for column in columns if column != label)
