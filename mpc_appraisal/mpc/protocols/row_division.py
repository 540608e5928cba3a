"""Positive rows divided by their sums, by harmonics: once where the sums' range is narrow, else in two steps.

    p = x y,  y = 1 / s,  s = sum of x                           where the largest s is at most DIRECT times the least
    p = q y,  t = sum of q,  q = x y',  y' within a part e of 1 / s                                          elsewhere
    y = 1 / t by harmonics, or y = 2 + e^2 / 2 - t, which is right within e^2 / 2, where e is at most LINE

In go shares of positive rows x (n, C) and the public range of their sums; out come shares of rows that sum to 1. y' is
a sum of few harmonics, whose relative error e on a wide range is up to one half. q is exactly x y' for the opened x and
y', so that no error of y' remains: e only says that t lies within 1 - e and 1 + e. So a division takes two rounds, or
three or four by the width of the range, and no iteration.

What leaves each owner are values under masks of the dealer, and nothing is revealed. docs/protocols/engine.md derives
the ranges. The constants fit together: they keep every value within its ring, and may change only with that page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from mpc_appraisal.mpc.protocols import harmonics
from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.harmonics import Fit, fitted
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all, product
from mpc_appraisal.mpc.protocols.softmax import reciprocal
from mpc_appraisal.mpc.protocols.softmax_plan import (
    BITS,
    DIRECT,
    HIGH,
    P_SCALE,
    Q_RING,
    S_BITS,
    TOP,
    X_BITS,
    X_DROP,
    Y_SCALE,
    narrow_fit,
    slip,
)

WIDE_BITS = 24  # x and y' are opened with so many bits where two reciprocals are taken.
ONE_DROP = S_BITS - 1 - Y_SCALE  # t has as many fractional bits as a reciprocal where 1 / t is a line.
LINE_BITS = Y_SCALE + 2  # t is opened with so many bits then.
ONE = 1 << (S_BITS - 1)  # Sums are integers up to this.
LINE = 0.0025  # Where y' is off by at most this part, 1 / t is a line.
# For sums in a range of at most the first number's ratio: the number of harmonics of y', the number of bits by which
# the integer that stands for 1 is below ONE, and a bound on the relative error of y', which `_rough` checks.
ROUGH = (
    (9.0, 6, 4, 0.0015),
    (17.5, 8, 7, LINE),
    (36.0, 6, 6, 0.10),
    (70.0, 8, 11, 0.12),
    (140.0, 8, 12, 0.30),
    (430.0, 10, 16, 0.55),
)
SLACK = 0.001  # The roundings of x, s and y' move t by less than this part.


@dataclass(frozen=True)
class Rough:
    """The first of two reciprocals.

    Attributes:
        fit: the harmonics of y'.
        point: the number of fractional bits of the opened y'.
        drop: how many low bits of the sums of q are cut when they are opened, so that 1 is close to ONE.
        lift: what is added to 2 - t where the last reciprocal is a line.
    """

    fit: Fit
    point: int
    drop: int
    lift: float


@dataclass(frozen=True)
class DivisionPlan:
    """The public numbers of a division.

    Attributes:
        classes: C.
        down: how many low bits of the sums of x are cut when they are opened.
        x_down: how many low bits of x are cut when it is opened.
        rough: the first of two reciprocals; None where there is one.
        low: the least sum that the last reciprocal is taken of, in units of 1 / ONE where it is a line.
        reciprocal: the harmonics of the last reciprocal; None where it is a line.
        error: a bound on the relative error of the last reciprocal.
    """

    classes: int
    down: int
    x_down: int
    rough: Rough | None
    low: float
    reciprocal: Fit | None
    error: float

    @property
    def highest(self) -> float:
        """Return a bound on the sum of a row's probabilities."""
        return 1 + slip(self.classes, self.low, self.error)


