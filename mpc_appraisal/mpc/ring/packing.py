"""Packing of ring elements of fewer than 64 bits into bytes, so that messages are as short as possible.

`pack` returns the low bytes of int64 numbers, and `unpack` the numbers. A number of 3 bytes is sent as one of 2 bytes
and one of 1 byte: first the lower pieces of all numbers, then the upper ones. So each piece is an array of machine
numbers, which is converted in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}


def width(bits: int) -> int:
    """Return the number of bytes for a number of `bits` bits."""
    return -(-bits // 8)


def _pieces(size: int) -> list[int]:
    """Return the sizes in bytes of the machine numbers that make up `size` bytes."""
    return [piece for piece in (8, 4, 2, 1) if size & piece]


def pack(values: torch.Tensor, size: int) -> torch.Tensor:
    """Return the low `size` bytes of each int64, as a flat uint8 tensor."""
    if values.is_meta:
        return shape_tensor((values.numel() * size,), torch.uint8)
    numbers, planes = values.contiguous().numpy().reshape(-1), []
    for piece in _pieces(size):
        planes.append(numbers.astype(_TYPES[piece]).view(np.uint8))
        if piece < size:
            numbers = numbers >> (8 * piece)
    return torch.from_numpy(np.concatenate(planes) if len(planes) > 1 else planes[0])


def unpack(data: torch.Tensor, shape: Sequence[int], size: int) -> torch.Tensor:
    """Return int64 of `shape` from their low `size` bytes: in [0, 2^(8 size)) below size 8, and all 64 bits at 8."""
    if data.is_meta:
        return shape_tensor(shape)
    raw, count, total, start, shift = data.numpy(), math.prod(shape), None, 0, 0
    for piece in _pieces(size):
        plane = np.ndarray((count,), _TYPES[piece], raw, start)
        if total is None:
            total = plane.astype(np.int64)
        else:
            total |= plane.astype(np.int64) << shift
        start, shift = start + count * piece, shift + 8 * piece
    return torch.from_numpy(total.reshape(tuple(shape)))
