"""Labelled data: one validated record, a reader for a party's own files, and three public data sets.

A data set is (x, y): x of shape (n, d) in float32 or float64, all finite, and y of shape (n,) in int64 with labels
0 .. classes-1. Nothing else gets past `Dataset`, so whatever is shared later has been checked in the owner's process.

Formats: `.npz` (arrays x and y), `.csv` and `.parquet` (a label column by name); IDX for MNIST (LeCun, Cortes, Burges:
magic number, big-endian sizes, bytes) and the binary version of CIFAR-10 (Krizhevsky 2009: records of one label byte
and 3072 pixel bytes). No reader unpickles anything, and no archive is unpacked to disk.
"""

from __future__ import annotations

import copy
import csv
import gzip
import math
import numbers
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpc_appraisal.errors import InputError

ENVIRONMENT = "MPC_APPRAISAL_DATA"
STORED_BYTES = 1 << 26  # larger files are read in blocks
STORED_BLOCK = 1 << 14
TrainSize = int | float | Sequence[int]


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
        bad = (~torch.isfinite(x)).sum(dim=1)
        if bad.any():
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
        features, labels = _numbers(x, f"{name}: x"), _numbers(y, f"{name}: y")
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


def standardise(
    data: Dataset | StoredDataset, mean: float | Sequence[float], scale: float | Sequence[float]
) -> Dataset | StoredDataset:
    """(x - mean) / scale with public numbers, so that both sides can apply the same. Scalars or d numbers each."""
    if isinstance(data, StoredDataset):
        other = copy.copy(data)
        other._scaling = (mean, scale)
        next(other.blocks(1))  # refuses unfit numbers now
        return other
    shift, divisor = _numbers(mean, "mean"), _numbers(scale, "scale")
    for name, value in (("mean", shift), ("scale", divisor)):
        if value.shape not in ((), (data.features,)):
            raise InputError(name, f"shape {value.shape}", f"one number, or {data.features}: one a feature")
        if not np.isfinite(value).all() or (name == "scale" and (value == 0).any()):
            raise InputError(name, value.tolist(), "finite numbers" + (" other than 0" if name == "scale" else ""))
    x = (data.x - torch.tensor(shift, dtype=data.x.dtype)) / torch.tensor(divisor, dtype=data.x.dtype)
    return Dataset(x, data.y, data.classes, data.name)


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
        x, y = readers[path.suffix.lower()](path, label, name)
    except InputError:
        raise
    except Exception as error:  # three foreign parsers, each with exceptions of its own: all mean "not readable"
        raise InputError(
            name, f"{path} ({type(error).__name__}: {error})", f"a readable {path.suffix.lower()} file with rows"
        ) from error
    return Dataset.of(_numbers(x, f"{name}: x").astype(np.float64), y, classes, name)


class StoredDataset:
    """A data set that stays in its file (.npz with a plain x of two dimensions, or .parquet) and is read in blocks.

    Like a `Dataset` it has rows, features, classes, name, `renamed`, `with_classes` and `blocks`; it has no x. Making
    it reads the file once and refuses what a `Dataset` refuses.
    """

    def __init__(self, path: Path, label: str, classes: int | None, name: str):
        self._path, self._label, self._key = path, label, name
        self._scaling: tuple[Any, Any] | None = None
        self.name, self.rows, self.features, largest = name, 0, 0, 1
        self.classes = classes or 2**31 - 1
        for block in self.blocks(STORED_BLOCK):
            self.rows, self.features = self.rows + block.rows, block.features
            largest = max(largest, int(block.y.max()))
        if not self.rows:
            raise InputError(name, f"{path} with no rows", "one row or more")
        self.classes = classes or max(2, largest + 1)

    def renamed(self, name: str) -> StoredDataset:
        other = copy.copy(self)
        other.name = name
        return other

    def with_classes(self, classes: int) -> StoredDataset:
        if classes < self.classes:
            raise InputError(self.name, f"a label {self.classes - 1}", f"labels 0 .. {classes - 1}")
        other = copy.copy(self)
        other.classes = classes
        return other

    def blocks(self, size: int) -> Iterator[Dataset]:
        """The rows in order, `size` at a time, in float32 where the file holds no more than that."""
        parts = _stored_npz if self._path.suffix.lower() == ".npz" else _stored_parquet
        for x, y in parts(self._path, self._label, self._key, size):
            narrow = x.dtype.kind in "biu" and x.dtype.itemsize < 4 or x.dtype == np.float32
            x = x.astype(np.float32 if narrow else np.float64)
            block = Dataset.of(x, y, self.classes, self._key)
            yield block if self._scaling is None else standardise(block, *self._scaling)


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


