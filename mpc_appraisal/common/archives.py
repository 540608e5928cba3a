"""Small .npz files of arrays: models, networks and layers that a user brings.

A path goes in, and arrays by name come out. The file is measured before it is unpacked, and a bad file is an error by
the name of its setting. LARGEST may change. Nothing may ever be unpickled: the file may come from a stranger.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np

from mpc_appraisal.common.errors import InputError

LARGEST = 1 << 30  # bytes of a model or a network, unpacked


def read_arrays(path: str | Path, name: str, expected: str, largest: int = LARGEST) -> dict[str, np.ndarray]:
    """Read all arrays of the file, by name; nothing is unpickled.

    Args:
        path: The file.
        name: The setting that names the file, for errors.
        expected: What the file should be, in words, for errors.
        largest: The most bytes that the file may have unpacked.

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
