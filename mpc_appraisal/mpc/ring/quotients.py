"""Quotients of ring elements that are read as unsigned numbers, element by element.

torch's int64 tensors are signed, and torch does not divide unsigned 64-bit numbers; numpy does. In go an int64 tensor
and a public whole number, and out comes an int64 tensor. `protocols.public_division` and the dealer both divide by this
one function, and have to.
"""

from __future__ import annotations

import numpy as np
import torch


def unsigned_quotient(x: torch.Tensor, divisor: int) -> torch.Tensor:
    """Return floor(x / divisor) for x read as unsigned 64-bit numbers; a tensor of a dry run is returned as it is."""
    if x.is_meta:
        return x
    quotient = np.ascontiguousarray(x.numpy()).view(np.uint64) // np.uint64(divisor)
    return torch.from_numpy(quotient.view(np.int64)).reshape(x.shape)
