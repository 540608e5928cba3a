"""Cryptographic randomness: AES-256 in counter mode, with keys from the operating system.

`new_key` draws a key. Two parties with the same key draw the same ring elements (int64) from a `Stream`, and to
everybody else these elements look random. CrypTen draws shares, masks and triples from torch's Mersenne Twister, whose
state follows from a few of its outputs, so a party that knows its own input sees enough of the stream to unmask the
other's input. Nothing of torch's generators is used here, and that has to stay. The cipher, and how a stream is read,
may change only at all parties together.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpc_appraisal.mpc.ring.packing import unpack_array
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

KEY_BYTES = 32
BLOCK_BYTES = 16  # of AES
_CHUNK = 1 << 22
_ZEROS = memoryview(bytes(_CHUNK))


def new_key() -> bytes:
    """Return a new 256-bit key from the operating system."""
    return os.urandom(KEY_BYTES)


class Stream:
    """A stream of uniform ring elements. Two parties with the same key and purpose draw the same elements.

    Args:
        key: The key, of 32 bytes.
        purpose: A word for what the stream is used for. Streams of different purposes are independent, so that a mask
            is never a share of something else.
        start: The number of bytes that are left out at the beginning, so that a stream can be read again from there.

    Attributes:
        position: The number of bytes that were drawn or left out so far.

    Raises ValueError: The key has another length.
    """

    def __init__(self, key: bytes, purpose: str, start: int = 0):
        if len(key) != KEY_BYTES:
            raise ValueError(f"key: got {len(key)} bytes; expected {KEY_BYTES}")
        self._derived, self.position = hmac.new(key, purpose.encode(), hashlib.sha256).digest(), 0
        self.skip(start)

    def skip(self, count: int) -> None:
        """Leave out the next `count` bytes, which nothing draws from this stream any more."""
        self.position += count
        blocks, rest = divmod(self.position, BLOCK_BYTES)
        counter = blocks.to_bytes(BLOCK_BYTES, "big")
        self._cipher = Cipher(algorithms.AES(self._derived), modes.CTR(counter)).encryptor()
        self._cipher.update(bytes(rest))

    def ring(self, shape: Sequence[int], size: int = 8, bits: int | None = None) -> torch.Tensor:
        """Return the next uniform numbers of `size` bytes, as int64 of `shape`.

        Below size 8 the numbers are in [0, 2^(8 size)); at size 8 they have all 64 bits. Where `bits` is stated, the
        numbers are the low `bits` bits of these, in [0, 2^bits).
        """
        numbers = unpack_array(self._drawn(size * math.prod(shape)), shape, size)
        return numbers if bits is None or bits == 8 * size else numbers.bitwise_and_((1 << bits) - 1)

    def octets(self, shape: Sequence[int]) -> torch.Tensor:
        """Return the next uniform bytes, as uint8 of `shape`."""
        return torch.from_numpy(self._drawn(math.prod(shape)).reshape(tuple(shape)))

    def _drawn(self, length: int) -> np.ndarray:
        self.position += length
        out = np.empty(length + 16, dtype=np.uint8)  # the cipher needs a block more than it writes
        view = memoryview(out)
        for start in range(0, length, _CHUNK):
            count = min(_CHUNK, length - start)
            self._cipher.update_into(_ZEROS[:count], view[start : start + count + 16])
        return out[:length]


class DryStream:
    """What stands for a `Stream` in a dry run: it gives shapes without values, and counts bytes in `position`."""

    position = 0

    def ring(self, shape: Sequence[int], size: int = 8, bits: int | None = None) -> torch.Tensor:
        self.position += size * math.prod(shape)
        return shape_tensor(shape)

    def octets(self, shape: Sequence[int]) -> torch.Tensor:
        self.position += math.prod(shape)
        return shape_tensor(shape, torch.uint8)
