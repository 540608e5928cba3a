"""What linear forms read of public numbers: between which integers factors are, and which elements an index names.

In go tensors of int64, or indices of torch; out come Python's integers, or the same index for numpy. `filled_like`
returns public tensors of a form's shape, as torch's functions of that name do. A function may be added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def bounds_of(values: torch.Tensor) -> tuple[int, int]:
    """Return the least and the largest number of an int64 tensor, or zeros where it has none."""
    return tuple(map(int, torch.aminmax(values))) if values.numel() else (0, 0)


def size_of(values: torch.Tensor) -> int:
    """Return the largest absolute value of an int64 tensor."""
    low, high = bounds_of(values)
    return max(high, -low)


def array_index(index: Any) -> Any:
    """Return an index of a tensor as one of an array."""
    if isinstance(index, tuple):
        return tuple(array_index(each) for each in index)
    return index.numpy() if isinstance(index, torch.Tensor) else index


def filled_like(value: int | None) -> Callable:
    """Return the function of a form that makes a tensor of its shape, of this number or of the number it is given."""

    def made(form: Any, number: int | None = value, dtype: Any = None) -> torch.Tensor:
        return torch.full(form.shape, number, dtype=torch.int64)

    return made
