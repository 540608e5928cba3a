"""The operations in which plain torch tensors and secret tensors disagree, under one name each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import torch


def cat(tensors: Sequence[Any]) -> Any:
    """Rows of several tensors (n_i, k), one after the other; plain, private and shared ones may be mixed."""
    if len(tensors) == 1:
        return tensors[0]
    kinds = [t for t in tensors if not isinstance(t, torch.Tensor)]
    return join(kinds[0], tensors) if kinds else torch.cat(list(tensors))


@singledispatch
def join(first: Any, tensors: Sequence[Any]) -> Any:
    """`cat` for the kind of secret tensor that `first` is; engines register theirs."""
    raise TypeError(f"cat: got {type(first).__name__}; expected tensors of one engine")
