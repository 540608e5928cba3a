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


def level(tensors: Sequence[Any]) -> list[Any]:
    """The same values with as few fractional bits as the coarsest of them has, so that `cat` does not shift any up."""
    bits = [t.bits for t in tensors if hasattr(t, "bits")]
    return [t.to_bits(min(bits)) for t in tensors] if bits else list(tensors)


@singledispatch
def record_weights(weights: Any) -> Any:
    """Weights (d, C) that training on secrets has made, before rows are multiplied by them; returned as they are.

    Nothing for plain tensors. An engine whose softmax needs a public bound on logits notes them, and before anything is
    opened it checks that they kept it; engines register that for their tensors.
    """
    return weights


@singledispatch
def negative(value: Any) -> Any:
    """1 where `value` is below zero, 0 elsewhere; secret where `value` is. Exact."""
    return (value < 0).to(torch.float64)


@singledispatch
def choose(bit: Any, value: Any) -> Any:
    """bit * value, broadcast, for a `bit` of 0 and 1 as `negative` makes them; exact, with all bits of `value`."""
    return bit * value


@singledispatch
def high_precision(value: Any) -> Any:
    """A private number, at most 2^15 in absolute value, as a secret one that has more fractional bits than a product
    would give it."""
    return value


class RowBlocks:
    """A data set too large to hold: blocks of rows (x, y), brought in one after the other and forgotten after use."""

    def __init__(self, stream: Callable[[], Iterator[tuple[Any, Any]]]):
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._stream()


def blocks(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """x (n, d) and y (n, C) as blocks of rows; one block where they are held whole."""
    if isinstance(x, RowBlocks):
        yield from x
    else:
        yield x, y


class Tape:
    """Automatic differentiation under one name each: torch's for plain tensors, CrypTen's for its own.

    The engine has one of its own, see `bridge`.
    """

    def constant(self, value: Any) -> Any:
        """As what this differentiates."""
        return value

    def leaf(self, value: Any) -> Any:
        """The same value with a `grad` after a `backward` from what is computed of it."""
        leaf = value.detach().clone()
        leaf.requires_grad = True
        return leaf

    def product(self, parts: Sequence[Any], weights: Any) -> Any:
        """(n_i, d) inputs of a session, one after the other, times (d, k): differentiable in the weights alone."""
        return cat(parts).matmul(weights)

    def softmax(self, logits: Any) -> Any:
        """Probabilities (n, C), not differentiated: with labels, the gradient that `backward` is started with."""
        return logits.detach().softmax(1)

    def log_softmax(self, parts: Sequence[Any]) -> Any:
        """Of logits (n_i, C), one after the other, for products with inputs of a session; not differentiated."""
        return cat([part.detach() for part in parts]).log_softmax(1)


@singledispatch
def tape(value: Any) -> Tape:
    """What differentiates formulas of tensors of `value`'s kind; engines register theirs."""
    return Tape()
