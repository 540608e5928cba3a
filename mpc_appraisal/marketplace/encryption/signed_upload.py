"""Writes and reads a seller's upload: one signed file of ciphertexts and encrypted labels.

    line 1   mpc_appraisal sealed upload 1
    line 2   JSON: seller, scheme, key_id, dimension, image, rows, upload_id, digest = SHA-512 of the payload
    line 3   Ed25519 signature, in hex, of lines 1 and 2
    payload  npz, stored and not compressed (no pickles): body, header, labels

`write_upload` makes the file from images, labels and keys; `read_upload` returns an `Upload` or refuses the file with
an InputError; and `open_labels` decrypts labels.

Ciphertexts of both schemes are malleable. Therefore nothing beyond line 2 is parsed before the signature and the digest
have been verified, by the key that the seller enrolled at the authority. A seller may sign anything, so that the reader
sets the number of rows and their sizes. The file's length is compared with these sizes before the file is read, and
each array is compared with its size before memory is allocated for it (see `payload`). This order of checks has to
stay. Another layout of the file needs another number in line 1, because uploads are kept. Reference: Ed25519 is RFC
8032.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import operator
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import OWNER_ONLY, write_whole
from mpc_appraisal.marketplace.encryption.labels import open_label, seal_labels
from mpc_appraisal.marketplace.encryption.payload import Expected, most_bytes, unpack
from mpc_appraisal.marketplace.encryption.scheme import Ciphertext, EncryptionKey, Scheme, check_mine, check_pixels

_MAGIC = b"mpc_appraisal sealed upload "
_VERSION = b"1"
_LINE = 1 << 16
_ID_BYTES = 16
_BLOCK = 1 << 20
MOST_ROWS = 1 << 17  # An upload has at most so many rows, unless the reader allows another number.
MOST_WIDTH = 1 << 14  # An encrypted label has at most so many bytes, unless the reader states its length.
_TEXTS = ("seller", "scheme", "key_id", "upload_id", "digest")


@dataclass(frozen=True, eq=False)
class Upload:
    """The content of a verified upload.

    Attributes:
        seller: the seller's name.
        image: (channels, height, width) of every image.
        upload_id: the fresh id of this upload, 16 bytes.
        ciphertext: n encrypted images.
        labels: the encrypted labels, (n, L + 16) uint8.
    """

    seller: str
    image: tuple[int, int, int]
    upload_id: bytes
    ciphertext: Ciphertext
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def new_signing_key() -> tuple[bytes, bytes]:
    """Draw an Ed25519 key pair of 32 bytes each: the seller's private key, and the verification key that it enrols."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def write_upload(
    path: Path,
    seller: str,
    scheme: Scheme,
    key: EncryptionKey,
    x: np.ndarray,
    labels: np.ndarray,
    image: tuple[int, int, int],
    signing_key: bytes,
    label_secret: bytes,
) -> None:
    """Encrypt images and labels into one signed file, which appears whole or not at all.

    Args:
        path: where the file is written.
        seller: the seller's name.
        scheme: the scheme in which the images are encrypted, with `key`.
        key: the seller's encryption key.
        x: the images (n, d), integers 0..255.
        labels: the labels (n,) or (n, L), integers 0..255.
        image: (channels, height, width) of an image, with product d.
        signing_key: the seller's private key (32 bytes).
        label_secret: the secret from which the labels' keys derive.

    Raises InputError for images, labels or shapes of another form. Nothing has been written then.
    """
    check_mine("encryption key", key.scheme, scheme.name)
    x = check_pixels(x, key.dimension)
    if len(image) != 3 or int(np.prod(image)) != key.dimension:
        raise InputError("image", image, f"channels, height, width with product {key.dimension}")
    if len(labels) != len(x):
        raise InputError("labels", f"{len(labels)} rows", f"{len(x)}, one for each image")
    upload_id = os.urandom(_ID_BYTES)
    sealed = seal_labels(label_secret, upload_id, labels)
    c = scheme.encrypt(key, x)
    buffer = io.BytesIO()
    np.savez(buffer, body=c.body, header=c.header, labels=sealed)
    payload = buffer.getbuffer()
    facts = {
        "seller": seller,
        "scheme": scheme.name,
        "key_id": c.key_id,
        "dimension": key.dimension,
        "image": [int(side) for side in image],
        "rows": len(x),
        "upload_id": upload_id.hex(),
        "digest": hashlib.sha512(payload).hexdigest(),
    }
    signed = _MAGIC + _VERSION + b"\n" + json.dumps(facts, sort_keys=True).encode() + b"\n"
    signature = Ed25519PrivateKey.from_private_bytes(signing_key).sign(signed)
    write_whole(Path(path), (signed, signature.hex().encode(), b"\n", payload), OWNER_ONLY)


