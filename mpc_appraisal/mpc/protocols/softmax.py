"""Softmax of shared logits, without comparisons.

    softmax(z) = e^z / sum of e^z                                              z (n, C), |z| <= B after centring a row
    x_0 = e^(z / T), T = 2^k;   x_(j+1) = (x_j / about its row's sum)^2;   softmax(z) = x_k / its row's sum

z are the logits of n rows and C classes, B is their public bound, and k is the number of squarings. In go shares of z;
out come shares of the probabilities, with 16 fractional bits. What leaves each owner are values under masks that the
dealer draws (see `masked`). The dealer sends the model owner results of its requests. Nothing is revealed to anybody;
B, k and the shapes are public.

- The logits are centred within their row (the row's mean is subtracted), which is free on shares. The sum of a row of
  x_0 is then in a known range.
- The exponential is e^x = e^(x + m) e^(-m) for a mask m. The owners compute the first factor from the opened x + m, and
  the dealer shares the second factor. Both are powers of three (see `powers_of_three`).
- Rows are divided by their sums as in `reciprocal`. Intermediate normalisations may be coarse, because their factors
  cancel. Only the last normalisation must be precise.

The error of a probability has a standard deviation of 1e-5 at B = 16 with ten classes. It is at most 4e-4 for up to ten
classes at any B. It grows with T and the classes. Measured errors are up to 5e-3 with 50 classes at B = 256, and with
256 classes 8e-3 at B = 64 and 0.1 at B = 256. Every truncation is exact within a unit but the last one, which fails
for an element with a probability of 2^-30.

With ten classes each owner sends 20 bytes an entry in 15 rounds at B = 16, and 52 bytes in 33 rounds at B = 256.

A logit beyond B would make its row wrong without a sign of it, so that B is never guessed (see `logit_bound`). The
constants below fit together: they keep every value within its ring, which docs/protocols/engine.md explains, and they
may change only together with that explanation and the errors stated here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product
from mpc_appraisal.mpc.protocols.reciprocal import ReciprocalPlan, plan, reciprocal
from mpc_appraisal.mpc.ring.elementwise import exponentials
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, power_of_three, stretched

LARGEST_EXPONENT = 8.0  # |z| / T is at most this.
MAX_SQUARINGS = 5  # T = 2^k is at most 2^5.
MAX_CLASSES = 256  # The squares of probabilities of 1 / 256 have four bits left.
LOGIT_RANGE = 16.0  # A logit further below its row's largest may be replaced: e^-16 is below a unit of a probability.
BITS = 16  # A probability has so many fractional bits.
Z_BITS = 24  # The width in bits of the ring in which a logit is opened.
MANTISSA = 17  # A power of three has at most so many bits in its mantissa.
S_BITS = 22  # A row's sum is opened with so many bits.
Q_RING, H_RING = 32, 40  # The widths of the rings of a product with a reciprocal, and of its square.
# The number 1 is 2^Q_SCALE in an opened q, 2^H_SCALE in its opened square, and 2^P_SCALE in p before it is truncated.
Q_SCALE, H_SCALE, P_SCALE = 18, 20, 34
# The rows' sums may differ by these factors after an intermediate normalisation and after the last one.
COARSE, FINE = 1.7, 1.0 + 2.0**-14
COARSE_WORK, FINE_WORK = 12, 16  # The iteration of an intermediate reciprocal, and of the last one, has these bits.
Q_DROP = Q_RING - 2 - Q_SCALE  # So many bits of q are cut when it is opened.


def squarings(bound: float) -> int:
    """Return the number k of squarings, at least 1, with bound / 2^k <= 8.

    Raises InputError: the bound is not above 0, or it needs more than MAX_SQUARINGS squarings.
    """
    if not bound > 0 or bound > LARGEST_EXPONENT * 2**MAX_SQUARINGS:
        raise InputError("session.logit_bound", bound, f"above 0, at most {LARGEST_EXPONENT * 2**MAX_SQUARINGS:g}")
    return max(1, math.ceil(math.log2(bound / LARGEST_EXPONENT)))


def exponent_step(unit: float, largest: float) -> tuple[int, int]:
    """Return how many bits of z `exponential` cuts, and the power of three, times 2^POINT, that one step then counts.

    The rounding of this power makes every exponent z * unit too large by one and the same factor.
    """
    drop = max(0, math.ceil(math.log2(largest / unit / (2.0 ** (Z_BITS - 2) - 8))))
    return drop, round(unit * 2.0**drop / LN3 * 2.0**POINT)


def exponential(
    engine: Engine, z: torch.Tensor, unit: float, largest: float, headroom: float, most: int = MANTISSA
) -> tuple[torch.Tensor, int]:
    """Return shares of e^(z * unit) and the number of their fractional bits, as many as the ring holds; one round.

    Args:
        engine: this owner's end.
        z: shares, of any shape, of integers with |z * unit| <= largest.
        unit: the real number that the integer 1 stands for.
        largest: a bound on |z * unit|, at most 8.
        headroom: extra bits (log2) that are needed because several results are summed.
        most: the most bits that the mantissa of a power of three may have.

    Each owner sends the other 3 bytes an element. The dealer sends the model owner two ring elements for each.
    """
    drop, rate = exponent_step(unit, largest)
    (masked,) = open_all(engine, MaskedOpening(z, drop, Z_BITS, Z_BITS, 1 << (Z_BITS - 2)))
    offset = math.ceil(largest / LN3 + 1.01)  # Two fractions in [-1/2, 1/2) lower the exponent by up to one.
    mantissa = min(most, int((62.9 - headroom - largest / math.log(2.0) - stretched(offset)) / 2))
    engine.ask_dealer("power", masked.key, rate, mantissa)
    plain, more = engine.dealer_share(z.shape), engine.dealer_share(z.shape)
    evict(engine, masked)
    power = power_of_three(masked.delta, mantissa, offset, rate)
    return exponentials(plain, masked.wrapped, more, power), stretched(offset) + 2 * mantissa


@dataclass
class PositiveRows:
    """Shares of positive numbers whose rows are proportional to probabilities, or to roots of them.

    Attributes:
        x: shares (n, C) mod 2^ring.
        ring: the width of the ring of x in bits.
        drop: how many low bits are cut when x is opened.
        one: the integer that stands for 1 in x.
        low, high: the integers between which the sum of every row lies.
    """

    x: torch.Tensor
    ring: int
    drop: int
    one: float
    low: float
    high: float


@dataclass
class Normalised:
    """Positive rows that have been divided by approximations of their sums.

    Attributes:
        q: shares (n, C) of the divided rows, mod 2^64 after the last normalisation and mod 2^32 before it.
        one: the number that stands for 1 in q.
        how: the plan of the reciprocals. The sum of every row of q is between how.low and how.high times `one`.
    """

    q: torch.Tensor
    one: float
    how: ReciprocalPlan


def powers(engine: Engine, z: torch.Tensor, bits: int, bound: float, k: int, x_bits: int) -> PositiveRows:
    """Return shares of e^(z / 2^k) for the logits z (n, C), which are centred here; one round.

    Args:
        engine: this owner's end.
        z: shares with `bits` fractional bits.
        bits: the number of fractional bits of z.
        bound: B, with |z| <= B after centring.
        k: the number of squarings that follow.
        x_bits: how many fractional bits are left when the result is opened.

    Raises InputError: there are more than MAX_CLASSES classes.
    """
    classes, largest = z.shape[1], bound / 2.0**k
    if classes > MAX_CLASSES:
        raise InputError("classes", classes, f"at most {MAX_CLASSES}: with more, the softmax on shares is too coarse")
    most = classes * math.cosh(largest) * 1.001  # This bounds the sum of a row.
    centred = classes * z - z.sum(1, keepdim=True)
    headroom = math.log2(most) - largest / math.log(2.0)
    x, one_bits = exponential(engine, centred, 1.0 / (classes * 2.0 ** (bits + k)), largest, headroom)
    one = 2.0**one_bits
    return PositiveRows(x, 64, one_bits - x_bits, one, classes * 0.999 * one, most * one)


def normalise(engine: Engine, rows: PositiveRows, last: bool) -> Normalised:
    """Divide rows by their sums, up to the factor COARSE, or up to the factor FINE if `last`.

    Args:
        engine: this owner's end.
        rows: the rows to divide. The masks under which they are opened are dropped at the end.
        last: whether this is the last normalisation, which gives the probabilities.
    """
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
    y = reciprocal(engine, s, how, into)
    q = product(engine, x, y, into)
    evict(engine, x, y)
    return Normalised(q, how.scale * 2.0 ** (s_drop - rows.drop), how)


def squares(engine: Engine, n: Normalised, classes: int) -> PositiveRows:
    """Return the squares of rows that an intermediate normalisation has divided, of `classes` columns; one round."""
    (q,) = open_all(engine, MaskedOpening(n.q, Q_DROP, Q_RING - Q_DROP, H_RING))
    x = product(engine, q, q)
    evict(engine, q)
    one = (n.one / 2.0**Q_DROP) ** 2
    drop = math.floor(math.log2(one)) - H_SCALE
    return PositiveRows(x, H_RING, drop, one, n.how.low**2 / classes * one * 0.99, n.how.high**2 * one * 1.01)


def kept(classes: int) -> int:
    """Return how many fractional bits of e^(z / T) are kept. A row's sum is at least C, so few classes need more."""
    return min(17, max(8, 13 + math.ceil(math.log2(10 / classes))))


def normalised(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> tuple[PositiveRows, Normalised]:
    """Return the rows x_k of the formula above, and these rows divided by their sums, which are the probabilities.

    The arguments and the errors are those of `softmax`.
    """
    k, classes = squarings(bound), z.shape[1]
    rows = powers(engine, z, bits, bound, k, kept(classes))
    for _ in range(k):
        rows = squares(engine, normalise(engine, rows, last=False), classes)
    return rows, normalise(engine, rows, last=True)


def softmax(engine: Engine, z: torch.Tensor, bits: int, bound: float) -> torch.Tensor:
    """Return shares of softmax(z), (n, C), with 16 fractional bits.

    Args:
        engine: this owner's end.
        z: shares of logits (n, C) with `bits` fractional bits.
        bits: the number of fractional bits of z.
        bound: B, with |z| <= B after each row is centred. It is not checked here, since z is secret.

    Raises InputError: the bound or the number of classes is too large, see `squarings` and `powers`.
    """
    _, p = normalised(engine, z, bits, bound)
    return engine.truncate_locally(p.q, P_SCALE - BITS, P_SCALE + math.log2(p.how.high))
