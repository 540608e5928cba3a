"""The operations that plain torch tensors and secret tensors do differently, under one name each.

A method of appraisal calls these functions with the tensors of any session: plain torch tensors, CrypTen's secret
tensors or the engine's. The functions here are the versions for plain tensors, and some of them refuse other types. An
engine registers its own version for its tensor types (`singledispatch`), so that a method writes its formula once.

In shapes, n is a number of rows, d of features and C of classes. A new operation may be added; it needs a version in
every engine whose sessions are to run it. No engine may be imported here, because engines import this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch
from typing import Any

import torch

from mpc_appraisal.mpc.limited import LimitedTensor

FINE_BITS = 20  # A small private matrix, and a shared factor of several products, has so many fractional bits.
SHARED_BITS = 16  # A private tensor that becomes a secret one has so many, if nothing else is asked for.


def cat(tensors: Sequence[Any]) -> Any:
    """Return the rows of several tensors (n_i, k) in one tensor. Plain, private and shared tensors may be mixed."""
    if len(tensors) == 1:
        return tensors[0]
    kinds = [t for t in tensors if not isinstance(t, torch.Tensor)]
    return join(kinds[0], tensors) if kinds else torch.cat(list(tensors))


@singledispatch
def join(first: Any, tensors: Sequence[Any]) -> Any:
    """Return the rows of all `tensors` in one, for `cat`. `first` is one of them, and its type selects the engine.

    Raises TypeError: no engine has registered a version for the type of `first`.
    """
    raise TypeError(f"cat: got {type(first).__name__}; expected tensors of one engine")


def level(tensors: Sequence[Any]) -> list[Any]:
    """Return the tensors, each cut to the fewest fractional bits that any of them has, so that `cat` shifts none up.

    The tensors are secrets of the engine, or none of them has the attribute `bits` and they are returned as they are.
    """
    bits = [t.bits for t in tensors if hasattr(t, "bits")]
    return [t.to_bits(min(bits)) for t in tensors] if bits else list(tensors)


@singledispatch
def record_weights(weights: Any) -> Any:
    """Record weights (d, C) that training on secrets has made, before rows are multiplied by them; return the weights.

    An engine whose softmax needs a public bound on logits keeps the recorded weights, and checks before anything is
    opened that they respect the bound (`Session.check_logits`). Plain tensors are not recorded.
    """
    return weights


@singledispatch
def factor(value: Any, bits: int = FINE_BITS) -> Any:
    """Return a value that several products take as a factor, with more fractional bits than they would leave it.

    An engine cuts the value here once, and not in each product, to at most `bits` fractional bits. A plain tensor is
    returned as it is.
    """
    return value


@singledispatch
def private(value: Any) -> bool:
    """Return whether one party of a session on shares alone knows `value`, and computes functions of it in float64."""
    return False


@singledispatch
def negative(value: Any) -> Any:
    """Return 1 where `value` is below zero and 0 elsewhere. The result is exact, and secret if `value` is secret."""
    return (value < 0).to(torch.float64)


@singledispatch
def choose(bit: Any, value: Any) -> Any:
    """Return bit * value, broadcast and exact, for a `bit` of 0 and 1 as `negative` returns it."""
    return bit * value


@singledispatch
def high_precision(value: Any) -> Any:
    """Return a private number as a secret with more fractional bits than a product would have, for comparisons.

    The absolute value of the number must be at most 2^15. A plain tensor is returned as it is.
    """
    return value


@singledispatch
def log_sigmoid(value: Any) -> Any:
    """Return ln(1 / (1 + e^-z)) of each element z of shape (n, 1), on plain, private or shared tensors."""
    return torch.nn.functional.logsigmoid(value)


class RowBlocks(LimitedTensor):
    """A data set that is too large for memory, as blocks of rows (x, y) that are brought in one after the other.

    Args:
        stream: A function that returns an iterator over all blocks, from the first; x is (n_i, d) and y is (n_i, C).
    """

    described = "rows that come in blocks, which a method gets whose `streams` is True"
    supported = "loops over blocks alone"
    instead = "`for rows, labels in mpc_appraisal.mpc.ops.blocks(x, y)`, or state `streams = False` in the method"

    def __init__(self, stream: Callable[[], Iterator[tuple[Any, Any]]]):
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._stream()


def blocks(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a data set as blocks of rows (x, y): those of a `RowBlocks` x, or else x (n, d) and y (n, C) at once."""
    if isinstance(x, RowBlocks):
        yield from x
    else:
        yield x, y