def read_upload(
    path: Path,
    seller: str,
    verify_key: bytes,
    scheme: Scheme,
    image: tuple[int, int, int] | None = None,
    rows: int = MOST_ROWS,
    width: int | None = None,
) -> Upload:
    """Read the upload at `path`, and verify that it is whole, of this version, and signed by `seller`.

    Args:
        path: the file.
        seller: the name of the seller that must have signed it.
        verify_key: the key that this seller enrolled.
        scheme: the scheme that the ciphertexts must have.
        image: the expected (channels, height, width). None allows any, so that only `rows` bounds the file.
        rows: the largest number of rows that is allowed.
        width: the number of bytes of an encrypted label. None allows any up to MOST_WIDTH.

    Raises InputError for any other file. The message names the seller, what was found and what was expected.
    """
    name = f"upload of {seller}"
    try:
        with open(path, "rb") as file:
            first, second, third = (file.readline(_LINE) for _ in range(3))
            claimed = _claimed(name, seller, verify_key, first, second, third)
            if claimed["scheme"] != scheme.name:
                raise InputError(name, f"scheme {claimed['scheme'][:80]}", f"scheme {scheme.name}")
            sizes = _sizes(name, claimed, image, rows)
            left = os.fstat(file.fileno()).st_size - file.tell()
            most = most_bytes(_arrays(scheme, sizes, MOST_WIDTH if width is None else width))
            if left > most:
                raise InputError(name, f"a payload of {left} bytes", f"at most {most} for {sizes.rows} rows")
            payload = _read(file, left)
    except OSError as error:
        raise InputError(name, f"no file that can be read ({type(error).__name__})", "a sealed upload") from None
    if hashlib.sha512(payload).hexdigest() != claimed["digest"]:
        raise InputError(name, f"{len(payload)} altered or cut bytes", "the bytes that the seller signed")
    upload = _parse(name, claimed, sizes, scheme, width, payload)
    scheme.check_ciphertext(upload.ciphertext)
    return upload


@dataclass(frozen=True)
class _Sizes:
    """The sizes that line 2 states, which are within what the reader allows."""

    rows: int
    dimension: int
    image: tuple[int, int, int]


def _claimed(name: str, seller: str, verify_key: bytes, first: bytes, second: bytes, third: bytes) -> dict:
    """Return the facts of line 2, verified by lines 1 and 3 to be signed by the seller. Raises InputError otherwise."""
    if not first.startswith(_MAGIC) or not first.endswith(b"\n"):
        raise InputError(name, "a file of another kind", "a sealed upload")
    version = first[len(_MAGIC) : -1]
    if version != _VERSION:
        raise InputError(
            name, f"version {ascii(version[:20].decode(errors='replace'))}", f"version {_VERSION.decode()}"
        )
    claimed = _facts(second)
    if not claimed:
        raise InputError(name, "a second line of another form", "the facts of a sealed upload")
    if claimed["seller"] != seller:
        raise InputError(name, f"a file of seller {claimed['seller'][:80]!r}", f"one of seller {seller!r}")
    try:
        signature = bytes.fromhex(third.decode())
        if third != signature.hex().encode() + b"\n":
            raise InvalidSignature
        Ed25519PublicKey.from_public_bytes(verify_key).verify(signature, first + second)
    except (InvalidSignature, ValueError):
        raise InputError(name, "a signature that does not hold", f"one by {seller}'s enrolled key") from None
    return claimed


def _sizes(name: str, facts: dict, image: tuple[int, int, int] | None, most: int) -> _Sizes:
    """Return the sizes in signed facts.

    Raises InputError unless the sizes are what the reader expects and the rows are at most `most`.
    """
    try:
        sides = tuple(map(operator.index, facts["image"]))
        rows, dimension = (operator.index(facts[key]) for key in ("rows", "dimension"))
    except (TypeError, KeyError) as error:
        raise InputError(name, f"sizes that cannot be read ({type(error).__name__})", "whole numbers") from None
    if not 0 <= rows <= most:
        raise InputError(name, f"{rows} rows", f"at most {most}")
    if len(sides) != 3 or min(sides) < 1 or math.prod(sides) != dimension:
        raise InputError(name, f"image {sides}", f"three sides with product {dimension}")
    if image is not None and sides != tuple(image):
        raise InputError(name, f"images of shape {sides}", f"shape {tuple(image)}, the network's")
    return _Sizes(rows, dimension, sides)


