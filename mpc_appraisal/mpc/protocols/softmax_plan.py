"""The public numbers of a softmax on shares: scales, thresholds and ranges that keep every value within its ring.

    C e^-a <= sum of e^z <= C e^a cosh B        for z within B and a mean of the row within a, by Jensen and convexity
    t_1 / g <= s g^-l < t_1                     for the level l of s and thresholds t_j = t_1 g^(j-1), up to a unit

In go the number of classes C, the bound B and the largest mean a of a row; out comes a `SoftmaxPlan`, of which
`softmax`, `log_softmax` and the bounds on their errors (release/softmax_accuracy.py) are made. Nothing here sees a
value. docs/protocols/engine.md derives the ranges. The constants fit together and may change only with that page.

All sums that are divided by end between TOP / ratio and TOP, in integers of 24 bits, so that half a period of the
harmonics covers them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.harmonics import Fit, fitted
from mpc_appraisal.mpc.protocols.masked import MaskedOpening
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, stretched

LARGEST_EXPONENT = 16.0  # |z| / T is at most this.
MAX_DOUBLINGS = 4  # T = 2^k is at most 2^4.
MAX_CLASSES = 256  # The squares of probabilities of 1 / 256 have four bits left.
LOGIT_RANGE = 16.0  # A logit further below its row's largest may be replaced: e^-16 is below a unit of a probability.
BITS = 16  # A probability has so many fractional bits.
Z_BITS = 24  # The width in bits of the ring in which a logit is opened.
LN2 = math.log(2.0)
MANTISSA, PRECISE_MANTISSA, COARSE_MANTISSA = 17, 20, 8  # A power of three has at most so many bits in its mantissa.
COARSE_ROOM = 0.36  # A coarse exponential may be off by this, in bits: its mantissas have 3 bits or more.
COARSE = 3.2  # Thresholds for coarse sums are in this ratio.
NARROW, Q_RING = 24, 48  # The widths of the rings in which a root of a row is opened and squared.
W_BITS = 30  # A square has so many bits when it is opened to be multiplied with its row's level.
S_BITS = 24  # A row's last sum is opened with so many bits.
TOP = 2**23 - 2**11  # No opened row sums to more than this, up to the roundings that are counted.
HIGH = 2**23 - 2**10  # The same, roundings counted.
X_DROP, X_BITS = 5, 20  # The last row has 18 bits when it is opened.
Y_SCALE, Y_BITS = 16, 20  # A reciprocal has so many fractional bits.
P_SCALE = 34  # p has so many fractional bits before it is truncated.
DIRECT = 5.5  # Sums in a range of this ratio need no level.
LONG, SHORT = 9.87, 4.9  # Powers of three up to these numbers' exponentials have mantissas of 16, and of 20 bits.
# So many harmonics, the second number, for sums in a range of at most the first.
HARMONICS = ((2.0, 6), (3.7, 8), (5.0, 10), (6.0, 12), (7.0, 16))


def exponent_step(unit: float, largest: float) -> tuple[int, int]:
    """Return how many bits of z `exponential` cuts, and the power of three, times 2^POINT, that one step then counts.

    The rounding of this power makes every exponent z * unit too large by one and the same factor.
    """
    drop = max(0, math.ceil(math.log2(largest / unit / (2.0 ** (Z_BITS - 2) - 8))))
    return drop, round(unit * 2.0**drop / LN3 * 2.0**POINT)


@dataclass(frozen=True)
class PowerBits:
    """The bits of an exponential, which is the product of two powers of three.

    Attributes:
        offset: what the owners add to the integer part of their exponent.
        dealer, owners: the bits of the mantissas of the dealer's power and of the owners' power.
        point: the number of fractional bits of the product.
    """

    offset: int
    dealer: int
    owners: int
    point: int


def power_bits(largest: float, headroom: float, most: int) -> PowerBits:
    """Return the bits of exponentials up to e^largest in a ring of 64 bits, see `softmax.exponential`."""
    offset = math.ceil(largest / LN3 + 1.01)  # Two fractions in [-1/2, 1/2) lower the exponent by up to one.
    both = min(2 * most, int(62.9 - headroom - largest / math.log(2.0) - stretched(offset)))
    return PowerBits(offset, both // 2, both - both // 2, stretched(offset) + both)


def power_chance(largest: float, bits: PowerBits) -> float:
    """Return a bound on the relative error by chance of an exponential: two mantissas, their tables, and z's opening.

    The opening of z is off by less than one unit. The errors have no mean but that of the tables.
    """
    factors = sum(math.sqrt(3) / 2 * 2.0**-mantissa + LN3 / 2 * 2.0**-20 for mantissa in (bits.dealer, bits.owners))
    return factors + 2 * largest / (2.0 ** (Z_BITS - 2) - 8)


def power_error(largest: float, bits: PowerBits) -> float:
    """Return a bound on the relative error of an exponential, with that of the rounded rate."""
    return math.exp(1.1 * (power_chance(largest, bits) + LN3 * 2.0 ** (Z_BITS - 2) / 2.0**POINT)) - 1


@dataclass(frozen=True)
class Sums:
    """How the sums of rows are opened and compared with thresholds.

    Attributes:
        drop: how many low bits of a sum are cut.
        bits: the width of the ring in which it is opened.
        thresholds: the thresholds, each `ratio` times the one before, rounded down.
        ratio: see `thresholds`.
        low, high: the numbers, in units of the opened sum, between which every sum divided by ratio^level lies.
    """

    drop: int
    bits: int
    thresholds: tuple[int, ...]
    ratio: float
    low: float
    high: float

    def opening(self, share: torch.Tensor) -> MaskedOpening:
        """Return the opening of the sums `share`."""
        return MaskedOpening(share, self.drop, self.bits, self.bits, 1)


def _sums(low: float, high: float, ratio: float, ring: int) -> Sums:
    """Return how sums between `low` and `high`, shared mod 2^ring, are opened and compared."""
    drop = math.floor(math.log2(low / 4))
    first = math.floor(ratio * low / 2.0**drop)
    thresholds = [first]
    while (above := math.floor(first * ratio ** len(thresholds))) <= high / 2.0**drop + 1:
        thresholds.append(above)
    bits = math.ceil(math.log2(high / 2.0**drop + 2)) + 1
    if drop + bits > ring:
        raise ArithmeticError(f"sums of {low:g} to {high:g} do not fit a ring of {ring} bits")
    return Sums(drop, bits, tuple(thresholds), ratio, (first - 1) / ratio, first)


@dataclass(frozen=True)
class Coarse:
    """The coarse sums of exponentials.

    Attributes:
        sums: how they are opened and compared.
        headroom: see `softmax.exponential`.
        point: the number of fractional bits of the exponentials.
        error: a bound on their relative error.
    """

    sums: Sums
    headroom: float
    point: int
    error: float


@dataclass(frozen=True)
class Doubling:
    """How rows are squared and divided by the coarse size of their sum.

    Attributes:
        sums: how the sums of the squares are opened.
        square_drop, square_bits: how the squares are opened.
        first: the integer that squares on level 0 are multiplied by.
        steps: how much this is less from one level to the next.
        factor_bits: the width of the ring in which the factor is opened.
        drop: how many low bits of the product are cut when it is opened.
        low, high: the integers between which the sums of rows lie when they are opened.
        square_low: the least sum of opened squares.
    """

    sums: Sums
    square_drop: int
    square_bits: int
    first: int
    steps: tuple[int, ...]
    factor_bits: int
    drop: int
    low: float
    high: float
    square_low: float


def _doubling(classes: int, low: float) -> Doubling:
    """Return the plan for rows whose sums are between `low` and HIGH when they are opened."""
    least = (low - classes) ** 2 / classes  # The sum of squares of numbers with a given sum is least where all agree.
    sums, drop = _sums(least, (HIGH + classes) ** 2.0, 3, Q_RING), 2 * NARROW - 2 - W_BITS
    top = 3 ** len(sums.thresholds)
    cut = 2.0 ** (sums.drop - drop)
    most = (sums.high * cut + classes) * top
    down = math.floor(math.log2(most / TOP)) + 8
    factor = math.floor(TOP * 2.0**down / most)
    first, levels = factor * top, [factor * 3**j for j in range(len(sums.thresholds), -1, -1)]
    steps = tuple(a - b for a, b in zip(levels, levels[1:], strict=False))
    least_out = (sums.low * cut - classes) * top * factor / 2.0**down
    return Doubling(sums, drop, W_BITS + 2, first, steps, first.bit_length() + 2, down, least_out, TOP,
                    least / 2.0**drop)  # fmt: skip


@dataclass(frozen=True)
class SoftmaxPlan:
    """The public numbers of a softmax.

    Attributes:
        classes: C.
        doublings: k.
        largest: the bound on |z| / 2^k.
        coarse: how the coarse sums of e^(z / 2^k) are opened; None where they need no level.
        roots: how often exponentials are squared: the exponents are divided by 2^roots before.
        shift: what is added to the exponents, divided by 2^roots.
        reach: the bound on the exponents of the second exponential.
        headroom: see `exponential`.
        most: the most bits that mantissas of the second exponential may have.
        bits: the bits of the second exponential.
        root_drop: how many low bits of the exponentials are cut before they are squared.
        drop: how many low bits of the rows are cut when they are opened.
        first_low: the least sum of an opened row before any doubling.
        stages: the doublings.
        low: the least opened sum of the last rows.
        reciprocal: the harmonics of the last division.
    """

    classes: int
    doublings: int
    largest: float
    coarse: Coarse | None
    roots: int
    shift: float
    reach: float
    headroom: float
    most: int
    bits: PowerBits
    root_drop: int
    drop: int
    first_low: float
    stages: tuple[Doubling, ...]
    low: float
    reciprocal: Fit

    @property
    def slip(self) -> float:
        """Return how far the sum of a row's probabilities may be from 1 before the last cut, with certainty."""
        return slip(self.classes, self.low, self.reciprocal.error())

    @property
    def highest(self) -> float:
        """Return a bound on the sum of a row's probabilities."""
        return 1 + self.slip

    def fit(self, name: str) -> Fit:
        """Return the harmonics of a function of the last sums."""
        return narrow_fit(name, self.low)


