"""Ring elements of fewer than 64 bits as bytes, for messages that carry no more than they must.

A number of 3 bytes is sent as one of 2 and one of 1: the lower parts of all numbers, then the upper ones. So each part
is an array of machine numbers, converted in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

_TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.int64}


def width(bits: int) -> int:
    """Bytes of a number of `bits` bits."""
    return -(-bits // 8)


def _parts(size: int) -> list[int]:
    return [part for part in (8, 4, 2, 1) if size & part]


def pack(values: torch.Tensor, size: int) -> torch.Tensor:
    """The low `size` bytes of each int64, as a flat uint8 tensor."""
    if values.is_meta:
        return shape_tensor((values.numel() * size,), torch.uint8)
    numbers, planes = values.contiguous().numpy().reshape(-1), []
    for part in _parts(size):
        planes.append(numbers.astype(_TYPES[part]).view(np.uint8))
        if part < size:
            numbers = numbers >> (8 * part)
    return torch.from_numpy(np.concatenate(planes) if len(planes) > 1 else planes[0])


def unpack(data: torch.Tensor, shape: Sequence[int], size: int) -> torch.Tensor:
    """int64 of `shape` in [0, 2^(8 size)) from their low `size` < 8 bytes; all 64 bits where size is 8."""
    if data.is_meta:
        return shape_tensor(shape)
    raw, count, total, start, shift = data.numpy(), math.prod(shape), None, 0, 0
    for part in _parts(size):
        plane = np.ndarray((count,), _TYPES[part], raw, start)
        if total is None:
            total = plane.astype(np.int64)
        else:
            total |= plane.astype(np.int64) << shift
        start, shift = start + count * part, shift + 8 * part
    return torch.from_numpy(total.reshape(tuple(shape)))
