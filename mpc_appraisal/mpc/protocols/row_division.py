"""Positive rows divided by their sums, by harmonics: once where the sums' range is narrow, else twice.

    p = x y,  y = 1 / s,  s = sum of x                           where the largest s is at most DIRECT times the least
    p = q y,  y = 1 / t,  t = sum of q,  q = x y',  y' within a part e of 1 / s                              elsewhere

In go shares of positive rows x (n, C) and the public range of their sums; out come shares of rows that sum to 1. y' is
a sum of few harmonics, whose relative error e on a wide range is up to one half. q is exactly x y' for the opened x and
y', so that no error of y' remains: e only says that t lies within 1 - e and 1 + e, and there few harmonics give
1 / t within 1e-6. So a division takes two rounds, or four whatever the range is, and no iteration.

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
    narrow_fit,
    slip,
)

WIDE_BITS = 24  # x and y' are opened with so many bits where two reciprocals are taken.
# For sums in a range of at most the first number's ratio: the number of harmonics of y', the number j of bits by which
# the integer that stands for 1 is below TOP, and a bound on the relative error of y', which `_rough` checks.
ROUGH = ((17.5, 6, 5, 0.02), (36.0, 6, 6, 0.10), (70.0, 8, 11, 0.12), (140.0, 8, 12, 0.30), (430.0, 10, 16, 0.55))
SLACK = 0.001  # The roundings of x, s and y' move t by less than this part.


@dataclass(frozen=True)
class Rough:
    """The first of two reciprocals.

    Attributes:
        fit: the harmonics of y'.
        point: the number of fractional bits of the opened y'.
        drop: how many low bits of the sums of q are cut when they are opened.
    """

    fit: Fit
    point: int
    drop: int


@dataclass(frozen=True)
class DivisionPlan:
    """The public numbers of a division.

    Attributes:
        classes: C.
        down: how many low bits of the sums of x are cut when they are opened.
        x_down: how many low bits of x are cut when it is opened.
        rough: the first of two reciprocals; None where there is one.
        low: the least sum that the last reciprocal is taken of, as it is opened.
        reciprocal: the harmonics of the last reciprocal.
    """

    classes: int
    down: int
    x_down: int
    rough: Rough | None
    low: float
    reciprocal: Fit

    @property
    def highest(self) -> float:
        """Return a bound on the sum of a row's probabilities."""
        return 1 + slip(self.classes, self.low, self.reciprocal)


@lru_cache(maxsize=256)
def division_plan(classes: int, low: float, down: int) -> DivisionPlan:
    """Return the plan for rows whose sums lie between `low` and TOP * 2^down.

    No entry may be above a part 1 / classes of the largest sum.

    Raises ArithmeticError: the range of the sums is too wide.
    """
    least = low / 2.0**down
    if HIGH / (least - 2) <= DIRECT:
        return DivisionPlan(classes, down, down + X_DROP, None, least, narrow_fit("reciprocal", least))
    wider = math.floor(math.log2(classes))  # entries of x have so many bits less than the sums
    fit, point, below, off = _rough(HIGH / (least - 2))
    drop = point + wider - below
    smallest = fit.one / HIGH * 2.0**point * (1 - off)
    slack = 2 / least + classes / 2.0**wider / least + 2 / smallest
    if slack > SLACK or drop + X_DROP + X_BITS > Q_RING or TOP * 2.0**drop >= 2.0 ** (Q_RING - 1):
        raise ArithmeticError(f"no division of rows of {classes} with sums from {low:g} to {TOP * 2.0**down:g}")
    last = fit.one * 2.0**below * (1 - off) * (1 - SLACK)
    return DivisionPlan(classes, down, down - wider, Rough(fit, point, drop), last, narrow_fit("reciprocal", last))


@lru_cache(maxsize=64)
def _rough(ratio: float) -> tuple[Fit, int, int, float]:
    """Return the harmonics of y', its fractional bits, j, and the bound on its error; see ROUGH."""
    entry = next((each for each in ROUGH if ratio <= each[0]), None)
    if entry is None:
        raise ArithmeticError(f"sums that differ by a factor of {ratio:g}: at most {ROUGH[-1][0]:g}")
    most, count, below, off = entry
    one, low = math.floor(TOP / 2.0**below / (1 + off) / (1 + SLACK)), math.floor(HIGH / most)
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
        x, s = _narrowed(engine, x, s, how.rough)
    y = reciprocal(engine, s, how.reciprocal)
    p = product(engine, x, y)
    evict(engine, x, s, y)
    return engine.truncate_locally(p, P_SCALE - BITS, P_SCALE + math.log2(how.highest))


def _narrowed(engine: Engine, x: MaskedValue, s: MaskedValue, how: Rough) -> tuple[MaskedValue, MaskedValue]:
    """Return the opened q and t of the formula above; two rounds. The masks of x and s are dropped."""
    share = harmonics.evaluate(engine, s, how.fit, harmonics.waves(engine, s, how.fit.harmonics))
    (y,) = open_all(engine, MaskedOpening(share, harmonics.POINT - how.point, WIDE_BITS, Q_RING))
    q = product(engine, x, y)
    evict(engine, x, s, y)
    q, t = open_all(
        engine,
        MaskedOpening(q, how.drop + X_DROP, X_BITS, 64),
        MaskedOpening(q.sum(1, keepdim=True), how.drop, S_BITS, S_BITS, 2),
    )
    return q, t
