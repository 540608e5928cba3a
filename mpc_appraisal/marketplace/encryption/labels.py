"""Encrypts each label of an upload under a key of its own, so that the shopper can read those of the rows it buys.

    key_i = HKDF-SHA256(label secret, salt = upload id, info = purpose | i)
    sealed_i = AES-256-GCM(key_i, label_i)                                       16 bytes more than the label

In go labels at the seller, or a sealed label i and its key at the shopper; out come sealed labels, or the label. The
seller and the authority know the label secret. The seller encrypts the labels, and the authority issues keys for single
rows to the shopper. The id of each upload is fresh, so that a key encrypts one label only and the nonce may be
constant. Keys for other uses have another purpose, so that whoever states an id cannot obtain a key for another use.

A purpose may be added to PURPOSES. The derivation of keys and the cipher have to stay, because sealed labels are kept;
and an id must never be used for two uploads. Reference: HKDF is RFC 5869.
"""

from __future__ import annotations

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError

TAG_BYTES = 16
PURPOSES = ("label", "pad")
_NONCE = bytes(12)


def label_key(secret: bytes, upload_id: bytes, index: int, purpose: str = "label") -> bytes:
    """Return the key (32 bytes) of the label of row `index`. Raises InputError unless `purpose` is one of PURPOSES."""
    one_of("purpose", purpose, PURPOSES)
    return HKDF(SHA256(), 32, salt=upload_id, info=purpose.encode() + index.to_bytes(8, "big")).derive(secret)


def seal_labels(secret: bytes, upload_id: bytes, labels: np.ndarray) -> np.ndarray:
    """Encrypt labels 0..255, which are (n,) or (n, L), and return them as (n, L + 16) uint8, where L is 1 for (n,).

    Args:
        secret: the label secret of seller and authority.
        upload_id: the fresh id of the upload.
        labels: the labels.

    Raises InputError where the labels are not whole numbers 0..255 of such a shape.
    """
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError("labels", f"{labels.dtype} {labels.shape}", "whole numbers, (n,) or (n, L)")
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise InputError("labels", f"{labels.min()}..{labels.max()}", "0..255")
    width = labels.shape[1] if labels.ndim == 2 else 1
    packed = labels.astype(np.uint8).reshape(len(labels), width)
    sealed = b"".join(
        AESGCM(label_key(secret, upload_id, index)).encrypt(_NONCE, row.tobytes(), None)
        for index, row in enumerate(packed)
    )
    return np.frombuffer(sealed, dtype=np.uint8).reshape(len(packed), width + TAG_BYTES)


def open_label(seller: str, sealed: np.ndarray, index: int, key: bytes) -> np.ndarray:
    """Decrypt one label by its key, and return it, (L,) uint8.

    Args:
        seller: the seller's name, for errors.
        sealed: the encrypted label, (L + 16,) uint8.
        index: the number of the row, for errors.
        key: the key of this row, 32 bytes.

    Raises InputError, which names the seller and the row, where the key is not that of this row.
    """
    try:
        return np.frombuffer(AESGCM(key).decrypt(_NONCE, sealed.tobytes(), None), dtype=np.uint8)
    except (InvalidTag, ValueError):
        raise InputError(
            f"label {index} of {seller}", "a key that does not open it", "the key the authority gives for this row"
        ) from None