def _arrays(scheme: Scheme, sizes: _Sizes, width: int) -> dict[str, Expected]:
    """Return the types and shapes that the payload's arrays must have."""
    return {
        "body": (scheme.body_type, (sizes.rows, sizes.dimension, *scheme.body_tail)),
        "header": (np.uint8, (sizes.rows, scheme.header_bytes)),
        "labels": (np.uint8, (sizes.rows, width)),
    }


def _read(file: BinaryIO, length: int) -> bytearray:
    """Read at most `length` bytes of the file, in blocks. Bytes that are appended meanwhile are not read."""
    found = bytearray()
    while len(found) < length and (block := file.read(min(_BLOCK, length - len(found)))):
        found += block
    return found


def open_labels(upload: Upload, indices: Sequence[int], keys: Sequence[bytes]) -> np.ndarray:
    """Decrypt labels of an upload by the keys that the authority issued.

    Args:
        upload: the upload, which has n rows.
        indices: the numbers of the rows, each in 0 .. n - 1.
        keys: the key of each of these rows, in the same order.

    Returns the labels, (len(indices), L) uint8.

    Raises InputError where the numbers of keys and rows differ, a row is out of range, or a key does not fit its row.
    """
    if len(indices) != len(keys):
        raise InputError("label keys", len(keys), f"{len(indices)}, one for each row")
    for index in indices:
        if not 0 <= index < len(upload):
            raise InputError(f"labels of {upload.seller}", f"row {index}", f"0..{len(upload) - 1}")
    rows = [open_label(upload.seller, upload.labels[i], i, key) for i, key in zip(indices, keys, strict=True)]
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.uint8)


def _facts(line: bytes) -> dict:
    """Return the JSON of line 2 as a dictionary, which is empty if the line is no such JSON or lacks a text.

    Until the signature has been verified, the facts are a claim only.
    """
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) and all(isinstance(facts.get(key), str) for key in _TEXTS) else {}


def _parse(name: str, facts: dict, sizes: _Sizes, scheme: Scheme, width: int | None, payload: bytearray) -> Upload:
    """Return the upload in a verified payload.

    A seller may sign what is wrong, so that every array is checked. Raises InputError for what does not fit.
    """
    try:
        arrays = _arrays(scheme, sizes, _label_width(payload, sizes.rows) if width is None else width)
        found = unpack(payload, arrays)
        upload_id = bytes.fromhex(facts["upload_id"])
    except Exception as error:  # zipfile and numpy raise errors of many kinds for bytes that they cannot read.
        said = f": {str(error)[:200]}" if isinstance(error, ValueError) else ""
        raise InputError(
            name,
            f"a payload that cannot be read ({type(error).__name__}{said})",
            f"{sizes.rows} rows of dimension {sizes.dimension}, stored as they are",
        ) from None
    if len(upload_id) != _ID_BYTES:
        raise InputError(name, f"an id of {len(upload_id)} bytes", f"{_ID_BYTES}")
    ciphertext = Ciphertext(facts["scheme"], found["header"], found["body"], facts["key_id"])
    return Upload(facts["seller"], sizes.image, upload_id, ciphertext, found["labels"])


def _label_width(payload: bytearray, rows: int) -> int:
    """Return the number of bytes of an encrypted label, from the entry's header. Raises ValueError above MOST_WIDTH."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        size = archive.getinfo("labels.npy").file_size
        with archive.open("labels.npy") as file:  # The header is short, and a stored entry is not decompressed.
            if archive.getinfo("labels.npy").compress_type != zipfile.ZIP_STORED:
                raise ValueError("labels are compressed; expected an entry that is stored as it is")
            np.lib.format.read_magic(file)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or not 0 <= shape[1] <= min(MOST_WIDTH, size):
        raise ValueError(f"labels of shape {shape} in {size} bytes; expected ({rows}, up to {MOST_WIDTH})")
    return shape[1]
