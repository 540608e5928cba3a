"""A seller's upload: one file of ciphertexts and sealed labels, signed by the seller.

    line 1   mpc_appraisal sealed upload 1
    line 2   JSON: seller, scheme, key_id, dimension, image, rows, upload_id, digest = SHA-512 of the payload
    line 3   Ed25519 signature, in hex, of lines 1 and 2
    payload  npz, stored and not compressed (no pickles): body, header, labels

Ciphertexts of either scheme are malleable, so nothing beyond line 2 is parsed before signature and digest hold. A
seller may sign anything: how many rows it may have, of which size, is the reader's to say. The file's length is
compared with that before it is read, and every array before memory is taken for it; see `payload`.
The verification key is the one enrolled at the authority. Ed25519: RFC 8032.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import operator
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.labels import open_label, seal_labels
from mpc_appraisal.marketplace.encryption.payload import Expected, most_bytes, unpack
from mpc_appraisal.marketplace.encryption.scheme import Ciphertext, EncryptionKey, Scheme, check_mine, check_pixels

_MAGIC = b"mpc_appraisal sealed upload "
_VERSION = b"1"
_LINE = 1 << 16
_ID_BYTES = 16
_BLOCK = 1 << 20
MOST_ROWS = 1 << 17  # of one upload, unless the reader says otherwise
MOST_WIDTH = 1 << 14  # bytes of a sealed label, unless the reader says how many
_TEXTS = ("seller", "scheme", "key_id", "upload_id", "digest")


@dataclass(frozen=True, eq=False)
class Upload:
    """What a signed file says: n ciphertexts of images (channels, height, width), labels (n, L + 16) uint8, sealed."""

    seller: str
    image: tuple[int, int, int]
    upload_id: bytes
    ciphertext: Ciphertext
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def new_signing_key() -> tuple[bytes, bytes]:
    """A fresh Ed25519 pair: the seller's private key and the verification key to enrol, 32 bytes each."""
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
    """Encrypts images x (n, d) of integers 0..255 and labels 0..255, (n,) or (n, L), into one signed file.

    InputError for other x, labels or image shapes, before anything is written; the file appears whole or not at all.
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
    path = Path(path)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(signed + signature.hex().encode() + b"\n")
            file.write(payload)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def read_upload(
    path: Path,
    seller: str,
    verify_key: bytes,
    scheme: Scheme,
    image: tuple[int, int, int] | None = None,
    rows: int = MOST_ROWS,
    width: int | None = None,
) -> Upload:
    """The upload, once it is shown to be `seller`'s own, whole, of this version and of `scheme`.

    Args:
        image: the images' sides that are expected; None for any, and then only `rows` bounds the file.
        rows: at most so many rows.
        width: bytes of a sealed label; None for any up to MOST_WIDTH.

    Raises:
        InputError: it names the seller, what the file is, and what was expected.
    """
    name = f"upload of {seller}"
    try:
        with open(path, "rb") as file:
            first, second, third = (file.readline(_LINE) for _ in range(3))
            claimed = _claimed(name, seller, verify_key, first, second, third)
            if claimed["scheme"] != scheme.name:
                raise InputError(name, f"scheme {claimed['scheme'][:80]}", f"scheme {scheme.name}")
            told = _told(name, claimed, image, rows)
            left = os.fstat(file.fileno()).st_size - file.tell()
            most = most_bytes(_arrays(scheme, told, MOST_WIDTH if width is None else width))
            if left > most:
                raise InputError(name, f"a payload of {left} bytes", f"at most {most} for {told.rows} rows")
            payload = _read(file, left)
    except OSError as error:
        raise InputError(name, f"no file that can be read ({type(error).__name__})", "a sealed upload") from None
    if hashlib.sha512(payload).hexdigest() != claimed["digest"]:
        raise InputError(name, f"{len(payload)} altered or cut bytes", "the bytes that the seller signed")
    upload = _parse(name, claimed, told, scheme, width, payload)
    scheme.check_ciphertext(upload.ciphertext)
    return upload


@dataclass(frozen=True)
class _Told:
    """Sizes that the signed line tells, within what is allowed."""

    rows: int
    dimension: int
    image: tuple[int, int, int]


def _claimed(name: str, seller: str, verify_key: bytes, first: bytes, second: bytes, third: bytes) -> dict:
    """The facts of line 2, once lines 1 and 3 show them to be the seller's."""
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