def slip(classes: int, low: float, error: float) -> float:
    """Return how far the sum of a row's probabilities may be from 1 before the last cut, with certainty.

    The row's opened sum is at least `low`, and `error` bounds the relative error of its reciprocal.
    """
    entry = classes * 2.0**X_DROP / low  # all entries of x are off by a unit, and so is the sum
    return (1 + entry + 1 / low) * (1 + error + 2.0**-Y_SCALE) - 1


def narrow_fit(name: str, low: float) -> Fit:
    """Return the harmonics of sums from `low` on, fitted to the narrowest of few ranges that all plans share."""
    ratio, count = next((ratio, count) for ratio, count in HARMONICS if HIGH / (low - 2) <= ratio)
    return fitted(name, math.floor(HIGH / ratio), HIGH, S_BITS, 1 << (S_BITS - 1), count)


def doublings(bound: float) -> int:
    """Return the number k of doublings, with bound / 2^k <= 16.

    Raises InputError: the bound is not above 0, or it needs more than MAX_DOUBLINGS doublings.
    """
    if not bound > 0 or bound > LARGEST_EXPONENT * 2**MAX_DOUBLINGS:
        raise InputError("session.logit_bound", bound, f"above 0, at most {LARGEST_EXPONENT * 2**MAX_DOUBLINGS:g}")
    return max(0, math.ceil(math.log2(bound / LARGEST_EXPONENT)))


