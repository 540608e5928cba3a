"""Softmax of shared logits, without comparisons and without a truncation that could fail.

    softmax(z) = normalise(softmax(z / 2)^2),  so  softmax(z) from  e^(z / T), T = 2^k, by k squarings

1. Logits are centred within their row (free on shares; softmax does not change). Then C <= sum e^(z/T) <= C cosh(B/T)
   for |z| <= B: the sum's range is known, and so is that of every later sum, 1/C <= sum q^2 <= 1.
2. The centred logits are opened under a mask m that the dealer knows (see `opened`): e^x = e^(x + m) e^(-m), of which
   the owners compute the first factor and the dealer shares the second, both as powers of three (see `exponent`).
3. Row sums are inverted by Goldschmidt's iteration (see `inverse`). Rows are normalised loosely but at the end: what a
   row was divided by on the way cancels.

Every value is opened once, in the round in which it is made, and truncated by that, exactly. The last product alone is
cut locally, which fails for an element with a probability of 2^-30. Errors of a probability are 1e-5 (standard
deviation) at B = 16 with ten classes, and 4e-4 at most up to ten classes at any B. They grow with T and the classes:
measured, up to 5e-3 with 50 classes at B = 256, and with 256 classes 8e-3 at B = 64 and 0.1 at B = 256.

B is public. A logit beyond it would wrap, and its row would be wrong without a sign of it, so B is never guessed: it
follows from norms that the owners tell, a smaller one is refused, and where weights change secretly, in training, a
private comparison of their norms with what B stands for precedes every result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, forget, open_all, product
from mpc_appraisal.mpc.protocols.reciprocal import ReciprocalPlan, plan, reciprocal
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, power_of_three, stretched

LARGEST_EXPONENT = 8.0  # |z| / T is at most this.
MAX_SQUARINGS = 5  # T = 2^k is at most 2^5.
MAX_CLASSES = 256  # The squares of probabilities of 1 / 256 have four bits left.
LOGIT_RANGE = 16.0  # A logit further below its row's largest may be replaced: e^-16 is below a unit of a probability.
BITS = 16  # fractional bits of a probability
Z_BITS = 24  # of an opened logit
MANTISSA = 17  # of a power of three, at most
S_BITS = 22  # of an opened row sum
Q_RING, H_RING = 32, 40  # bits of a product with a reciprocal, and of its square
Q_SCALE, H_SCALE, P_SCALE = 18, 20, 34  # log2 of what 1 is: in q, opened; in its square, opened; in p, before it is cut
COARSE, FINE = 1.7, 1.0 + 2.0**-14  # ratio of the largest to the smallest that a row may be off by, on the way, at last
COARSE_WORK, FINE_WORK = 12, 16  # see `inverse`
Q_DROP = Q_RING - 2 - Q_SCALE


def squarings(bound: float) -> int:
    """The number k of squarings, at least 1, with bound / 2^k <= 8.

    Raises InputError: the bound is not above 0, or it needs more than MAX_SQUARINGS squarings.
    """
    if not bound > 0 or bound > LARGEST_EXPONENT * 2**MAX_SQUARINGS:
        raise InputError("session.logit_bound", bound, f"above 0, at most {LARGEST_EXPONENT * 2**MAX_SQUARINGS:g}")
    return max(1, math.ceil(math.log2(bound / LARGEST_EXPONENT)))


def exponential(engine: Engine, z: torch.Tensor, unit: float, largest: float, room: float) -> tuple[torch.Tensor, int]:
    """e^(z * unit), |z * unit| <= largest <= 8, and its fractional bits: as many as the ring holds. One round.

    Args:
        room: log2 of what more than one of them must fit into the ring by.
    """
    drop = max(0, math.ceil(math.log2(largest / unit / (2.0 ** (Z_BITS - 2) - 8))))
    (opened,) = open_all(engine, MaskedOpening(z, drop, Z_BITS, Z_BITS, 1 << (Z_BITS - 2)))
    rate = round(unit * 2.0**drop / LN3 * 2.0**POINT)
    offset = math.ceil(largest / LN3 + 1.01)  # two fractions in [-1/2, 1/2) take up to one from the exponent
    mantissa = min(MANTISSA, int((62.9 - room - largest / math.log(2.0) - stretched(offset)) / 2))
    engine._ask("power", opened.key, rate, mantissa)
    plain, more = engine._dealt(z.shape), engine._dealt(z.shape)
    forget(engine, opened)
    share = (plain + opened.wrapped * more) * power_of_three(opened.delta * rate, mantissa, offset)
    return share, stretched(offset) + 2 * mantissa


@dataclass
class PositiveRows:
    """Shares x (n, C) mod 2^ring of positive numbers whose rows sum to between low and high.

    drop: the bits that are cut when it is opened. one: the integer that stands for 1.
    """

    x: torch.Tensor
    ring: int
    drop: int
    one: float
    low: float
    high: float


@dataclass
class Normalised:
    """q (n, C): rows divided by about their sums, mod 2^32 or 2^64; one: what stands for 1.

    y (n, 1): what the opened x was multiplied by, between the two of y_range. how: rows sum to how.low to how.high.
    """

    q: torch.Tensor
    one: float
    y: MaskedValue
    y_range: tuple[float, float]
    how: ReciprocalPlan


def powers(engine: Engine, z: torch.Tensor, bits: int, bound: float, k: int, x_bits: int) -> PositiveRows:
    """e^(z / 2^k) of centred logits; x_bits: fractional bits that are kept of it when it is opened."""
    classes, largest = z.shape[1], bound / 2.0**k
    if classes > MAX_CLASSES:
        raise InputError("classes", classes, f"at most {MAX_CLASSES}: with more, the softmax on shares is too coarse")
    most = classes * math.cosh(largest) * 1.001  # of a row's sum
    centred = classes * z - z.sum(1, keepdim=True)
    room = math.log2(most) - largest / math.log(2.0)
    x, one_bits = exponential(engine, centred, 1.0 / (classes * 2.0 ** (bits + k)), largest, room)
    one = 2.0**one_bits
    return PositiveRows(x, 64, one_bits - x_bits, one, classes * 0.999 * one, most * one)


def normalise(engine: Engine, rows: PositiveRows, last: bool, wide: bool = False) -> Normalised:
    """Divide rows by about their sums: within COARSE, or FINE for the last time. `wide`: y for products mod 2^64."""
    s = rows.x.sum(1, keepdim=True)
    s_drop = math.ceil(math.log2(rows.high)) - S_BITS
    low, high = int(rows.low / 2.0**s_drop), int(rows.high / 2.0**s_drop) + 1
    how = plan(
        low,
        high,
        goal=FINE if last else COARSE,
        work=FINE_WORK if last else COARSE_WORK,
        scale=2.0 ** ((P_SCALE if last else Q_RING - 2) - s_drop + rows.drop),
        precision=20 if last else 7,
        bits=None if last else Q_RING,
    )
    into = 64 if last else Q_RING
    x, s = open_all(
        engine,
        MaskedOpening(rows.x, rows.drop, rows.ring - rows.drop, max(into, rows.ring - rows.drop)),
        MaskedOpening(s, s_drop, rows.ring - s_drop, max(how.ring(0), rows.ring - s_drop)),
    )
    y = reciprocal(engine, s, how, 64 if wide else into)
    q = product(engine, x, y, into)
    forget(engine, x, y)
    y_range = (how.low * how.scale / high, how.high * how.scale / low)
    return Normalised(q, how.scale * 2.0 ** (s_drop - rows.drop), y, y_range, how)


def squares(engine: Engine, n: Normalised, classes: int) -> PositiveRows:
    """The squares of normalised rows."""
    (q,) = open_all(engine, MaskedOpening(n.q, Q_DROP, Q_RING - Q_DROP, H_RING))
    x = product(engine, q, q)
    forget(engine, q)
    one = (n.one / 2.0**Q_DROP) ** 2
    drop = math.floor(math.log2(one)) - H_SCALE
    return PositiveRows(x, H_RING, drop, one, n.how.low**2 / classes * one * 0.99, n.how.high**2 * one * 1.01)


def kept(classes: int) -> int:
    """Fractional bits that are kept of e^(z / T): a row's sum is C or more, so fewer classes want more of them."""
    return min(17, max(8, 13 + math.ceil(math.log2(10 / classes))))


def normalised(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> tuple[PositiveRows, Normalised]:
    """The last rows (n, C) of positive numbers, and what they are when each is divided by its sum: probabilities."""
    k, classes = squarings(bound), z.shape[1]
    rows = powers(engine, z, bits, bound, k, kept(classes))
    for _ in range(k):
        rows = squares(engine, normalise(engine, rows, last=False), classes)
    return rows, normalise(engine, rows, last=True)


def softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
    """Probabilities (n, C) with 16 fractional bits of logits (n, C) with `bits`; |z| <= bound after centring."""
    _, p = normalised(engine, z, bits, bound)
    return engine.truncate_locally(p.q, P_SCALE - BITS, P_SCALE + math.log2(p.how.high))
