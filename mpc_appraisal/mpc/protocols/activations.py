"""What networks compute on shared tensors beyond sums: relu with its derivative, layers, and softmax without a bound.

    relu(z) = [z > 0] z, whose derivative is [z > 0]                                             (`ops.rectified`)
    z = a W,   dW = a' g,   da = g W'                                                            (`ops.layer`)
    softmax(z) = softmax(max(z - the largest of its row, -LOGIT_RANGE))      up to e^-16         (`ops.softmax`)

This module registers these operations of `ops` for `Secret` and `PrivateTensor`. In shapes, n is a number of rows, h of
units and C of classes; a prime marks a transpose. Comparisons are those of `comparison`. The dealer keeps the masks of
what was opened until the backward pass has used them, so that a, W and the bits [z > 0] are opened once. What is sent
are values and bits under masks, see there and in `masked`; nothing is revealed.

If the engine has a helper (see `permutation`), the helper computes relu, its derivative and both kinds of softmax. An
operation may be added. The places where a value is truncated may change only with docs/protocols/perceptron_bound.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.comparison import RING, MaskedBit, gated, maximum, relu
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, matrix_product, open_all
from mpc_appraisal.mpc.protocols.softmax_plan import LOGIT_RANGE
from mpc_appraisal.mpc.protocols.tensors import Context, PrivateTensor, Secret
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS


@dataclass
class Gate:
    """The bits [z > 0] of a relu, which one gradient is multiplied by in the backward pass."""

    context: Context
    bit: MaskedBit


def _secret(value: Any) -> Secret:
    return value.secret() if isinstance(value, PrivateTensor) else value


@ops.rectified.register(PrivateTensor)
@ops.rectified.register(Secret)
def _rectified(z: PrivateTensor | Secret, bits: int) -> tuple[Secret, Any]:
    z = z.secret(bits) if isinstance(z, PrivateTensor) else z
    if z.context.engine.helper:
        return tuple((z if z.bits <= bits else z.to_bits(bits)).applied("relu", "step"))
    cut = max(0, z.bits - bits)
    value, bit = relu(z.context.engine, z.share, cut)
    return Secret(z.context, value, z.bits - cut), Gate(z.context, bit)


@ops.relu.register(Secret)
def _relu(z: Secret, bits: int) -> Secret:
    value, gate = _rectified(z, bits)
    if isinstance(gate, Gate):
        gate.bit.forget(z.context.engine)
    return value


@ops.gated.register(Gate)
def _gated(gate: Gate, value: PrivateTensor | Secret, bits: int) -> Secret:
    value, engine = _secret(value), gate.context.engine
    cut = max(0, value.bits - bits)
    share = gated(engine, gate.bit, value.share, cut)
    gate.bit.forget(engine)
    return Secret(gate.context, share, value.bits - cut)


@ops.gated.register(Secret)
def _gated_by_shares(bit: Secret, value: Secret, bits: int) -> Secret:
    return ops.choose(bit, value if value.bits <= bits else value.to_bits(bits))


@ops.layer.register(Secret)
def _layer(a: Secret, weights: PrivateTensor | Secret) -> tuple[Secret, Callable[[Secret], tuple[Secret, Secret]]]:
    context, engine = a.context, a.context.engine
    factors = [a.operand(), _secret(weights).operand()]
    x, w = open_all(engine, *(MaskedOpening(f.share, 0, RING, RING, 0) for f in factors))
    z = Secret(context, matrix_product(engine, x, w), factors[0].bits + factors[1].bits)

    def backward(g: Secret) -> tuple[Secret, Secret]:
        g = g.operand()
        (d,) = open_all(engine, MaskedOpening(g.share, 0, RING, RING, 0))
        of_weights = matrix_product(engine, x, d, transposed=(True, False))
        of_a = matrix_product(engine, d, w, transposed=(False, True))
        evict(engine, x, w, d)
        return tuple(
            Secret(context, share, g.bits + factor.bits)
            for share, factor in zip((of_weights, of_a), factors, strict=True)
        )

    return z, backward


def _in_range(z: Secret) -> Secret:
    """Return max(z - the largest of its row, -LOGIT_RANGE) for the rows z (n, C), by exact comparisons.

    If the engine has a helper, z itself is returned, because the helper needs no range.
    """
    if z.context.engine.helper:
        return z if z.bits <= PRECISION_BITS else z.to_bits(PRECISION_BITS)
    top = Secret(z.context, maximum(z.context.engine, z.share), z.bits)
    near = (z - top + LOGIT_RANGE).relu() - LOGIT_RANGE
    return Secret(Context(z.context.engine, LOGIT_RANGE), near.share, near.bits)


@ops.softmax.register(Secret)
def _softmax(z: Secret) -> Secret:
    return _in_range(z).softmax(1)


@ops.log_softmax.register(PrivateTensor)
@ops.log_softmax.register(Secret)
def _log_softmax(z: Any) -> Secret:
    return _in_range(_secret(z)).log_softmax(1)


ops.softmax.register(PrivateTensor, lambda z: z.softmax(1))
ops.shared.register(PrivateTensor, lambda value: value.secret())
