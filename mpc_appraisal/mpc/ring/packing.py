"""Packing of ring elements of fewer than 64 bits into bytes, so that messages are as short as possible.

`pack` takes int64 numbers and returns their low bytes, and `unpack` takes these bytes and returns numbers. A number of
3 bytes is sent as a number of 2 bytes and a number of 1 byte: first the lower pieces of all numbers, then the upper
pieces. So each piece is an array of machine numbers, which is converted in one pass. The layout is a format between the
parties, so that all of them have to run the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch

from mpc_appraisal.mpc.ring.kernels import loops
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}


def width(bits: int) -> int:
    """Return how many bytes a number of `bits` bits takes."""
    return -(-bits // 8)


def _pieces(size: int) -> list[int]:
    """Return the sizes in bytes of the machine numbers that make up `size` bytes."""
    return [piece for piece in (8, 4, 2, 1) if size & piece]


def pack(values: torch.Tensor, size: int, less: torch.Tensor | None = None) -> torch.Tensor:
    """Return the low `size` bytes of each int64 of `values` (any shape), as a flat uint8 tensor.

    Where `less` is given, an int64 tensor of the same shape, it is subtracted first.
    """
    if values.is_meta:
        return shape_tensor((values.numel() * size,), torch.uint8)
    compiled = loops(values.numel())
    if compiled is not None and values.dtype == torch.int64 and (less is None or less.shape == values.shape):
        return _pack_compiled(compiled, values, size, less)
    if less is not None:
        values = values - less
    numbers, planes = values.contiguous().numpy().reshape(-1), []
    for piece in _pieces(size):
        planes.append(numbers.astype(_TYPES[piece]).view(np.uint8))
        if piece < size:
            numbers = numbers >> (8 * piece)
    return torch.from_numpy(np.concatenate(planes) if len(planes) > 1 else planes[0])


def _pack_compiled(compiled: ModuleType, values: torch.Tensor, size: int, less: torch.Tensor | None) -> torch.Tensor:
    numbers, count, start = flat(values), values.numel(), 0
    out = np.empty(count * size, np.uint8)
    for piece in _pieces(size):
        plane = _plane(out, count, piece, start)
        if less is None:
            compiled.cut(numbers, 8 * start // max(count, 1), plane)
        else:
            compiled.cut_difference(numbers, flat(less), 8 * start // max(count, 1), plane)
        start += count * piece
    return torch.from_numpy(out)


def flat(values: torch.Tensor) -> np.ndarray:
    """Return the numbers of a tensor as a numpy array of one dimension, without a copy if they lie in order."""
    return values.contiguous().numpy().reshape(-1)


def _plane(raw: np.ndarray, count: int, piece: int, start: int) -> np.ndarray:
    """Return the `count` machine numbers of `piece` bytes from place `start` of the bytes `raw` on, as a view."""
    return np.ndarray((count,), _TYPES[piece], raw, start)


def unpack(data: torch.Tensor, shape: Sequence[int], size: int) -> torch.Tensor:
    """Return the int64 numbers, of `shape`, whose low `size` bytes `pack` has put into `data`.

    Below size 8 the numbers are in [0, 2^(8 size)); at size 8 they have all 64 bits.
    """
    if data.is_meta:
        return shape_tensor(shape)
    raw, count, total, start = data.numpy(), math.prod(shape), None, 0
    compiled = loops(count) if size < 8 else None
    for piece in _pieces(size):
        plane, shift = _plane(raw, count, piece, start), 8 * start // max(count, 1)
        if compiled is not None:
            total = _joined(compiled, plane, total, shift)
        elif total is None:
            total = plane.astype(np.int64)
        else:
            total |= plane.astype(np.int64) << shift
        start += count * piece
    return torch.from_numpy(total.reshape(tuple(shape)))


def _joined(compiled: ModuleType, plane: np.ndarray, low: np.ndarray | None, shift: int) -> np.ndarray:
    """Return low + (plane << shift); without `low`, the plane itself as int64."""
    out = np.empty(len(plane), np.int64) if low is None else low
    aligned = plane if plane.flags.aligned else plane.copy()
    compiled.join(aligned, shift, low is None, out)
    return out