@lru_cache(maxsize=256)
def division_plan(classes: int, low: float, down: int) -> DivisionPlan:
    """Return the plan for rows whose sums lie between `low` and TOP * 2^down.

    No entry may be above a part 1 / classes of the largest sum.

    Raises ArithmeticError: the range of the sums is too wide.
    """
    least = low / 2.0**down
    if HIGH / (least - 2) <= DIRECT:
        fit = narrow_fit("reciprocal", least)
        return DivisionPlan(classes, down, down + X_DROP, None, least, fit, fit.error())
    wider = math.floor(math.log2(classes))  # entries of x have so many bits less than the sums
    fit, point, below, off = _rough(HIGH / (least - 2))
    drop = point + wider - below
    smallest = fit.one / HIGH * 2.0**point * (1 - off)
    slack = 2 / least + classes / 2.0**wider / least + 2 / smallest
    most = drop + max(S_BITS, X_DROP + X_BITS, ONE_DROP + LINE_BITS if off <= LINE else 0)
    if slack > SLACK or most > Q_RING:  # the sum of q is below 2^(drop + S_BITS - 1), or barely above it
        raise ArithmeticError(f"no division of rows of {classes} with sums from {low:g} to {TOP * 2.0**down:g}")
    if off <= LINE:
        e = (1 + off) * (1 + slack) - 1
        rough, last = Rough(fit, point, drop, e**2 / 2), ONE * (1 - e)
        return DivisionPlan(classes, down, down - wider, rough, last, None, e**2 / 2 * (1 + 2 * e))
    rough, last = Rough(fit, point, drop, 0.0), fit.one * 2.0**below * (1 - off) * (1 - SLACK)
    fit = narrow_fit("reciprocal", last)
    return DivisionPlan(classes, down, down - wider, rough, last, fit, fit.error())


@lru_cache(maxsize=64)
def _rough(ratio: float) -> tuple[Fit, int, int, float]:
    """Return the harmonics of y', its fractional bits, j, and the bound on its error; see ROUGH."""
    entry = next((each for each in ROUGH if ratio <= each[0]), None)
    if entry is None:
        raise ArithmeticError(f"sums that differ by a factor of {ratio:g}: at most {ROUGH[-1][0]:g}")
    most, count, below, off = entry
    one, low = ONE >> below, math.floor(HIGH / most)
    if off > LINE:  # t is opened in 24 bits, and at most TOP
        one = math.floor(TOP / 2.0**below / (1 + off) / (1 + SLACK))
    fit = fitted("reciprocal", low, HIGH, S_BITS, one, count)
    if fit.shift or fit.error() > off:
        raise ArithmeticError(f"{count} harmonics are off by {fit.error():.2g} on a range of 1 to {most:g}: not {off}")
    point = math.floor(math.log2((2.0 ** (WIDE_BITS - 1) - 16) / (one / low * (1 + off))))
    return fit, point, below, off


def divided(engine: Engine, x: torch.Tensor, how: DivisionPlan) -> torch.Tensor:
    """Return shares (n, C), with 16 fractional bits, of the rows of x divided by their sums.

    Args:
        engine: this owner's end.
        x: shares mod 2^64 of the rows.
        how: the plan for the range of their sums.
    """
    total = MaskedOpening(x.sum(1, keepdim=True), how.down, S_BITS, S_BITS, 2)
    if how.rough is None:
        x, s = open_all(engine, MaskedOpening(x, how.x_down, X_BITS, 64), total)
    else:
        x, s = open_all(engine, MaskedOpening(x, how.x_down, WIDE_BITS, Q_RING, 2), total)
        x, s = _narrowed(engine, x, s, how)
    if how.reciprocal is None:
        p = (x.share(engine) << (Y_SCALE + 1)) - product(engine, x, s)
        evict(engine, x, s)
    else:
        y = reciprocal(engine, s, how.reciprocal)
        p = product(engine, x, y)
        evict(engine, x, s, y)
    return engine.truncate_locally(p, P_SCALE - BITS, P_SCALE + math.log2(how.highest))


def _narrowed(engine: Engine, x: MaskedValue, s: MaskedValue, how: DivisionPlan) -> tuple[MaskedValue, MaskedValue]:
    """Return the opened q and t of the formula above, t less the line's lift; two rounds. x and s are forgotten."""
    rough = how.rough
    share = harmonics.evaluate(engine, s, rough.fit, harmonics.waves(engine, s, rough.fit.harmonics))
    (y,) = open_all(engine, MaskedOpening(share, harmonics.POINT - rough.point, WIDE_BITS, Q_RING))
    q = product(engine, x, y)
    evict(engine, x, s, y)
    t = q.sum(1, keepdim=True)
    opening = MaskedOpening(t, rough.drop, S_BITS, S_BITS, 2)
    if how.reciprocal is None:
        t = t - engine.public_share(torch.full_like(t, round(rough.lift * ONE * 2.0**rough.drop)))
        opening = MaskedOpening(t, rough.drop + ONE_DROP, LINE_BITS, 64, 2)
    q, t = open_all(engine, MaskedOpening(q, rough.drop + X_DROP, X_BITS, 64), opening)
    return q, t
