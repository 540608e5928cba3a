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

_BLOCK = 1 << 16  # so many numbers are masked at once, which stay in the processor's cache
_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}


def width(bits: int) -> int:
    """Return how many bytes a number of `bits` bits takes."""
    return -(-bits // 8)


# For each size, the machine numbers that make it up: their type, their bytes, and the bytes before them in a number.
_PIECES = {
    size: [(_TYPES[piece], piece, size & ~(2 * piece - 1)) for piece in (8, 4, 2, 1) if size & piece]
    for size in range(1, 9)
}


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
    for kind, piece, _ in _PIECES[size]:
        planes.append(numbers.astype(kind).view(np.uint8))
        if piece < size:
            numbers = numbers >> (8 * piece)
    return torch.from_numpy(np.concatenate(planes) if len(planes) > 1 else planes[0])


def _pack_compiled(compiled: ModuleType, values: torch.Tensor, size: int, less: torch.Tensor | None) -> torch.Tensor:
    out = np.empty(values.numel() * size, np.uint8)
    planes, numbers, less = pieces_of(out, values.numel(), size), flat(values), None if less is None else flat(less)
    if len(planes) == 2:
        (low, _), (high, shift) = planes
        if less is None:
            compiled.cut_twice(numbers, shift, low, high)
        else:
            compiled.cut_difference_twice(numbers, less, shift, low, high)
        return torch.from_numpy(out)
    for plane, shift in planes:
        if less is None:
            compiled.cut(numbers, shift, plane)
        else:
            compiled.cut_difference(numbers, less, shift, plane)
    return torch.from_numpy(out)


def flat(values: torch.Tensor) -> np.ndarray:
    """Return the numbers of a tensor as a numpy array of one dimension, without a copy if they lie in order."""
    return values.numpy().reshape(-1)


def pieces_of(raw: np.ndarray, count: int, size: int) -> list[tuple[np.ndarray, int]]:
    """Return views of the machine numbers that `raw`, the bytes of `count` numbers, is made of, and their shifts."""
    return [(np.ndarray((count,), kind, raw, before * count), 8 * before) for kind, _, before in _PIECES[size]]


def mask_packed(masks: torch.Tensor, values: torch.Tensor, size: int) -> torch.Tensor:
    """Return the low `size` bytes (5 or 6) of values - masks, as `pack` does, in place of the packed `masks`."""
    if values.is_meta:
        return masks
    if masks.data_ptr() % 4:
        masks = masks.clone()
    numbers = flat(values.contiguous())
    (low, _), (high, shift) = pieces_of(masks.numpy(), len(numbers), size)
    compiled = loops(len(numbers))
    if compiled is not None:
        compiled.mask_twice(numbers, low, high, shift)
        return masks
    for start in range(0, len(numbers), _BLOCK):
        part = slice(start, start + _BLOCK)
        found = numbers[part].astype(np.int64) - (low[part].astype(np.int64) | high[part].astype(np.int64) << shift)
        low[part], high[part] = found.astype(low.dtype), (found >> shift).astype(high.dtype)
    return masks


def unpack(data: torch.Tensor, shape: Sequence[int], size: int) -> torch.Tensor:
    """Return the int64 numbers, of `shape`, whose low `size` bytes `pack` has put into `data`.

    Below size 8 the numbers are in [0, 2^(8 size)). At size 8 they have all 64 bits, and lie in the memory of `data`
    where its address allows that: a matrix of random numbers is not copied.
    """
    return shape_tensor(shape) if data.is_meta else unpack_array(data.numpy(), shape, size)


def unpack_all(data: torch.Tensor, shapes: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[torch.Tensor]:
    """Return the numbers, of each shape, that follow one another in `data`, of so many bytes a number; see `unpack`."""
    found, start = [], 0
    for shape, size in zip(shapes, sizes, strict=True):
        end = start + math.prod(shape) * size
        found.append(unpack(data[start:end], shape, size))
        start = end
    return found


def unpack_array(raw: np.ndarray, shape: Sequence[int], size: int) -> torch.Tensor:
    """Do what `unpack` does, for bytes in a numpy array."""
    count = math.prod(shape)
    planes = pieces_of(raw, count, size)
    first = planes[0][0]
    if size == 8 and first.flags.aligned:
        return torch.from_numpy(first.reshape(tuple(shape)))
    compiled = loops(count) if size < 8 else None
    if compiled is not None:
        return torch.from_numpy(_unpack_compiled(compiled, planes, count).reshape(tuple(shape)))
    total = first.astype(np.int64)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        for plane, shift in planes[1:]:
            total[part] |= plane[part].astype(np.int64) << shift
    return torch.from_numpy(total.reshape(tuple(shape)))


def _unpack_compiled(compiled: ModuleType, planes: list[tuple[np.ndarray, int]], count: int) -> np.ndarray:
    out = np.empty(count, np.int64)
    if not planes[0][0].flags.aligned:  # the pieces shrink, so that all are aligned if the first one is
        planes = [(plane.copy(), shift) for plane, shift in planes]
    if len(planes) == 1:
        compiled.join(planes[0][0], 0, True, out)
        return out
    compiled.join_twice(planes[0][0], *planes[1], out)
    for plane, shift in planes[2:]:
        compiled.join(plane, shift, False, out)
    return out