def _told(name: str, facts: dict, image: tuple[int, int, int] | None, most: int) -> _Told:
    """Rows, dimension and image of signed facts, compared with what is expected."""
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
    return _Told(rows, dimension, sides)


def _arrays(scheme: Scheme, told: _Told, width: int) -> dict[str, Expected]:
    """Types and shapes of the payload's arrays."""
    return {
        "body": (scheme.body_type, (told.rows, told.dimension, *scheme.body_tail)),
        "header": (np.uint8, (told.rows, scheme.header_bytes)),
        "labels": (np.uint8, (told.rows, width)),
    }


def _read(file: BinaryIO, length: int) -> bytearray:
    """`length` bytes, or what there is, in blocks; what is appended meanwhile is not read."""
    found = bytearray()
    while len(found) < length and (block := file.read(min(_BLOCK, length - len(found)))):
        found += block
    return found


def open_labels(upload: Upload, indices: Sequence[int], keys: Sequence[bytes]) -> np.ndarray:
    """(len(indices), L) uint8: the labels of the rows that the authority gave keys for, in the order of `indices`."""
    if len(indices) != len(keys):
        raise InputError("label keys", len(keys), f"{len(indices)}, one for each row")
    for index in indices:
        if not 0 <= index < len(upload):
            raise InputError(f"labels of {upload.seller}", f"row {index}", f"0..{len(upload) - 1}")
    rows = [open_label(upload.seller, upload.labels[i], i, key) for i, key in zip(indices, keys, strict=True)]
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.uint8)


def _facts(line: bytes) -> dict:
    """The JSON line as a dictionary, empty where it is none or lacks a text: a claim until the signature holds."""
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) and all(isinstance(facts.get(key), str) for key in _TEXTS) else {}


def _parse(name: str, facts: dict, told: _Told, scheme: Scheme, width: int | None, payload: bytearray) -> Upload:
    """Signed, so the seller's own; yet a seller may err, and every array is measured against what it says."""
    try:
        arrays = _arrays(scheme, told, _label_width(payload, told.rows) if width is None else width)
        found = unpack(payload, arrays)
        upload_id = bytes.fromhex(facts["upload_id"])
    except Exception as error:  # zip, its decompressors and npy raise of many kinds on what is none of theirs
        said = f": {str(error)[:200]}" if isinstance(error, ValueError) else ""
        raise InputError(
            name,
            f"a payload that cannot be read ({type(error).__name__}{said})",
            f"{told.rows} rows of dimension {told.dimension}, stored as they are",
        ) from None
    if len(upload_id) != _ID_BYTES:
        raise InputError(name, f"an id of {len(upload_id)} bytes", f"{_ID_BYTES}")
    ciphertext = Ciphertext(facts["scheme"], found["header"], found["body"], facts["key_id"])
    return Upload(facts["seller"], told.image, upload_id, ciphertext, found["labels"])


def _label_width(payload: bytearray, rows: int) -> int:
    """Bytes of a sealed label, by the size of their entry; ValueError for more than MOST_WIDTH."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        size = archive.getinfo("labels.npy").file_size
        with archive.open("labels.npy") as file:  # a header is short, and stored entries are not unpacked
            if archive.getinfo("labels.npy").compress_type != zipfile.ZIP_STORED:
                raise ValueError("labels are compressed; expected an entry that is stored as it is")
            np.lib.format.read_magic(file)
            shape, _, _ = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or not 0 <= shape[1] <= min(MOST_WIDTH, size):
        raise ValueError(f"labels of shape {shape} in {size} bytes; expected ({rows}, up to {MOST_WIDTH})")
    return shape[1]
