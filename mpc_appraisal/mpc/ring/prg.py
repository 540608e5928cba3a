"""Cryptographic randomness: AES-256 in counter mode, keys from the operating system.

CrypTen draws shares, masks and triples from torch's Mersenne Twister, whose whole state follows from a few of its
outputs: a party that knows its own input sees enough of the stream to unmask the other's. Here every ring element comes
from an AES-CTR keystream, and nothing of torch's generators is used.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Sequence

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpc_appraisal.mpc.ring.packing import unpack
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

KEY_BYTES = 32
_CHUNK = 1 << 22
_ZEROS = memoryview(bytes(_CHUNK))


def new_key() -> bytes:
    """A fresh 256-bit key from the operating system."""
    return os.urandom(KEY_BYTES)


class Stream:
    """A stream of uniform ring elements; two parties with one key and one purpose draw the same ones.

    Args:
        key: 32 bytes.
        purpose: streams of different purpose are independent, so that a mask is never a share of something else.
    """

    def __init__(self, key: bytes, purpose: str):
        if len(key) != KEY_BYTES:
            raise ValueError(f"key: got {len(key)} bytes; expected {KEY_BYTES}")
        derived = hmac.new(key, purpose.encode(), hashlib.sha256).digest()
        self._cipher = Cipher(algorithms.AES(derived), modes.CTR(bytes(16))).encryptor()

    def ring(self, shape: Sequence[int], size: int = 8) -> torch.Tensor:
        """Uniform numbers of `size` bytes as int64 of `shape`: in [0, 2^(8 size)); all 64 bits of size 8."""
        shape = tuple(shape)
        length = size * int(np.prod(shape, dtype=np.int64))
        out = np.empty(length + 16, dtype=np.uint8)  # the cipher wants room for a block beyond what it writes
        view = memoryview(out)
        for start in range(0, length, _CHUNK):
            part = min(_CHUNK, length - start)
            self._cipher.update_into(_ZEROS[:part], view[start : start + part + 16])
        return unpack(torch.from_numpy(out[:length]), shape, size)


class DryStream:
    """Shapes only, for a dry run."""

    def ring(self, shape: Sequence[int], size: int = 8) -> torch.Tensor:
        return shape_tensor(shape)
