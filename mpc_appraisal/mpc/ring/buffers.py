"""Memory for large tensors: use `empty` here in place of `torch.empty`.

`empty` returns a tensor whose memory comes from numpy, because numpy asks the kernel for huge pages for large arrays,
and torch does not. The first access to a new torch tensor of 37 MB takes as long as encrypting that tensor; the first
access to a numpy array takes a fifth of that time. Any source of memory may take numpy's place, since no caller depends
on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def empty(shape: Sequence[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Return an uninitialised tensor of `shape`."""
    return torch.from_numpy(np.empty(tuple(shape), torch.empty(0, dtype=dtype).numpy().dtype))
