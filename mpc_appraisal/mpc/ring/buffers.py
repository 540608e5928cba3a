"""Memory for large tensors.

numpy asks the kernel for huge pages where an array is large, torch does not: the first touch of a fresh torch tensor of
37 MB takes as long as encrypting it, that of a numpy array a fifth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def empty(shape: Sequence[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """An uninitialised tensor."""
    return torch.from_numpy(np.empty(tuple(shape), torch.empty(0, dtype=dtype).numpy().dtype))
