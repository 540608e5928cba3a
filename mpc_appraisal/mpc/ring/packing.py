"""Packing of ring elements of fewer than 64 bits into bytes, so that messages are as short as possible.

`pack` takes int64 numbers and returns their low bytes, and `unpack` takes these bytes and returns numbers. A number of
3 bytes is sent as a number of 2 bytes and a number of 1 byte: first the lower pieces of all numbers, then the upper
pieces. So each piece is an array of machine numbers, which is converted in one pass. The layout is a format between the
parties, so that all of them have to run the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}


def width(bits: int) -> int:
    """Return how many bytes a number of `bits` bits takes."""
    return -(-bits // 8)


def _pieces(size: int) -> list[int]:
    """Return the sizes in bytes of the machine numbers that make up `size` bytes."""
    return [piece for piece in (8, 4, 2, 1) if size & piece]


def pack(values: torch.Tensor, size: int) -> torch.Tensor:
    """Return the low `size` bytes of each int64 of `values` (any shape), as a flat uint8 tensor."""
    if values.is_meta:
        return shape_tensor((values.numel() * size,), torch.uint8)
    numbers, planes = values.contiguous().numpy().reshape(-1), []
    for piece in _pieces(size):
        planes.append(numbers.astype(_TYPES[piece]).view(np.uint8))
        if piece < size:
            numbers = numbers >> (8 * piece)
    return torch.from_numpy(np.concatenate(planes) if len(planes) > 1 else planes[0])


def unpack(data: torch.Tensor, shape: Sequence[int], size: int) -> torch.Tensor:
    """Return the int64 numbers, of `shape`, whose low `size` bytes `pack` has put into `data`.

    Below size 8 the numbers are in [0, 2^(8 size)); at size 8 they have all 64 bits.
    """
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
