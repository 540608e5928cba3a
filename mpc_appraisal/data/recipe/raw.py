"""Raw tables: the columns of a file or of a DataFrame as they stand there, by name and in blocks of rows.

A path (.csv, .parquet, .npz) or a pandas DataFrame goes in; out come blocks of columns, each an array of Arrow. A CSV
file has texts alone. A .npz file holds one array for each column by its name, or one array with named fields, or x with
the names `columns` beside it and y, which is the target; where it has `class_names` too, y counts them. No type is
guessed, no file is held in memory as a whole unless its format asks for it, and nothing may ever be unpickled. A format
is a class with `names`, `rows`, `where` and `blocks`, and an entry in FORMATS.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.arrays import NAMES_BYTES, opened_array
from mpc_appraisal.data.recipe.csv_columns import CsvColumns, RawBlock

COLUMN_BYTES, CELL_BYTES = 1 << 16, 1 << 12  # the most bytes, unpacked, of a column chunk of Parquet and of a cell


class ParquetColumns:
    """Read a Parquet file in blocks. The attributes are those of `CsvColumns`."""

    def __init__(self, path: Path, name: str):
        from pyarrow import parquet

        self._path, self.where = path, str(path)
        with parquet.ParquetFile(path) as file:
            self.names, self.rows = list(file.schema_arrow.names), file.metadata.num_rows
            for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
                most = COLUMN_BYTES + CELL_BYTES * max(group.num_rows, 0)
                for column in map(group.column, range(group.num_columns)):
                    if not 0 <= column.total_uncompressed_size <= most:
                        found = f"{path} with {column.total_uncompressed_size} bytes unpacked of {group.num_rows} rows"
                        where = f"{found} in {column.path_in_schema!r}"
                        raise InputError(name, where, f"at most {most} bytes, {CELL_BYTES} a cell")

    def blocks(self, size: int, wanted: Sequence[str]) -> Iterator[RawBlock]:
        """Yield the wanted columns of `size` rows at a time."""
        from pyarrow import parquet

        with parquet.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=size, columns=list(wanted)):
                yield RawBlock({name: batch.column(name) for name in wanted})


class NpzColumns:
    """Read a .npz file of named columns, or of x, y and columns. The attributes are those of `CsvColumns`.

    name: the setting that errors begin with. target: the name of the column that y is.
    """

    def __init__(self, path: Path, name: str, target: str):
        self._path, self._name, self.where = path, name, str(path)
        if not zipfile.is_zipfile(path):
            raise InputError(name, f"{path} (not a zip archive)", "a readable .npz file")
        self._classes: np.ndarray | None = None
        self._places: dict[str, tuple[str, int | str | None]] = {}  # by column: its array, and its place in it
        with zipfile.ZipFile(path) as archive:
            keys = [entry.removesuffix(".npy") for entry in archive.namelist()]
            self._headers = {key: self._header(archive, key) for key in keys}
            if {"x", "y", "columns"} <= set(keys):
                self._of_x(archive, target)
            else:
                self._of_columns()
        self.names = list(self._places)

    def _header(self, archive: zipfile.ZipFile, key: str) -> tuple[tuple[int, ...], np.dtype, bool]:
        with opened_array(archive, key, self._path, self._name) as (_, shape, dtype, fortran):
            if dtype.hasobject:
                expected = "a readable .npz file of numbers and texts; nothing is unpickled"
                raise InputError(self._name, f"{self._path} with {key} of Python objects", expected)
            return shape, dtype, fortran

    def _of_columns(self) -> None:
        """Take each array, or each named field of the only array, for one column."""
        shapes = {key: shape for key, (shape, _, _) in self._headers.items()}
        for key, shape in shapes.items():
            if len(shape) != 1:
                found = f"{self._path} with {key!r} of shape {shape}"
                raise InputError(self._name, found, "one array of one dimension for each column; or x, y and columns")
        if len(set(shapes.values())) > 1:
            found = ", ".join(f"{key!r}: {shape[0]}" for key, shape in list(shapes.items())[:20])
            raise InputError(self._name, f"{self._path} with columns of these lengths: {found}", "one length for all")
        self.rows = next(iter(shapes.values()))[0] if shapes else 0
        for key, (_, dtype, _) in self._headers.items():
            self._places |= {name: (key, name) for name in dtype.names} if dtype.names else {key: (key, None)}

    def _of_x(self, archive: zipfile.ZipFile, target: str) -> None:
        """Take the columns of x by the names beside it, and y for the target."""
        names, self._classes = self._texts(archive, "columns"), None
        if "class_names" in self._headers:
            self._classes = self._texts(archive, "class_names")
        shape, (labels, kind, _) = self._headers["x"][0], self._headers["y"]
        if len(shape) != 2 or shape[1] != len(names) or labels != shape[:1] or self._headers["x"][1].names:
            found = f"{self._path} with x {shape}, y {labels} and {len(names)} names in columns"
            raise InputError(self._name, found, "x (rows, features), y (rows,), and one name for each feature")
        if self._classes is not None and kind.kind not in "biu":
            raise InputError(self._name, f"{self._path} with y of {kind}", "integers, which count class_names")
        if len(set(names)) < len(names) or target in names:
            raise InputError(self._name, f"{self._path} with a name twice", f"different names, none of them {target!r}")
        self.rows = shape[0]
        self._places = {str(name): ("x", k) for k, name in enumerate(names)} | {target: ("y", None)}

    def _texts(self, archive: zipfile.ZipFile, key: str) -> np.ndarray:
        shape, dtype, _ = self._headers[key]
        if len(shape) != 1 or dtype.kind != "U" or dtype.itemsize * shape[0] > NAMES_BYTES:
            raise InputError(self._name, f"{self._path} with {key} {shape} of {dtype}", "a list of texts")
        with opened_array(archive, key, self._path, self._name) as (file, *_):
            return np.frombuffer(file.read(), dtype)

    def blocks(self, size: int, wanted: Sequence[str]) -> Iterator[RawBlock]:
        """Yield the wanted columns of `size` rows at a time. An x that is stored by columns is read whole."""
        keys = dict.fromkeys(self._places[name][0] for name in wanted)
        with zipfile.ZipFile(self._path) as archive, ExitStack() as stack:
            files = {key: stack.enter_context(opened_array(archive, key, self._path, self._name))[0] for key in keys}
            whole = {}
            for key in keys:
                shape, dtype, fortran = self._headers[key]
                if fortran and len(shape) > 1:
                    whole[key] = self._read(files[key], dtype, math.prod(shape)).reshape(shape, order="F")
            for start in range(0, self.rows, size):
                count = min(size, self.rows - start)
                held = {}
                for key in keys:
                    shape, dtype, _ = self._headers[key]
                    if key in whole:
                        held[key] = whole[key][start : start + count]
                    else:
                        flat = self._read(files[key], dtype, count * math.prod(shape[1:]))
                        held[key] = flat.reshape(count, *shape[1:])
                yield RawBlock({name: _array(self._column(held, name)) for name in wanted})

    def _column(self, held: dict[str, np.ndarray], name: str) -> np.ndarray:
        key, place = self._places[name]
        values = held[key] if place is None else held[key][place] if isinstance(place, str) else held[key][:, place]
        if key != "y" or self._classes is None:
            return values
        if not ((values >= 0) & (values < len(self._classes))).all():
            found = f"{self._path} with a label outside its {len(self._classes)} class names"
            raise InputError(self._name, found, "y that counts class_names from 0")
        return self._classes[values.astype(np.int64)]

    def _read(self, file: Any, dtype: np.dtype, count: int) -> np.ndarray:
        raw = file.read(count * dtype.itemsize)
        if len(raw) < count * dtype.itemsize:
            raise InputError(self._name, f"{self._path}, cut off", f"a readable .npz file of {self.rows} rows")
        return np.frombuffer(raw, dtype)


class FrameColumns:
    """Read a pandas DataFrame. The attributes are those of `CsvColumns`; the index takes no part."""

    def __init__(self, frame: Any):
        self._frame, self.where = frame, "the DataFrame"
        self.names, self.rows = [str(each) for each in frame.columns], len(frame)

    def blocks(self, size: int, wanted: Sequence[str]) -> Iterator[RawBlock]:
        """Yield the wanted columns of `size` rows at a time."""
        places = [self.names.index(name) for name in wanted]
        for start in range(0, self.rows, size):
            part = self._frame.iloc[start : start + size]
            yield RawBlock({n: _series(part.iloc[:, k]) for n, k in zip(wanted, places, strict=True)})


def raw_columns(source: Any, name: str, target: str, delimiter: str = ",") -> Any:
    """Open a table.

    Args:
        source: a path or a pandas DataFrame.
        name: the setting that errors begin with.
        target: the name of the column that y of a .npz file is.
        delimiter: what separates the fields of a CSV file.
    """
    if not isinstance(source, (str, os.PathLike)):
        if type(source).__name__ != "DataFrame" or not hasattr(source, "iloc"):
            raise InputError(name, type(source).__name__, "a path, or a pandas DataFrame")
        return FrameColumns(source)
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return NpzColumns(path, name, target)
    if suffix == ".csv":
        return CsvColumns(path, name, delimiter)
    if suffix not in FORMATS:
        raise InputError(name, f"{path} (suffix {path.suffix!r})", "a file ending in .npz, .csv or .parquet")
    return FORMATS[suffix](path, name)


FORMATS = {".parquet": ParquetColumns}


def _array(values: np.ndarray) -> Any:
    """Return an array of numpy as one of Arrow; what Arrow cannot hold comes out as its type's name."""
    import pyarrow as pa

    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    try:
        return pa.array(np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="))), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return str(values.dtype)


def _series(series: Any) -> Any:
    """Return a column of pandas as an array of Arrow, or what it holds in words where Arrow has no type for it."""
    import pyarrow as pa

    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowException, TypeError, ValueError):
        return f"{series.dtype} of different kinds"
