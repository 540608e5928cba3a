"""A seller's upload: one file of ciphertexts and sealed labels, signed by the seller.

    line 1   mpc_appraisal sealed upload 1
    line 2   JSON: seller, scheme, key_id, dimension, image, rows, upload_id, digest = SHA-512 of the payload
    line 3   Ed25519 signature, in hex, of lines 1 and 2
    payload  npz (no pickles): body, header, labels

Ciphertexts of either scheme are malleable, so nothing beyond line 2 is parsed before signature and digest hold.
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mpc_appraisal.errors import InputError
from mpc_appraisal.protocols.ife.labels import open_label, seal_labels
from mpc_appraisal.protocols.ife.scheme import Ciphertext, EncryptionKey, Scheme, check_mine, check_pixels

_MAGIC = b"mpc_appraisal sealed upload "
_VERSION = b"1"
_LINE = 1 << 16
_ID_BYTES = 16
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


def read_upload(path: Path, seller: str, verify_key: bytes, scheme: Scheme) -> Upload:
    """The upload, once it is shown to be `seller`'s own, whole, of this version and of `scheme`.

    Raises:
        InputError: it names the seller, what the file is, and what was expected.
    """
    name = f"upload of {seller}"
    try:
        with open(path, "rb") as file:
            first, second, third = (file.readline(_LINE) for _ in range(3))
            payload = file.read()
    except OSError as error:
        raise InputError(name, f"no file that can be read ({type(error).__name__})", "a sealed upload") from None
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
    if hashlib.sha512(payload).hexdigest() != claimed["digest"]:
        raise InputError(name, f"{len(payload)} altered or cut bytes", "the bytes that the seller signed")
    if claimed["scheme"] != scheme.name:
        raise InputError(name, f"scheme {claimed['scheme'][:80]}", f"scheme {scheme.name}")
    upload = _parse(name, claimed, payload)
    scheme.check_ciphertext(upload.ciphertext)
    return upload


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


def _parse(name: str, facts: dict, payload: bytes) -> Upload:
    """Signed, so the seller's own; yet a seller may err, and shapes are checked against what it says."""
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            body, header, labels = (arrays[key] for key in ("body", "header", "labels"))
        image = tuple(map(operator.index, facts["image"]))
        rows, dimension = (operator.index(facts[key]) for key in ("rows", "dimension"))
        upload_id = bytes.fromhex(facts["upload_id"])
    except Exception as error:  # zip, its decompressors and npy raise of many kinds on what is none of theirs
        raise InputError(name, f"a payload that cannot be read ({type(error).__name__})", "a sealed upload") from None
    matrices = header.ndim == labels.ndim == 2 and len(header) == len(labels) == rows and labels.dtype == np.uint8
    if body.shape[:2] != (rows, dimension) or not matrices:
        raise InputError(
            name,
            f"body {body.shape}, header {header.shape}, labels {labels.shape}",
            f"{rows} rows of dimension {dimension}",
        )
    if len(image) != 3 or math.prod(image) != dimension:
        raise InputError(name, f"image {image}", f"three sides with product {dimension}")
    if len(upload_id) != _ID_BYTES:
        raise InputError(name, f"an id of {len(upload_id)} bytes", f"{_ID_BYTES}")
    ciphertext = Ciphertext(facts["scheme"], header, body, facts["key_id"])
    return Upload(facts["seller"], image, upload_id, ciphertext, labels)
