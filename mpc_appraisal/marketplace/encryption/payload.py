"""Reads the arrays of an upload from its npz archive, within sizes that the reader expects.

In go the bytes of an archive and, by name, the type and shape that each array must have; out come the arrays, or an
error. A hostile archive may have a small compressed entry that unpacks to any size, or state a shape of any size.
Therefore every entry must be stored without compression. The bytes of each array are compared with the expected type
and shape before memory is allocated for it, and the array is then read in blocks. The size of a block may change. The
order has to stay: no memory is allocated for an entry before its size has been checked.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

BLOCK = 1 << 20
HEADER_BYTES = 4096  # The header of one array has at most so many bytes.
ARCHIVE_BYTES = 8192  # The headers of the archive together have at most so many bytes.
Expected = tuple[Any, tuple[int, ...]]  # The type and the shape of an array.


def size_of(expected: Expected) -> int:
    """Return the number of bytes of an array of this type and shape."""
    dtype, shape = expected
    return math.prod(shape) * np.dtype(dtype).itemsize


def most_bytes(arrays: Mapping[str, Expected]) -> int:
    """Return the largest number of bytes that an archive of these arrays may have."""
    return sum(size_of(each) + HEADER_BYTES for each in arrays.values()) + ARCHIVE_BYTES


def unpack(payload: bytes, arrays: Mapping[str, Expected]) -> dict[str, np.ndarray]:
    """Return the arrays of an archive that np.savez wrote, by name.

    Args:
        payload: the bytes of the archive.
        arrays: by name, the type and the shape that each array must have.

    Raises ValueError where an entry is not as expected; the message states what was found and what was expected.
    `zipfile` and `numpy` raise errors of other kinds for bytes that are no archive or no array.
    """
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(archive.infolist()) != len(arrays) or set(entries) != {f"{name}.npy" for name in arrays}:
            raise ValueError(f"{len(archive.infolist())} entries; expected {', '.join(arrays)}")
        for name, expected in arrays.items():
            _check_entry(name, entries[f"{name}.npy"], expected)
        return {name: _read(name, archive, entries[f"{name}.npy"], each) for name, each in arrays.items()}


def _check_entry(name: str, entry: zipfile.ZipInfo, expected: Expected) -> None:
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted; expected an entry that is stored as it is")
    least = size_of(expected)
    if not least < entry.file_size <= least + HEADER_BYTES:
        raise ValueError(f"{name} has {entry.file_size} bytes; expected {least} and a header")


def _read(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, expected: Expected) -> np.ndarray:
    dtype, shape = np.dtype(expected[0]), expected[1]
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} has array format {version}; expected 1.0 or 2.0")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        found, by_columns, kind = read(file)
        if (found, by_columns, kind) != (shape, False, dtype) or kind.hasobject:
            raise ValueError(f"{name} is {kind} {found}; expected {dtype} {shape} by rows")
        out = np.empty(shape, dtype)
        view, start = memoryview(out.reshape(-1).view(np.uint8)), 0
        while start < len(view):
            count = file.readinto(view[start : start + BLOCK])
            if not count:
                raise ValueError(f"{name} ends after {start} bytes; expected {len(view)}")
            start += count
        if file.read(1):
            raise ValueError(f"{name} goes on after {len(view)} bytes; expected no more")
    return out
