"""Operations on which plain torch tensors and secret tensors differ, under one name each.

Methods call them with tensors of any session: plain tensors, CrypTen's or the engine's. Engines register their own
versions for their tensor types. Nothing here imports an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch
from typing import Any

import torch


def cat(tensors: Sequence[Any]) -> Any:
    """Return the rows of several tensors (n_i, k) in one tensor. Plain, private and shared ones may be mixed."""
    if len(tensors) == 1:
        return tensors[0]
    kinds = [t for t in tensors if not isinstance(t, torch.Tensor)]
    return join(kinds[0], tensors) if kinds else torch.cat(list(tensors))


@singledispatch
def join(first: Any, tensors: Sequence[Any]) -> Any:
    """Do `cat` for the type of secret tensor that `first` is. Engines register theirs."""
    raise TypeError(f"cat: got {type(first).__name__}; expected tensors of one engine")


def level(tensors: Sequence[Any]) -> list[Any]:
    """Return the tensors with the fewest fractional bits that one of them has, so that `cat` shifts none up."""
    bits = [t.bits for t in tensors if hasattr(t, "bits")]
    return [t.to_bits(min(bits)) for t in tensors] if bits else list(tensors)


@singledispatch
def record_weights(weights: Any) -> Any:
    """Record weights (d, C) that training on secrets has made, before rows are multiplied by them. Returns them.

    An engine whose softmax needs a public bound on logits keeps them, and checks before anything is opened that they
    kept the bound. Plain tensors are not recorded.
    """
    return weights


@singledispatch
def negative(value: Any) -> Any:
    """Return 1 where `value` is below zero and 0 elsewhere. It is exact, and secret if `value` is."""
    return (value < 0).to(torch.float64)


@singledispatch
def choose(bit: Any, value: Any) -> Any:
    """Return bit * value, broadcast, for a `bit` of 0 and 1 as `negative` returns it. It is exact."""
    return bit * value


@singledispatch
def high_precision(value: Any) -> Any:
    """Return a private number as a secret one with more fractional bits than a product would have.

    Its absolute value must be at most 2^15.
    """
    return value


class RowBlocks:
    """A data set that is too large for memory, as blocks of rows (x, y) that are brought in one after the other."""

    def __init__(self, stream: Callable[[], Iterator[tuple[Any, Any]]]):
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._stream()


def blocks(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Return x (n, d) and y (n, C) as blocks of rows; a data set that is in memory is one block."""
    if isinstance(x, RowBlocks):
        yield from x
    else:
        yield x, y


class Tape:
    """Automatic differentiation, under the same names for all tensors.

    This one is torch's for plain tensors, and CrypTen's for its tensors. The engine has its own in
    `protocols.crypten_adapter`. The inputs of `product` and `log_softmax` may be in several blocks of rows.
    """

    def constant(self, value: Any) -> Any:
        """Return the value as a constant of the differentiation."""
        return value

    def leaf(self, value: Any) -> Any:
        """Return the value as a variable, which has a `grad` after `backward` of what is computed from it."""
        leaf = value.detach().clone()
        leaf.requires_grad = True
        return leaf

    def product(self, inputs: Sequence[Any], weights: Any) -> Any:
        """Return inputs of a session (n_i, d) times weights (d, k), differentiable in the weights alone."""
        return cat(inputs).matmul(weights)

    def softmax(self, logits: Any) -> Any:
        """Return probabilities (n, C), not differentiated. `backward` starts from them less the labels."""
        return logits.detach().softmax(1)

    def log_softmax(self, logits: Sequence[Any]) -> Any:
        """Return the log-softmax of logits (n_i, C), not differentiated, for products with inputs of a session."""
        return cat([each.detach() for each in logits]).log_softmax(1)


@singledispatch
def tape(value: Any) -> Tape:
    """Return the differentiation for tensors of the type of `value`. Backends register theirs."""
    return Tape()