def _numbers(values: Any, name: str) -> np.ndarray:
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


def _read_npz(path: Path, label: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise InputError(name, f"{path} (not a zip archive)", "a readable .npz file")
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in ("x", "y") if key not in archive.files]
        if missing:
            raise InputError(
                name, f"{path} with arrays {archive.files}, without {' and '.join(missing)}", "arrays named x and y"
            )
        return archive["x"], archive["y"]


def _read_table(path: Path, label: str, name: str) -> tuple[np.ndarray, np.ndarray]:
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
    return features, labels.to_numpy(dtype=np.float64, na_value=np.nan) if labels.isna().any() else labels.to_numpy()


class DataSource(ABC):
    """A public data set. name; classes; train_size: the default size of D_tr for scenarios (rows, fraction, or rows of
    each class), which the loader itself does not use."""

    name: str
    classes: int
    train_size: TrainSize

    @abstractmethod
    def load(self) -> tuple[Dataset, Dataset]:
        """(train, test). Raises InputError where files are missing or damaged."""


class Digits(DataSource):
    """scikit-learn's 1,797 handwritten digits, 8 x 8, embedded in that package. Pixels / 16 in float64, ten classes.

    The split is fixed: the first 1,297 rows of one permutation by numpy's RandomState(0), a stream frozen across
    versions, are train and the other 500 are test. (In file order both halves would be different writers.)
    """

    name, classes = "digits", 10

    def __init__(self, train_size: TrainSize = 150) -> None:
        self.train_size = train_size

    def load(self) -> tuple[Dataset, Dataset]:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        order = np.random.RandomState(0).permutation(len(x))
        train, test = order[:1297], order[1297:]
        return (
            Dataset.of(x[train] / 16, y[train], self.classes, "digits train"),
            Dataset.of(x[test] / 16, y[test], self.classes, "digits test"),
        )


class Mnist(DataSource):
    """MNIST: 60,000 + 10,000 images of 28 x 28 in file order. Pixels / 255 in float32, ten classes.

    root: a folder with the four IDX files, gzip or not, or with a subfolder `mnist` of them; else the environment
    variable MPC_APPRAISAL_DATA; else a download into the user's cache.
    """

    name, classes = "mnist", 10
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    sha256 = {
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }

    def __init__(self, root: str | None = None, train_size: TrainSize = 600) -> None:
        self.root, self.train_size = root, train_size

    def load(self) -> tuple[Dataset, Dataset]:
        folder = _folder(self.root, self.name)
        found = {}
        for stem, digest in self.sha256.items():
            if folder is None:
                found[stem] = _download(self.name, f"{self.url}{stem}.gz", digest)
                continue
            names = [base + stem + suffix for base in ("", f"{self.name}/") for suffix in (".gz", "")]
            found[stem] = _first(folder, names, f"the IDX file {stem}, gzip or not")
        parts = []
        for part in ("train", "t10k"):
            images = _idx(found[f"{part}-images-idx3-ubyte"], 3)
            labels = _idx(found[f"{part}-labels-idx1-ubyte"], 1)
            parts.append(
                Dataset.of(
                    images.astype(np.float32) / 255,
                    labels,
                    self.classes,
                    f"mnist {'train' if part == 'train' else 'test'}",
                )
            )
        return parts[0], parts[1]