@lru_cache(maxsize=256)
def plan(classes: int, bound: float, aside: float = 0.0, precise: bool = False) -> SoftmaxPlan:
    """Return the plan for rows of `classes` logits within bound + aside, whose mean is within `aside` of 0.

    `precise` asks for exponentials with mantissas of 20 bits, which takes a round more where exponents are large.

    Raises InputError: the bound or the number of classes is too large.
    """
    k = doublings(bound)
    if classes > MAX_CLASSES:
        raise InputError("classes", classes, f"at most {MAX_CLASSES}: with more, the softmax on shares is too coarse")
    largest, aside = (bound + aside) / 2.0**k, aside / 2.0**k
    low, high = math.log(classes) - aside, math.log(classes) + aside + math.log(math.cosh(largest))
    coarse, top, bottom = _coarse(classes, largest, low, high), largest, -largest
    room = max(0.0, high - largest) / LN2
    if coarse is not None:
        error, place = coarse.error, (coarse.sums.drop - coarse.point) * LN2
        low, high = (math.log(end) + place for end in (coarse.sums.low / (1 + error), coarse.sums.high / (1 - error)))
        top, bottom, room = high, -largest - len(coarse.sums.thresholds) * math.log(COARSE), 0.0
    roots = 0
    while ((top - bottom) / 2.0**roots + LN2) / 2 > (SHORT if precise else LONG):
        roots += 1
    parts = 2**roots
    reach = ((top - bottom) / parts + LN2) / 2
    most = PRECISE_MANTISSA if precise else MANTISSA
    bits = power_bits(reach, room, most)
    middle = -(top + bottom) / parts / 2
    at = (high / parts + middle) / LN2 + bits.point - math.log2(TOP)  # The largest sum, or root, becomes TOP.
    down = round(at)
    shift = middle + (down - at) * LN2
    error = parts * power_error(reach, bits) + 2 * roots * parts * math.sqrt(8 * classes) / TOP
    first = TOP * (TOP / 2.0 ** (NARROW - 1)) ** (parts - 1) * math.exp(low - high) * (1 - error) - 2
    stages, last = [], first
    for _ in range(k):
        stages.append(_doubling(classes, last))
        last = stages[-1].low - 2
    fit = narrow_fit("reciprocal", last)
    return SoftmaxPlan(classes, k, largest, coarse, roots, shift, reach, room, most, bits, down,
                       NARROW - 1 if roots else down, first, tuple(stages), last, fit)  # fmt: skip


def _coarse(classes: int, largest: float, low: float, high: float) -> Coarse | None:
    """Return how sums of exponentials between e^low and e^high are compared; None if they need no level."""
    bits = power_bits(largest + LN2, high - largest, MANTISSA)
    error = power_error(largest + LN2, bits)
    if math.exp(high - low) * (1 + error) / (1 - error) <= DIRECT:
        return None
    headroom = (high - largest) / LN2 + COARSE_ROOM
    bits = power_bits(largest, headroom, COARSE_MANTISSA)
    error = power_error(largest, bits)
    ends = math.exp(low) * 2.0**bits.point * (1 - error), math.exp(high) * 2.0**bits.point * (1 + error)
    return Coarse(_sums(*ends, COARSE, 64), headroom, bits.point, error)
