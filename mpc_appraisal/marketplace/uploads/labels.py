"""Sealed labels, which can be opened to the shopper, or be used although nobody opens them.

The seller seals a share of each label y_i when it uploads; C is the number of classes, i the number of a row, and PRG
the project's generator of random ring elements:

    pad_i = PRG(key'_i) in Z_{2^64}^C
    share_i = 2^39 onehot(y_i) - pad_i,    sealed_i = AES-GCM(key_i, nonce | share_i)

Both key_i and key'_i are derived from the label secret, which seller and authority know, for two purposes, and key'_i
also from the upload's fresh nonce. Whoever is given both keys has the label. If one party is given key_i and another
party key'_i, the two hold additive shares, mod 2^64, of the one-hot label, in the fixed point of the lattice scheme's
products, and nobody has the label.

In go labels at the seller, and opened rows or keys at the roles; out come shares, pads and labels. The layout of a
sealed row (16 bytes of nonce, then 8 C bytes of shares) and the purposes have to stay, because sellers' files are
written once and kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.labels import label_key
from mpc_appraisal.marketplace.encryption.lwe import FRACTION_BITS
from mpc_appraisal.mpc.ring.prg import Stream

NONCE_BYTES = 16
ONE = 1 << FRACTION_BITS  # what stands for 1 in a one-hot label


def pads(keys: Sequence[bytes], classes: int) -> Tensor:
    """Expand the keys of n pads, 32 bytes each, to the pads (n, C) int64, which are elements of the ring mod 2^64."""
    rows = [Stream(key, "label pad").ring((classes,)) for key in keys]
    return torch.stack(rows) if rows else torch.empty((0, classes), dtype=torch.int64)


def check_labels(y: np.ndarray, classes: int, rows: int, seller: str) -> None:
    """Raise InputError, which names the seller, unless `y` has a whole number 0 .. classes - 1 for each row."""
    expected = f"a whole number 0..{classes - 1} for each of {rows} rows"
    if y.shape != (rows,) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"labels of {seller}", f"{y.dtype} {y.shape}", expected)
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise InputError(f"labels of {seller}", f"{y[wrong[0]]} in row {wrong[0]}{more}", expected)


def label_shares(y: np.ndarray, classes: int, secret: bytes) -> np.ndarray:
    """Turn labels (n,) into what the seller seals, (n, 16 + 8 C) uint8: the nonce, then the shares.

    Args:
        y: the labels, (n,) integers in 0 .. C - 1.
        classes: the number C of classes.
        secret: the label secret of seller and authority.

    The labels have to be checked already, see `check_labels`.
    """
    nonce = os.urandom(NONCE_BYTES)
    onehot = functional.one_hot(torch.from_numpy(y.astype(np.int64)), classes)
    keys = [label_key(secret, nonce, index, "pad") for index in range(len(y))]
    shares = (onehot * ONE - pads(keys, classes)).numpy().view(np.uint8)
    return np.concatenate([np.tile(np.frombuffer(nonce, dtype=np.uint8), (len(y), 1)), shares], axis=1)


def shares_of(opened: np.ndarray, classes: int, seller: str) -> tuple[bytes, Tensor]:
    """Read the nonce and the shares (n, C) int64 from opened rows.

    Args:
        opened: the rows that the seller sealed, after decryption, (n, 16 + 8 C) uint8.
        classes: the number C of classes.
        seller: the seller's name, for errors.

    Raises InputError for rows of another form, and for rows with different nonces.
    """
    if opened.ndim != 2 or opened.shape[1] != NONCE_BYTES + 8 * classes or not len(opened):
        raise InputError(f"labels of {seller}", f"opened as {opened.shape}", f"(rows, {NONCE_BYTES + 8 * classes})")
    nonces = {row.tobytes() for row in opened[:, :NONCE_BYTES]}
    if len(nonces) != 1:
        raise InputError(f"labels of {seller}", f"{len(nonces)} nonces", "one")
    return nonces.pop(), torch.from_numpy(np.ascontiguousarray(opened[:, NONCE_BYTES:]).view(np.int64))


def joined(shares: Tensor, pads: Tensor, seller: str) -> Tensor:
    """Add shares and pads, both (n, C) int64, and return the labels (n,).

    Raises InputError, which names the seller, where a row is no one-hot vector.
    """
    total = shares + pads
    if not bool((((total == 0) | (total == ONE)).all(1) & (total.sum(1) == ONE)).all()):
        raise InputError(f"labels of {seller}", "a row that is no label", "one class of each row")
    return total.argmax(1)
