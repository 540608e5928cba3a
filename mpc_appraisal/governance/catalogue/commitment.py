"""A commitment to a data set: a salted SHA-256 that binds its owner and reveals nothing to a reader.

In go the data and a salt; out comes a digest, which is published. The digest is the SHA-256 of these bytes, integers
and numbers little-endian, without separators:

    "mpc_appraisal data commitment 1\\n"   ASCII, 32 bytes
    salt                                   32 random bytes
    rows, features, classes                three unsigned 64-bit integers
    for each row, in order:
        label                              a signed 64-bit integer; for a numeric target (1 class), a double
        features, in order                 an IEEE 754 double each; -0.0 is written as 0.0

The digest does not depend on the file's format or type of numbers, because float32 and integers below 2^53 become
doubles exactly. It does depend on the order of rows and columns. The numbers are those that this package reads, before
any standardisation. These bytes have to stay, or published digests would fit no data; another layout needs another
first line and another SCHEME. The size of a block may change.

The salt prevents tests of guesses. Without it, a small data set, or one of which all but one cell is known, could be
found by trying. The owner alone has the 256 random bits, in a file of mode 0600; whoever is given the salt and the data
can open the commitment.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from pathlib import Path

import numpy as np

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import OWNER_ONLY, read_secret, write_new
from mpc_appraisal.data import Dataset, StoredDataset

SCHEME = "sha256-salted-rows-1"
DOMAIN = b"mpc_appraisal data commitment 1\n"
SALT_BYTES = 32
BLOCK = 1 << 14  # rows in memory at a time


def new_salt() -> bytes:
    """Return 32 random bytes of the operating system."""
    return secrets.token_bytes(SALT_BYTES)


def commit(data: Dataset | StoredDataset, salt: bytes) -> str:
    """Return the commitment to the data, 64 hex digits; the data are read in blocks.

    Raises InputError for a salt of another length.
    """
    if len(salt) != SALT_BYTES:
        raise InputError("salt", f"{len(salt)} bytes", f"{SALT_BYTES} bytes")
    found = hashlib.sha256(DOMAIN + salt + struct.pack("<3Q", data.rows, data.features, data.classes))
    for block in data.blocks(BLOCK):
        rows = np.empty((block.rows, block.features + 1), "<u8")
        if block.numeric:
            rows[:, 0] = (block.y.numpy().astype("<f8") + 0.0).view("<u8")
        else:
            rows[:, 0] = block.y.numpy().astype("<i8").view("<u8")
        rows[:, 1:] = np.ascontiguousarray(block.x.numpy().astype("<f8") + 0.0).view("<u8")  # -0.0 + 0.0 is 0.0
        found.update(rows)
    return found.hexdigest()


def salt_beside(data: str | os.PathLike[str], name: str) -> Path:
    """Return the path of the salt for the listing `name` of a data file, unless its owner names another path."""
    return Path(f"{os.fspath(data)}.{name}.salt")


def write_salt(path: str | os.PathLike[str], salt: bytes) -> None:
    """Write the salt in hexadecimal to a new file of its owner alone. Raises InputError where one is there already."""
    path = Path(path)
    try:
        write_new(path, salt.hex() + "\n", OWNER_ONLY)
    except FileExistsError as error:
        raise InputError("secret", f"{path}, which is already there", "a new file: a salt opens one listing") from error
    except OSError as error:
        raise InputError("secret", f"{path} ({error.strerror})", "a file that can be written") from error


def read_salt(path: str | os.PathLike[str]) -> bytes:
    """Read the salt that `write_salt` wrote. Raises InputError for a file that is missing, foreign or not private."""
    path = Path(path)
    if not path.is_file():
        raise InputError("secret", str(path), "the file with the salt, which publishing the listing wrote")
    try:
        return read_secret(path, "secret", "a salt", SALT_BYTES)
    except OSError as error:
        raise InputError("secret", f"{path} ({error.strerror})", "a file that can be read") from error
