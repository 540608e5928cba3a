"""Reciprocals of positive shared numbers of a known range, by Goldschmidt's iteration on opened values.

    t_0 = s, y_0 = 1;   t' = k t (sigma - t),  y' = y (sigma - t);   s y nu = t -> 1

sigma and k bring the known range of t closest to 1 (Chebyshev): the ratio of its largest to its smallest shrinks to a
quarter a step, and near 1 its distance is squared. One round a step. What is wanted is y alone; the first is linear in
s, and is not opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, forget, open_all, product

Y_BITS = 24  # of a y on the way; s has two less at most
MARGIN = 10  # units that an opened value keeps from the end of its range: `Opening.low`, and two for rounding
_STEP = 7  # bits of k


@dataclass(frozen=True)
class Step:
    """To the next value, of integers x (sigma - t): times factor, cut by drop bits."""

    sigma: int
    factor: int
    drop: int


@dataclass(frozen=True)
class ReciprocalPlan:
    """Steps of t, and the last one, of y alone, for s in a range.

    work: fractional bits of t. bits: that y is opened with. s y = t scale for t in [low, high], of which roundings,
    each of no mean, are at most the part `drift`.
    """

    steps: tuple[Step, ...]
    last: Step
    work: int
    bits: int
    scale: float
    low: float
    high: float
    drift: float = 0.0

    def ring(self, step: int) -> int:
        """Bits of the ring that t and y are multiplied in after `step` steps; s after none."""
        if step == len(self.steps):
            return self.last.drop + self.bits
        of_t = self.work + 2 + self.steps[step].drop
        return max(of_t, self.ring(1)) if step == 0 else max(of_t, Y_BITS + self.work + 1)


@lru_cache(maxsize=64)
def plan(low: int, high: int, goal: float, work: int, scale: float, precision: int, bits: int | None) -> ReciprocalPlan:
    """For integers s in [low, high], right within one unit, s y close to `scale`; its factor has `precision` bits.

    bits: see `Plan`; None for as many as the ring of 64 leaves.
    """
    steps: list[Step] = []
    at_low, at_high, unit, nu = float(low), float(high), 1.0, 1.0
    drift = 1.0 / low  # of s y nu from t, relative: by the rounding of s, of t, of y
    while True:
        sigma = round((at_low + at_high) / unit)
        s, delta = sigma * unit, at_high - at_low
        k = 8.0 / (2.0 * s * s - delta * delta)
        new_low, new_high = k * min(at_low * (s - at_low), at_high * (s - at_high)), k * s * s / 4.0
        if steps and new_high / new_low <= goal:
            break
        drop, factor = _fraction(k * unit * unit * 2.0**work, _STEP)
        while factor * sigma * sigma / 4 / 2.0**drop + MARGIN >= 2.0 ** (work + 1):
            factor -= 1  # t' is opened with one bit for its whole part: rounded up, k may bring it to 2
        k = factor / (unit * unit * 2.0 ** (work + drop))
        rounding = 2.0**-work
        new_low, new_high = k * min(at_low * (s - at_low), at_high * (s - at_high)), k * s * s / 4.0
        nu = k if not steps else 2.0 * k * nu
        if steps:
            drift += nu * high / new_low  # y of at least new_low / (high nu), a unit wrong
        drift += rounding / new_low
        at_low, at_high, unit = new_low - rounding, new_high + rounding, rounding
        steps.append(Step(sigma, factor, drop))
    drop, factor = _fraction(scale * k * nu / 2.0**work, precision)
    scale = factor / 2.0**drop * 2.0**work / (k * nu)
    drift += high / (new_low * scale)
    bits = 64 - drop if bits is None else bits
    low_t, high_t = new_low * (1 - drift), new_high * (1 + drift)
    how = ReciprocalPlan(tuple(steps), Step(sigma, factor, drop), work, bits, scale, low_t, high_t, drift)
    if max(how.ring(n) for n in range(len(steps) + 1)) > 64 or low_t <= 0:
        raise ArithmeticError(f"no reciprocals of {low} to {high} with a scale of {scale:g} in a ring of 64 bits")
    return how


def _fraction(value: float, bits: int) -> tuple[int, int]:
    """drop, factor with value = factor / 2^drop, the factor of `bits` bits."""
    drop = 0
    while value * 2.0**drop < 2.0 ** (bits - 1):
        drop += 1
    return drop, round(value * 2.0**drop)


def reciprocal(engine: Engine, s: MaskedValue, how: ReciprocalPlan, ring: int) -> MaskedValue:
    """y for s, opened for products mod 2^ring; s, opened for products mod 2^how.ring(0), is forgotten."""
    work, t, y = how.work, s, None
    first = how.steps[0].sigma
    for n, step in enumerate(how.steps):
        share = step.sigma * t.share(engine) - product(engine, t, t, work + 2 + step.drop)
        wanted = [MaskedOpening(share * step.factor, step.drop, work + 2, how.ring(n + 1))]
        if n > 0:
            wanted.append(MaskedOpening(_times(engine, s, first, y, t, step.sigma), work + 1, Y_BITS, how.ring(n + 1)))
        opened = open_all(engine, *wanted)
        forget(engine, *(v for v in (t, y) if v is not None and v is not s))
        t, y = opened[0], opened[1] if n > 0 else None
    share = _times(engine, s, first, y, t, how.last.sigma) * how.last.factor
    (out,) = open_all(engine, MaskedOpening(share, how.last.drop, how.bits, ring))
    forget(engine, *(v for v in (s, t, y) if v is not None))
    return out


def _times(
    engine: Engine, s: MaskedValue, first: int, y: MaskedValue | None, t: MaskedValue, sigma: int
) -> torch.Tensor:
    """y (sigma - t), where y = first - s as long as it was not opened."""
    if y is not None:
        return sigma * y.share(engine) - product(engine, y, t)
    known = engine._first(torch.full_like(t.delta, first * sigma))
    return known - first * t.share(engine) - sigma * s.share(engine) + product(engine, s, t)
