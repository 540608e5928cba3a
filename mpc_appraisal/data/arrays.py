"""`.npz` files of arrays x and y, and optionally the names `columns` and `class_names`.

A file goes in, and blocks of rows come out: n rows of d features, and one label a row. An array is read only where the
shape in its header agrees with the size of its entry, so that a damaged or hostile file takes no more memory than it
states. x is read in blocks. Nothing may ever be unpickled, and errors begin with the name of the setting that gave the
file. The limit on names may change.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import row_index
from mpc_appraisal.data.sizes import Sizes
from mpc_appraisal.data.targets import CLASSES

NAMES_BYTES = 1 << 24  # the most bytes of an array of names, unpacked
PIECE = 1 << 20  # so many bytes are read at once


@contextmanager
def opened_array(
    archive: zipfile.ZipFile, key: str, path: Path, name: str
) -> Iterator[tuple[IO[bytes], tuple[int, ...], Any, bool]]:
    """Open an array and read its header: yield the open entry, shape, type, and whether it is stored by columns.

    Args:
        archive: the open file.
        key: the array's name.
        path: the file, for errors.
        name: the setting that errors begin with.

    Raises InputError where the header and the size of the entry do not agree.
    """
    with archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise InputError(name, f"{path} with {key} of npy version {version}", "a version up to 3.0")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        held = archive.getinfo(f"{key}.npy").file_size - file.tell()
        if not dtype.hasobject and math.prod(shape) * dtype.itemsize != held:
            found = f"{path} with {held} bytes of {key}"
            raise InputError(name, found, f"a readable .npz file: {shape} numbers of {dtype}, as it says")
        yield file, shape, dtype, fortran


class NpzArrays:
    """Read a .npz file of labelled data.

    Args:
        path: the file.
        label: None for rows without labels, so that no y is read; any text stands for y.
        name: the setting that errors begin with.
        sizes: the sizes that the file must have, where they are known.
        target: not used; `files` calls all readers with the same arguments.

    Attributes:
        rows: the number of rows of x and y.
        features: the number of features of a row, flattened.
        columns, class_names: the names of features and classes; None where the file has none.

    Raises InputError for a file that is not of this form, or not of these sizes.
    """

    def __init__(self, path: Path, label: str | None, name: str, sizes: Sizes | None, target: str = CLASSES):
        self._path, self._name, self._labelled = path, name, label is not None
        if not zipfile.is_zipfile(path):
            raise InputError(name, f"{path} (not a zip archive)", "a readable .npz file")
        with zipfile.ZipFile(path) as archive:
            arrays = [entry.removesuffix(".npy") for entry in archive.namelist()]
            wanted = ("x", "y") if self._labelled else ("x",)
            missing = [key for key in wanted if key not in arrays]
            if missing:
                found = f"{path} with arrays {arrays}, without {' and '.join(missing)}"
                raise InputError(name, found, "arrays named x and y" if self._labelled else "an array named x")
            with opened_array(archive, "x", path, name) as (_, shape, dtype, self._fortran):
                if len(shape) < 2:
                    raise InputError(name, f"x of shape {shape}", "x with two dimensions, (rows, features)")
                self._numbers("x", dtype)
                self.rows, self.features = shape[0], math.prod(shape[1:])
            if self._labelled:
                self._check_labels(archive)
            if sizes is not None:
                sizes.check(self.rows, self.features)
            self.columns, self.class_names = (self._names(archive, key, arrays) for key in ("columns", "class_names"))
            row_index.refuse_names(self.columns, name)

    def blocks(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (x, y) for `size` rows at a time: x (n, d) and y (n,), with numbers as in the file.

        An x that is stored by columns is read whole. Raises InputError for a file that is cut off.
        """
        with zipfile.ZipFile(self._path) as archive:
            y = np.zeros(self.rows, np.int64)
            if self._labelled:
                with opened_array(archive, "y", self._path, self._name) as (file, shape, dtype, _):
                    y = self._read(file, dtype, shape[0])
            with opened_array(archive, "x", self._path, self._name) as (file, shape, dtype, fortran):
                whole = None
                if fortran:
                    flat = self._read(file, dtype, math.prod(shape))
                    whole = flat.reshape(shape, order="F").reshape(shape[0], -1)

                def rows_from(start: int) -> np.ndarray:
                    if whole is not None:
                        return whole[start : start + size]
                    count = min(size, self.rows - start)
                    return self._read(file, dtype, count * self.features).reshape(count, self.features)

                for start in range(0, self.rows, size):
                    yield rows_from(start), y[start : start + size]  # no name here holds rows that were yielded

    def _check_labels(self, archive: zipfile.ZipFile) -> None:
        with opened_array(archive, "y", self._path, self._name) as (_, shape, dtype, _):
            if len(shape) != 1:
                raise InputError(self._name, f"y of shape {shape}", "y with one dimension, one label a row")
            self._numbers("y", dtype)
            if shape[0] != self.rows:
                found = f"{self.rows} rows of x and {shape[0]} of y"
                raise InputError(self._name, found, "as many labels as rows")

    def _numbers(self, key: str, dtype: np.dtype) -> None:
        if dtype.hasobject:
            found = f"{self._path} with {key} of Python objects"
            raise InputError(self._name, found, "a readable .npz file of numbers; nothing is unpickled")
        if dtype.kind not in "biuf":
            raise InputError(f"{self._name}: {key}", f"an array of {dtype}", "real numbers only")

    def _read(self, file: IO[bytes], dtype: np.dtype, count: int) -> np.ndarray:
        found = np.empty(count, dtype)
        octets = found.view(np.uint8)
        for start in range(0, len(octets), PIECE):  # the numbers are in memory once, and a piece of them twice
            raw = file.read(min(PIECE, len(octets) - start))
            if len(raw) < min(PIECE, len(octets) - start):
                raise InputError(self._name, f"{self._path}, cut off", f"a readable .npz file of {self.rows} rows")
            octets[start : start + len(raw)] = np.frombuffer(raw, np.uint8)
        return found

    def _names(self, archive: zipfile.ZipFile, key: str, arrays: list[str]) -> tuple[str, ...] | None:
        if key not in arrays:
            return None
        with opened_array(archive, key, self._path, self._name) as (file, shape, dtype, _):
            if len(shape) != 1 or dtype.kind != "U" or math.prod(shape) * dtype.itemsize > NAMES_BYTES:
                found = f"{self._path} with {key} of shape {shape}, {dtype}"
                raise InputError(self._name, found, f"an array {key} of one dimension, of short texts (numpy's str)")
            return tuple(self._read(file, dtype, shape[0]).tolist())
