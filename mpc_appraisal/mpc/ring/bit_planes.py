"""Bit planes: the bits of many numbers as one array a place, so that one operation on bytes computes on eight bits.

    plane k of the numbers v_0, v_1, ...: bit k of v_0 is the lowest bit of its first byte, that of v_1 the next one

In go numbers (int64, read mod 2^64), and out come planes (uint8, one row a place), or the reverse for a single plane.
`digit_indicators` and `look_up` are what a comparison needs of the digits of numbers: a digit is a group of `width`
neighbouring places, and an indicator is a bit that is 1 where a digit has one certain value. Everything is exact, and
every function is linear over the two-element field (GF(2)) in what may be shared by exclusive or.

The last byte of a plane has unused bits, if the number of elements is no multiple of eight; callers ignore them. The
order of the bits is a format between the parties, so that all of them have to run the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

# A square of 8 by 8 bits in a word is transposed by exchanging its halves at three sizes (Knuth, TAOCP 7.1.3).
_EXCHANGES = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
_BLOCK = 1 << 11  # so many bytes of each plane are looked up at once, which stay in the processor's cache


def plane_bytes(count: int) -> int:
    """Return how many bytes one plane of `count` numbers takes."""
    return -(-count // 8)


def planes_of(values: torch.Tensor, bits: int) -> np.ndarray:
    """Return the planes (bits, plane_bytes) of the lowest `bits` bits of int64 `values` of any shape."""
    flat = values.contiguous().numpy().reshape(-1)
    size, length = -(-bits // 8), plane_bytes(len(flat))
    octets = np.zeros((size, 8 * length), np.uint8)
    for k in range(size):  # shifts are faster than copies of single bytes
        octets[k, : len(flat)] = flat >> (8 * k)
    words = octets.view("<u8")  # byte k of eight neighbouring numbers
    for shift, mask in _EXCHANGES:
        moved = (words ^ (words >> np.uint64(shift))) & np.uint64(mask)
        words = words ^ moved ^ (moved << np.uint64(shift))
    planes = np.empty((size, 8, length), np.uint8)
    for k in range(8):
        planes[:, k] = words >> np.uint64(8 * k)
    return planes.reshape(8 * size, length)[:bits]


def octets(planes: np.ndarray) -> torch.Tensor:
    """Return planes as a tensor in the same memory. What is no array, such as a linear form, stays as it is."""
    return torch.from_numpy(planes) if isinstance(planes, np.ndarray) else planes


def bits_of(plane: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
    """Return the bits of one plane as int64 numbers 0 and 1 of `shape`."""
    count = int(np.prod(tuple(shape), dtype=np.int64))
    return torch.from_numpy(np.unpackbits(plane, count=count, bitorder="little").astype(np.int64)).reshape(tuple(shape))


def digits_of(planes: np.ndarray, width: int) -> np.ndarray:
    """Return planes (bits, n) as digits (width, number of digits, n), the lowest digit first; the highest is padded."""
    count = -(-len(planes) // width)
    padded = np.zeros((count * width, planes.shape[1]), np.uint8)
    padded[: len(planes)] = planes
    return padded.reshape(count, width, planes.shape[1]).transpose(1, 0, 2)


def digit_indicators(digits: np.ndarray) -> np.ndarray:
    """Return the indicators (2^width, number of digits, n) of public `digits` (width, number of digits, n).

    Row j is 1 where the digit is j.
    """
    found = np.full((1, *digits.shape[1:]), 255, np.uint8)
    for bit in digits:
        found = np.concatenate([found & ~bit, found & bit])
    return found


def look_up(public: np.ndarray, shared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare public digits with digits whose indicators are shared by exclusive or.

    Args:
        public: the public digits (width, number of digits, n).
        shared: one share of the indicators (2^width, number of digits, m) of the other digits. These are compared with
            n / m sets of public digits, which follow one another.

    Returns two shares (number of digits, n): of the bits [public < shared], and of the bits [public = shared].
    """
    if shared.shape[2] != public.shape[2]:
        shared = np.tile(shared, (1, 1, public.shape[2] // shared.shape[2]))
    less, equal = (np.empty(shared.shape[1:], np.uint8) for _ in range(2))
    for start in range(0, shared.shape[2], _BLOCK):
        block = slice(start, start + _BLOCK)
        less[:, block], equal[:, block] = _selected(public[:, :, block], shared[:, :, block])
    return less, equal


def _selected(public: np.ndarray, indicators: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what `look_up` returns, by halving the possible digits with each bit of the public digit."""
    less, equal, within = None, indicators, indicators  # of the bits so far, for each setting of the bits above them
    for bit in public:
        clear, above = ~bit, within[1::2]
        less = above & clear if less is None else ((less[::2] ^ above) & clear) | (less[1::2] & bit)
        equal = (equal[::2] & clear) | (equal[1::2] & bit)
        within = within[::2] ^ above
    return less[0], equal[0]
