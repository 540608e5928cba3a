"""The operations in which plain torch tensors and secret tensors disagree, under one name each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


@singledispatch
def trained(weights: Any) -> Any:
    """Weights (d, C) that training on secrets has made, before rows are multiplied by them; returned as they are.

    Nothing for plain tensors. An engine whose softmax needs a public bound on logits notes them, and before anything is
    opened it checks that they kept it; engines register that for their tensors.
    """
    return weights


class Rows:
    """A data set too large to hold: blocks of rows (x, y), brought in one after the other and forgotten after use."""

    def __init__(self, stream: Callable[[], Iterator[tuple[Any, Any]]]):
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._stream()


def blocks(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """x (n, d) and y (n, C) as blocks of rows; one block where they are held whole."""
    if isinstance(x, Rows):
        yield from x
    else:
        yield x, y
