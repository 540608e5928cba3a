"""Softmax of shared logits that are bounded in size.

    softmax(z) = e^z / sum of e^z                                              z (n, C), |z| <= B after centring a row
    x_0 = e^(z / T) g^-l,  T = 2^k;    x_(j+1) = x_j^2 3^-l';    softmax(z) = x_k / its row's sum

z are the logits of n rows and C classes, B is their public bound, k is the number of doublings, and g^l is the coarse
size of a row's sum, one of few public levels. In go shares of z; out come shares of the probabilities, with 16
fractional bits. What leaves each owner are values and bits under masks of the dealer (see `masked`, `levels`). The
dealer sends the model owner results of its requests. Nothing is revealed to anybody; B, k and the shapes are public.

- The logits are centred within their row (the row's mean is subtracted), which is free on shares. So the sum of e^(z/T)
  lies between C and C cosh(B / T). Its level l is exact (`levels`), and brings every row's sum into one narrow range.
- The exponential is e^x = e^(x + m) e^(-m) for a mask m. The owners compute the first factor from the opened x + m, and
  the dealer shares the second factor. Both are powers of three (see `powers_of_three`).
- The last division multiplies by 1 / sum from `harmonics`, which is right within a few units of 2^-20.

| B at most | rounds | bytes an entry that all parties send, with ten classes |
|---|---|---|
| 2.3 | 3 | 82 |
| 8 | 7 | 103 |
| 16 | 8 | 136 |
| 32, 64, 128, 256 | 13, 18, 23, 28 | 184, 235, 286, 337 |

The error of a probability has a standard deviation of at most 1e-5. The largest errors that were measured are 3e-5 up
to B = 16, and 5e-4 at B = 256 with 256 classes. Every truncation is exact within a unit but the last one, which fails
for an element with a probability of 2^-30.

A logit beyond B would make its row wrong without a sign of it, so that B is never guessed (see `logit_bound`). The
numbers of a run are those of `softmax_plan.plan`, which keeps every value within its ring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from mpc_appraisal.mpc.protocols import harmonics, levels
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.harmonics import Fit
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all, product
from mpc_appraisal.mpc.protocols.softmax_plan import (
    BITS,
    COARSE_MANTISSA,
    LN2,
    LN3,
    MANTISSA,
    NARROW,
    P_SCALE,
    Q_RING,
    S_BITS,
    X_BITS,
    X_DROP,
    Y_BITS,
    Y_SCALE,
    Z_BITS,
    Doubling,
    SoftmaxPlan,
    exponent_step,
    plan,
    power_bits,
)
from mpc_appraisal.mpc.ring.elementwise import exponentials
from mpc_appraisal.mpc.ring.powers_of_three import POINT, power_of_three


def exponential(
    engine: Engine, z: torch.Tensor, unit: float, largest: float, headroom: float, most: int = MANTISSA
) -> tuple[torch.Tensor, int]:
    """Return shares of e^(z * unit) and the number of their fractional bits, as many as the ring holds; one round.

    Args:
        engine: this owner's end.
        z: shares, of any shape, of integers with |z * unit| <= largest.
        unit: the real number that the integer 1 stands for.
        largest: a bound on |z * unit|.
        headroom: extra bits (log2) that are needed because several results are summed.
        most: the most bits that the mantissa of a power of three may have.

    Each owner sends the other 3 bytes an element. The dealer sends the model owner two ring elements for each.
    """
    drop, rate = exponent_step(unit, largest)
    (masked,) = open_all(engine, MaskedOpening(z, drop, Z_BITS, Z_BITS, 1 << (Z_BITS - 2)))
    bits = power_bits(largest, headroom, most)
    engine.ask_dealer("power", masked.key, rate, bits.dealer)
    plain, more = engine.dealer_share(z.shape), engine.dealer_share(z.shape)
    evict(engine, masked)
    power = power_of_three(masked.delta, bits.owners, bits.offset, rate)
    return exponentials(plain, masked.wrapped, more, power), bits.point


@dataclass
class Rows:
    """Shares of positive numbers whose rows are proportional to probabilities, or to powers of them.

    Attributes:
        x: shares (n, C) mod 2^ring. The sum of a row is in the range that the plan states, times 2^drop.
        drop: how many low bits are cut when x is opened.
        offset, log: x is e^(z + offset - sum of numbers times factors) for the shares (n, 1) of whole numbers and their
            public factors in `log`, where z are the logits at the temperature of x.
    """

    x: torch.Tensor
    drop: int
    offset: float
    log: list[tuple[torch.Tensor, float]] = field(default_factory=list)


def powers(engine: Engine, z: torch.Tensor, unit: float, how: SoftmaxPlan) -> Rows:
    """Return shares of e^(z / T - l ln g) for z (n, C), centred and with |z unit| <= B."""
    unit, log, parts = unit / 2.0**how.doublings, [], 2**how.roots
    if how.coarse is not None:
        sums = how.coarse.sums
        s, _ = exponential(engine, z, unit, how.largest, how.coarse.headroom, COARSE_MANTISSA)
        (s,) = open_all(engine, sums.opening(s.sum(1, keepdim=True)))
        level = levels.level(engine, levels.reached(engine, s, sums.thresholds)).reshape(-1, 1)
        evict(engine, s)
        z = z - level * round(math.log(sums.ratio) / unit)
        log.append((level, math.log(sums.ratio)))
    shift = round(how.shift * parts / unit)
    z = z + engine.public_share(torch.full_like(z, shift))
    x, point = exponential(engine, z, unit / parts, how.reach, how.headroom, how.most)
    drop, rate = exponent_step(unit / parts, how.reach)
    offset = point * LN2 + shift / 2.0**drop * rate * LN3 / 2.0**POINT  # `rate` is rounded
    cut = how.root_drop
    for _ in range(how.roots):
        (q,) = open_all(engine, MaskedOpening(x, cut, NARROW, Q_RING, 2))
        x, offset, cut = product(engine, q, q), 2 * (offset - cut * LN2), NARROW - 1
        evict(engine, q)
    return Rows(x, how.drop, offset, log)


def doubled(engine: Engine, rows: Rows, how: Doubling) -> Rows:
    """Return the squares of rows, divided by the coarse size of their sum; five rounds."""
    (q,) = open_all(engine, MaskedOpening(rows.x, rows.drop, NARROW, Q_RING, 2))
    w = product(engine, q, q)
    evict(engine, q)
    w, s = open_all(
        engine,
        MaskedOpening(w, how.square_drop, how.square_bits, Q_RING, 2),
        how.sums.opening(w.sum(1, keepdim=True)),
    )
    reached = levels.indicators(engine, levels.reached(engine, s, how.sums.thresholds))
    steps = torch.tensor(how.steps, dtype=torch.int64)[:, None]
    y = engine.public_share(torch.full_like(s.delta, how.first)) - (reached * steps).sum(0).reshape(-1, 1)
    (y,) = open_all(engine, MaskedOpening(y, 0, how.factor_bits, Q_RING, 2))
    x = product(engine, w, y)
    evict(engine, w, s, y)
    # w = q^2 / 2^square_drop, and x = w * first / 3^level
    offset = 2 * (rows.offset - rows.drop * LN2) - how.square_drop * LN2 + math.log(how.first)
    log = [(number, 2 * factor) for number, factor in rows.log] + [(reached.sum(0).reshape(-1, 1), LN3)]
    return Rows(x, how.drop, offset, log)


def normalised_rows(engine: Engine, z: torch.Tensor, unit: float, how: SoftmaxPlan) -> Rows:
    """Return the rows x_k of the formula above for integers z (n, C) of the stated unit, which are centred."""
    rows = powers(engine, z, unit, how)
    for doubling in how.stages:
        rows = doubled(engine, rows, doubling)
    return rows


def sums_opening(rows: Rows) -> MaskedOpening:
    """Return the opening of the sums (n, 1) of rows, for harmonics."""
    return MaskedOpening(rows.x.sum(1, keepdim=True), rows.drop, S_BITS, S_BITS, 2)


def reciprocal(engine: Engine, s: MaskedValue, fit: Fit) -> MaskedValue:
    """Return the masked value 2^S_BITS / 2 / s, with Y_SCALE fractional bits, of opened sums s; one round."""
    (y,) = open_all(engine, reciprocal_opening(engine, s, fit))
    return y


def reciprocal_opening(engine: Engine, s: MaskedValue, fit: Fit) -> MaskedOpening:
    """Return the opening of what `reciprocal` opens, so that it may be opened along with other values."""
    share = harmonics.evaluate(engine, s, fit, harmonics.waves(engine, s, fit.harmonics))
    return MaskedOpening(share, harmonics.POINT - fit.shift - Y_SCALE, Y_BITS, 64)


def softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
    """Return shares of softmax(z), (n, C), with 16 fractional bits.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits.
        bits: the number of fractional bits of z.
        bound: B, with |z| <= B after each row is centred. It is not checked here, since z is secret.

    Raises InputError: the bound or the number of classes is too large, see `softmax_plan.plan`.
    """
    classes = z.shape[1]
    how = plan(classes, bound)
    z = engine.blinded(classes * z - z.sum(1, keepdim=True))  # one owner's own logits are cut right on average too
    rows = normalised_rows(engine, z, 1.0 / (classes * 2.0**bits), how)
    x, s = open_all(engine, MaskedOpening(rows.x, rows.drop + X_DROP, X_BITS, 64), sums_opening(rows))
    y = reciprocal(engine, s, how.reciprocal)
    p = product(engine, x, y)
    evict(engine, x, s, y)
    return engine.truncate_locally(p, P_SCALE - BITS, P_SCALE + math.log2(how.highest))
