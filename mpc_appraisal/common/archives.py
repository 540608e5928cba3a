"""Small .npz files of arrays. A file is measured before it is unpacked, and a bad file is an error by its name."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np

from mpc_appraisal.common.errors import InputError

LARGEST = 1 << 30  # bytes of a model or a network, unpacked


def read_arrays(path: str | Path, name: str, expected: str, largest: int = LARGEST) -> dict[str, np.ndarray]:
    """Read all arrays of the file, by name; nothing is unpickled.

    expected: in words, what the file should be, for errors. largest: the most bytes that it may have unpacked.

    Raises InputError under `name` for a file that cannot be read, is no such archive, or is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > largest:
            raise InputError(name, f"{path} of {size} bytes unpacked", f"at most {largest} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns about headers that old versions wrote
            with np.load(path, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files}
        if not all(isinstance(values, np.ndarray) for values in found.values()):
            raise ValueError("a member that is no array")
        return found
    except InputError:
        raise
    except Exception as error:  # zip, its decompressors and npy raise many kinds of errors for foreign bytes
        raise InputError(name, f"{path} ({type(error).__name__})", expected) from error