class Cifar10(DataSource):
    """CIFAR-10, the classes `labels` alone, as classes 0, 1, ... in the order given (0 airplane, 1 automobile, ...).

    Pixels / 255 in float32; 3072 features in file order (32 x 32 red, then green, then blue), rows in file order.
    root: the binary archive (.tar.gz, .tar), or a folder with it or with its .bin files, or with a subfolder `cifar10`
    or `cifar-10-batches-bin`; else the environment variable MPC_APPRAISAL_DATA; else a download into the user's cache.
    """

    name = "cifar10"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    sha256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    files = tuple(f"data_batch_{i}.bin" for i in range(1, 6)) + ("test_batch.bin",)

    def __init__(
        self, root: str | None = None, labels: Sequence[int] = (0, 1), train_size: TrainSize = (200, 20)
    ) -> None:
        self.root, self.labels, self.train_size = root, tuple(labels), train_size
        self.classes = len(self.labels)
        if self.classes < 2 or len(set(self.labels)) < self.classes or not set(self.labels) <= set(range(10)):
            raise InputError("data.labels", list(self.labels), "two or more different labels out of 0 .. 9")

    def load(self) -> tuple[Dataset, Dataset]:
        folder = _folder(self.root, self.name)
        if folder is None:
            path = _download(self.name, self.url, self.sha256)
        elif folder.is_file():
            path = folder
        else:
            inner = (
                "cifar-10-batches-bin/test_batch.bin",
                "test_batch.bin",
                "cifar-10-binary.tar.gz",
                "cifar-10-binary.tar",
            )
            names = [base + file for base in ("", f"{self.name}/") for file in inner]
            path = _first(folder, names, "CIFAR-10's binary archive or its .bin files")
        unpacked = path.suffix == ".bin"
        batches = _bins(path.parent, self.files) if unpacked else _tar(path, self.files)
        parts = [self._select(path, batches[:5], "train"), self._select(path, batches[5:], "test")]
        return parts[0], parts[1]

    def _select(self, path: Path, batches: list[bytes], part: str) -> Dataset:
        for number, raw in enumerate(batches, start=1):
            if not raw or len(raw) % 3073:
                raise InputError(
                    "data.root",
                    f"{path}: {part} batch {number} of {len(raw)} bytes",
                    "whole records of 3073 bytes (a truncated file?)",
                )
        records = np.frombuffer(b"".join(batches), dtype=np.uint8).reshape(-1, 3073)
        if records[:, 0].max() > 9:
            raise InputError("data.root", f"{path}: label {records[:, 0].max()}", "labels 0 .. 9")
        absent = [label for label in self.labels if label not in records[:, 0]]
        if absent:
            raise InputError("data.labels", f"{absent}, of which {path} has no image in {part}", "labels with images")
        position = np.full(10, -1)
        position[list(self.labels)] = np.arange(self.classes)
        y = position[records[:, 0]]
        kept = records[y >= 0]
        return Dataset.of(kept[:, 1:].astype(np.float32) / 255, y[y >= 0], self.classes, f"cifar10 {part}")


def _folder(root: str | None, name: str) -> Path | None:
    """The existing place to read `name` from, or None where the user named none (then: download)."""
    key = "data.root" if root is not None else ENVIRONMENT
    place = root if root is not None else os.environ.get(ENVIRONMENT)
    if not place:
        return None
    if not Path(place).exists():
        raise InputError(key, str(place), f"an existing folder with the files of {name}")
    return Path(place)


def _first(folder: Path, names: Sequence[str], expected: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError("data.root", str(folder), f"{expected} (set data.root or the environment variable {ENVIRONMENT})")


def _download(name: str, url: str, digest: str) -> Path:
    """Fetches one file into the user's cache, once, and compares its SHA-256."""
    import pooch

    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=f"sha256:{digest}",
                fname=url.rsplit("/", 1)[1],
                path=pooch.os_cache("mpc-appraisal") / name,
                downloader=pooch.HTTPDownloader(timeout=15),
            )
        )
    except Exception as error:  # no network, a proxy's page, a full disk: the user's way out is the same
        raise InputError(
            "data.root",
            f"null, and the download of {url} failed ({type(error).__name__}: {error})",
            f"a folder with the files of {name}: set data.root or the environment variable {ENVIRONMENT}",
        ) from error


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an IDX file, as an array of uint8 with `dimensions` dimensions."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InputError("data.root", f"{path} ({error})", "a readable IDX file (a truncated file?)") from error
    magic, start = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if raw[:4] != magic or len(raw) < start:
        raise InputError("data.root", f"{path} beginning {raw[:4].hex()}", f"an IDX file beginning {magic.hex()}")
    shape = tuple(int(size) for size in np.frombuffer(raw, dtype=">u4", count=dimensions, offset=4))
    if len(raw) - start != math.prod(shape):
        raise InputError(
            "data.root",
            f"{path} with {len(raw) - start} bytes of data",
            f"{math.prod(shape)} bytes for the shape {shape} in its head (a truncated file?)",
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def _bins(folder: Path, files: Sequence[str]) -> list[bytes]:
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise InputError("data.root", f"{folder} without {', '.join(missing)}", "the six .bin files of CIFAR-10")
    try:
        return [(folder / file).read_bytes() for file in files]
    except OSError as error:
        raise InputError("data.root", f"{folder} ({error})", "readable .bin files") from error


def _tar(path: Path, files: Sequence[str]) -> list[bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:  # one pass in file order: seeking back in a compressed archive reads it again
                file = member.name.rsplit("/", 1)[-1]
                if file in files and member.isfile():
                    found[file] = archive.extractfile(member).read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError("data.root", f"{path} ({error})", "a readable tar archive (a truncated file?)") from error
    missing = [file for file in files if file not in found]
    if missing:
        raise InputError("data.root", f"{path} without {', '.join(missing)}", "the six .bin files of CIFAR-10")
    return [found[file] for file in files]
