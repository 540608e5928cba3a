"""What networks compute on shared tensors beyond sums: relu with its derivative, layers, and softmax without a bound.

    relu(z) = [z > 0] z, whose derivative is [z > 0]                                             (`ops.rectified`)
    z = a W,   dW = a' g,   da = g W'                                                            (`ops.layer`)
    softmax(z) = e^(z - m) / sum of e^(z - m), m about the largest of its row                    (`ops.softmax`)
    W <- W - decay W - rate G, in one round, for public numbers rate and decay                   (`ops.descended`)

This module registers these operations of `ops` for `Secret` and `PrivateTensor`. In shapes, n is a number of rows, h of
units and C of classes; a prime marks a transpose. Comparisons are those of `comparison`, and the softmax is that of
`unbounded_softmax`. The dealer keeps the masks of what was opened until the backward pass has used them, so that a, W
and the bits [z > 0] are opened once. What is sent are values and bits under masks, see there and in `masked`; nothing
is revealed.

If the engine has a helper (see `permutation`), the helper computes relu, its derivative and both kinds of softmax. An
operation may be added. The places where a value is truncated may change only with docs/protocols/perceptron_bound.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.comparison import RING, MaskedBit, gated, relu
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.gate_dealer import FACTOR_BITS
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, matrix_product, open_all, scaled
from mpc_appraisal.mpc.protocols.softmax_plan import BITS, LOGIT_RANGE
from mpc_appraisal.mpc.protocols.tensors import Context, PrivateTensor, Secret
from mpc_appraisal.mpc.protocols.unbounded_softmax import LARGEST_SPREAD, unbounded_log_softmax, unbounded_softmax
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

MOST_CUT = 60  # So many low bits are cut at most as a gradient is opened; what a cut of more would leave is below 1.


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


@ops.softmax.register(Secret)
def _softmax(z: Secret) -> Secret:
    engine = z.context.engine
    if engine.helper:
        return _for_helper(z).softmax(1)
    return Secret(z.context, unbounded_softmax(engine, z.share, z.bits, LARGEST_SPREAD), BITS)


@ops.log_softmax.register(Secret)
def _log_softmax(z: Secret) -> Secret:
    engine = z.context.engine
    if engine.helper:
        return _for_helper(z).log_softmax(1)
    return Secret(z.context, *unbounded_log_softmax(engine, z.share, z.bits, LARGEST_SPREAD, floor=True))


@ops.to_crypten.register(PrivateTensor)
@ops.to_crypten.register(Secret)
def _to_crypten(value: PrivateTensor | Secret) -> Any:
    from mpc_appraisal.mpc.crypten_programs import method_tensors  # CrypTen takes a second to import

    shared = _secret(value).to_bits(PRECISION_BITS)
    return method_tensors.of_shares(shared.context.engine, shared.share)


@ops.from_crypten.register(PrivateTensor)
@ops.from_crypten.register(Secret)
def _from_crypten(like: PrivateTensor | Secret, tensor: Any) -> Secret:
    from mpc_appraisal.mpc.protocols import crypten_adapter

    return Secret(like.context, *crypten_adapter.from_crypten(tensor))


def _for_helper(z: Secret) -> Secret:
    return z if z.bits <= PRECISION_BITS else z.to_bits(PRECISION_BITS)


@ops.log_softmax.register(PrivateTensor)
def _log_softmax_of_private(z: PrivateTensor) -> PrivateTensor:
    """Return what `_log_softmax` does of logits that one owner knows, and computes in float64 without a message."""

    def computed(logits: torch.Tensor) -> torch.Tensor:
        logits = logits.to(torch.float64)
        if not z.context.engine.helper:
            logits = torch.maximum(logits, logits.max(1, keepdim=True).values - LOGIT_RANGE)
        return logits.log_softmax(1)

    return z._local(computed)


@ops.descended.register(Secret)
def _descended(weights: Secret, gradient: Secret, rate: float, decay: float, bits: int) -> Secret:
    engine, share = weights.context.engine, weights.to_bits(bits).share
    parts = [_scaling(engine, gradient, rate, bits)]
    if decay > 0:
        parts.append(_scaling(engine, weights, decay, bits))
    opened = open_all(engine, *(part for part, _ in parts))
    for x, (part, factor) in zip(opened, parts, strict=True):
        share = share - scaled(engine, x, factor, part.low)
    evict(engine, *opened)
    return Secret(weights.context, share, bits)


def _scaling(engine: Engine, value: Secret, factor: float, bits: int) -> tuple[MaskedOpening, int]:
    """Return the opening of a value and an integer by which `scaled` multiplies it to value * factor with `bits` bits.

    Bits are cut as the value is opened. Where fewer than FACTOR_BITS would be, the value is first shifted up.
    """
    mantissa, exponent = math.frexp(factor)
    whole, drop = round(mantissa * 2.0**FACTOR_BITS), value.bits - exponent - bits
    if drop > MOST_CUT:
        whole, drop = whole >> min(drop - MOST_CUT, FACTOR_BITS + 1), MOST_CUT
    share, drop = value.share << max(0, FACTOR_BITS - drop), max(FACTOR_BITS, drop)
    return MaskedOpening(engine.blinded(share), drop, RING - drop, RING - drop, 1 << (RING - 2 - drop)), whole


ops.softmax.register(PrivateTensor, lambda z: z.softmax(1))
ops.shared.register(PrivateTensor, lambda value, bits=PRECISION_BITS: value.secret(bits))
