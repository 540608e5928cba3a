"""Small .npz files of arrays, measured before they are unpacked; whatever is wrong with one is an error by its name."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np

from mpc_appraisal.common.errors import InputError

LARGEST = 1 << 30  # bytes of a model or a network, unpacked


def read_arrays(path: str | Path, name: str, expected: str, largest: int = LARGEST) -> dict[str, np.ndarray]:
    """All arrays of the file, none of them pickled.

    Raises InputError under `name`: the file cannot be read, is no such archive, or is larger than `largest` unpacked.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > largest:
            raise InputError(name, f"{path} of {size} bytes unpacked", f"at most {largest} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that old versions wrote
            with np.load(path, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files}
        if not all(isinstance(values, np.ndarray) for values in found.values()):
            raise ValueError("a member that is no array")
        return found
    except InputError:
        raise
    except Exception as error:  # zip, its decompressors and npy raise of many kinds on what is none of theirs
        raise InputError(name, f"{path} ({type(error).__name__})", expected) from error
