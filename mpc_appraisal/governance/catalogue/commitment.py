"""A commitment to a data set: a salted SHA-256 that binds its owner and tells a reader nothing.

The digest is the SHA-256 of these bytes, integers and numbers little-endian, without separators:

    "mpc_appraisal data commitment 1\\n"   ASCII, 32 bytes
    salt                                   32 random bytes
    rows, features, classes                three unsigned 64-bit integers
    for each row, in order:
        label                              a signed 64-bit integer
        features, in order                 an IEEE 754 double each; -0.0 is written as 0.0

So it does not depend on the file's format or dtype (float32 and integers below 2^53 become doubles exactly), and does
depend on the order of rows and columns. The numbers are those that this package reads, before any standardisation.

Why a salt: a bare hash can be tested against guesses. A small data set, or one of which all but one cell is known,
could be found by trying; with 256 random bits that only the owner has, it cannot. The owner keeps the salt in a file of
its own, mode 0600; whoever is given salt and data can open the commitment.
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
    """32 bytes of the operating system."""
    return secrets.token_bytes(SALT_BYTES)


def commit(data: Dataset | StoredDataset, salt: bytes) -> str:
    """The digest, 64 hexadecimal digits, read in blocks. Raises InputError for a salt of another length."""
    if len(salt) != SALT_BYTES:
        raise InputError("salt", f"{len(salt)} bytes", f"{SALT_BYTES} bytes")
    found = hashlib.sha256(DOMAIN + salt + struct.pack("<3Q", data.rows, data.features, data.classes))
    for block in data.blocks(BLOCK):
        rows = np.empty((block.rows, block.features + 1), "<u8")
        rows[:, 0] = block.y.numpy().astype("<i8").view("<u8")
        rows[:, 1:] = np.ascontiguousarray(block.x.numpy().astype("<f8") + 0.0).view("<u8")  # -0.0 + 0.0 is 0.0
        found.update(rows)
    return found.hexdigest()


def salt_beside(data: str | os.PathLike[str], name: str) -> Path:
    """Where the salt for the listing `name` of a data file is, unless its owner says otherwise."""
    return Path(f"{os.fspath(data)}.{name}.salt")


def write_salt(path: str | os.PathLike[str], salt: bytes) -> None:
    """A new file with the salt in hexadecimal, readable by its owner alone; InputError where one is already there."""
    path = Path(path)
    try:
        write_new(path, salt.hex() + "\n", OWNER_ONLY)
    except FileExistsError as error:
        raise InputError("secret", f"{path}, which is already there", "a new file: a salt opens one listing") from error
    except OSError as error:
        raise InputError("secret", f"{path} ({error.strerror})", "a file that can be written") from error


def read_salt(path: str | os.PathLike[str]) -> bytes:
    """The salt in a file of `write_salt`; InputError for a missing, foreign or widely readable file."""
    path = Path(path)
    if not path.is_file():
        raise InputError("secret", str(path), "the file with the salt, which publishing the listing wrote")
    try:
        return read_secret(path, "secret", "a salt", SALT_BYTES)
    except OSError as error:
        raise InputError("secret", f"{path} ({error.strerror})", "a file that can be read") from error