@singledispatch
def takes_slopes(weights: Any, longest: float, spread: float) -> bool:
    """Return whether the session of `weights` computes `slope` with fewer messages than a gradient takes.

    The session says so for numbers of the size that `slope` is told.
    """
    return False


@singledispatch
def slope(weights: Any, direction: Any, x: Any, y: Any, rows: int, longest: float, spread: float) -> Any:
    """Return the derivative of the summed cross-entropy of rows along V: the sum of (softmax(x W) - y) * (x V).

    Args:
        weights: W (d, C), which one party knows on shares.
        direction: V (d, C), of the same party. Its columns sum to zero in each row.
        x: the rows (n, d).
        y: their one-hot labels (n, C), of the same party as x.
        rows: how many rows' results will be summed, at least n.
        longest: a bound on the norm of a row of x.
        spread: a bound on the distance of two columns of V.
    """
    return ((x.matmul(weights).softmax(1) - y) * x.matmul(direction)).sum()


@singledispatch
def shared(value: Any, bits: int = SHARED_BITS) -> Any:
    """Return a private tensor as a secret one of `bits` fractional bits, so that it may change; others as they are."""
    return value


@singledispatch
def relu(z: Any, bits: int) -> Any:
    """Return max(z, 0) with at most `bits` fractional bits, where z is shared; it is truncated within one unit."""
    return z * (z > 0).to(torch.float64)


@singledispatch
def rectified(z: Any, bits: int) -> tuple[Any, Any]:
    """Return max(z, 0) and the bits [z > 0], which are its derivative and which `gated` takes once.

    `bits` is the most fractional bits of the result, where z is shared; it is truncated within one unit.
    """
    positive = (z > 0).to(torch.float64)
    return z * positive, positive


@singledispatch
def gated(positive: Any, value: Any, bits: int) -> Any:
    """Return `value` where `positive`, which `rectified` has returned for z of its shape, is 1, and 0 elsewhere.

    `bits` is the most fractional bits of the result, as in `rectified`.
    """
    return positive * value


@singledispatch
def layer(a: Any, weights: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
    """Return z = a W for a (n, h) and W (h, C), and a function that takes g (n, C) to a' g and g W'.

    The function is called once.
    """
    return a.matmul(weights), lambda g: (a.t().matmul(g), g.matmul(weights.t()))


@singledispatch
def descended(weights: Any, gradient: Any, rate: float, decay: float, bits: int) -> Any:
    """Return weights - decay * weights - rate * gradient, for public numbers rate > 0 and decay >= 0.

    `bits` is the number of fractional bits of shared weights. Each of the two products is within two units of the last
    bit, and 16 bits of its public factor are kept.
    """
    if decay > 0:
        weights = weights - _multiple(weights, decay)
    return weights - _multiple(gradient, rate)


def _multiple(tensor: Any, factor: float) -> Any:
    """Return tensor * factor, as m / 2^k: a division by 2^k loses fewer bits of a shared tensor than a small factor."""
    k = max(0, 1 - math.frexp(factor)[1])
    quotient, m = tensor / float(2**k) if k else tensor, math.ldexp(factor, k)
    return quotient if m == 1.0 else quotient * m


@singledispatch
def to_crypten(value: Any) -> Any:
    """Return a tensor of the session as a tensor of CrypTen's, a copy; a plain tensor as one that hides nothing.

    See `mpc.crypten_methods`.
    """
    from mpc_appraisal.mpc.crypten_programs.plain_tensor import PlainTensor  # CrypTen takes a second to import

    return PlainTensor(value)


@singledispatch
def from_crypten(like: Any, tensor: Any) -> Any:
    """Return a tensor of CrypTen's, which comes from `to_crypten`, as a tensor of the session.

    `like` is any tensor of the session, such as x of a method's score.
    """
    return tensor._tensor


@singledispatch
def softmax(z: Any) -> Any:
    """Return the probabilities of the rows of logits z (n, C), for which no public bound is known.

    On shares a logit that is more than 16 below its row's largest counts as minus infinity.
    """
    return z.softmax(1)


@singledispatch
def log_softmax(z: Any) -> Any:
    """Return the logarithms of the probabilities of `softmax`.

    On shares a logit that is more than 16 below its row's largest counts as 16 below.
    """
    return z.log_softmax(1)
