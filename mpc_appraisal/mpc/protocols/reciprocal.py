"""Reciprocals of positive shared integers in a known range, by Goldschmidt's iteration on masked values.

    t_0 = s,  y_0 = 1                                    s is in [low, high]
    t' = k t (sigma - t),  y' = y (sigma - t)            s y nu = t -> 1, for a public factor nu

In go a masked value s (see `masked`), whose elements are all inverted at once, and the public numbers that `plan`
makes of the range. Out comes the masked value y = scale t / s, for the last t of the iteration, which is near 1;
t' and y' are the next t and y. `plan` brings the ratio of the largest last t to the smallest below `goal`; roundings
add a relative error of at most `ReciprocalPlan.drift`.

The public numbers sigma and k are those that bring the known range of t closest to 1 (Chebyshev). The ratio of the
largest t to the smallest shrinks by a factor of about four in a step, and near 1 its distance from 1 is squared. A step
takes one round, and one more round opens y. In a step each owner sends the other t, in ceil((work + 2) / 8) bytes an
element, and y in 3 bytes, where `work` is how many fractional bits t has. The first y is linear in s, so that it is not
opened. The owners learn masked values only.

The iteration is Goldschmidt's; see Catrina and Saxena ("Secure computation with fixed-point numbers", FC 2010). The
widths below may change only where `plan` still keeps every opened value within its ring: a value outside would be wrong
without a sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from mpc_appraisal.mpc.protocols.engine import Engine
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, MaskedValue, evict, open_all, product

Y_BITS = 24  # An intermediate y is opened in a ring of so many bits; s has at most two bits less.
MARGIN = 10  # An opened value stays so many units inside its range: `MaskedOpening.low`, and two units for rounding.
_STEP = 7  # The integer that stands for k has so many bits.


@dataclass(frozen=True)
class Step:
    """One step of the iteration on integers, in which x (t or y) becomes x (sigma - t) * factor / 2^drop."""

    sigma: int
    factor: int
    drop: int


@dataclass(frozen=True)
class ReciprocalPlan:
    """The public numbers of the iteration, for every s in one range.

    Attributes:
        steps: the steps of t and y.
        last: the step of y alone that ends the iteration.
        work: how many fractional bits t has.
        bits: the width in bits of the ring in which the last y is opened.
        scale: the factor in s y = t scale.
        low, high: the range of the last t, roundings included.
        drift: the largest relative error of t that comes from roundings. Each rounding has a mean of zero.
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
        """Return the width in bits of the ring in which t and y are multiplied after `step` steps; ring(0) is for s."""
        if step == len(self.steps):
            return self.last.drop + self.bits
        of_t = self.work + 2 + self.steps[step].drop
        return max(of_t, self.ring(1)) if step == 0 else max(of_t, Y_BITS + self.work + 1)


@lru_cache(maxsize=64)
def plan(low: int, high: int, goal: float, work: int, scale: float, precision: int, bits: int | None) -> ReciprocalPlan:
    """Return the plan that takes integers s in [low, high], each right within one unit, to y close to scale / s.

    Args:
        low, high: the range of s, with low above 0.
        goal: the ratio of the largest s y to the smallest at which the iteration stops.
        work: how many fractional bits t has on the way.
        scale: what s y should be; the plan states the nearest value that its integers allow.
        precision: how many bits the integer factor of the last step has.
        bits: the width in bits of the ring in which the last y is opened; None takes what the ring of 64 bits leaves.

    Raises ArithmeticError: the range does not fit a ring of 64 bits with this scale.
    """
    steps: list[Step] = []
    at_low, at_high, unit, nu = float(low), float(high), 1.0, 1.0
    drift = 1.0 / low  # This is the relative distance of s y nu from t, which rounding s, t and y causes.
    while True:
        sigma = round((at_low + at_high) / unit)
        s, delta = sigma * unit, at_high - at_low
        k = 8.0 / (2.0 * s * s - delta * delta)
        new_low, new_high = k * min(at_low * (s - at_low), at_high * (s - at_high)), k * s * s / 4.0
        if steps and new_high / new_low <= goal:
            break
        drop, factor = _fraction(k * unit * unit * 2.0**work, _STEP)
        while factor * sigma * sigma / 4 / 2.0**drop + MARGIN >= 2.0 ** (work + 1):
            factor -= 1  # t' is opened with one bit for its integer part, and a k that is rounded up may bring it to 2.
        k = factor / (unit * unit * 2.0 ** (work + drop))
        rounding = 2.0**-work
        new_low, new_high = k * min(at_low * (s - at_low), at_high * (s - at_high)), k * s * s / 4.0
        nu = k if not steps else 2.0 * k * nu
        if steps:
            drift += nu * high / new_low  # y is off by a unit and is at least new_low / (high nu).
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
    """Return integers drop and factor, with `value` close to factor / 2^drop and `bits` bits in the factor."""
    drop = 0
    while value * 2.0**drop < 2.0 ** (bits - 1):
        drop += 1
    return drop, round(value * 2.0**drop)


def reciprocal(engine: Engine, s: MaskedValue, how: ReciprocalPlan, ring: int) -> MaskedValue:
    """Return the masked value y close to how.scale / s, after len(how.steps) + 1 rounds.

    Args:
        engine: this owner's end.
        s: the masked value to divide by, opened for products mod 2^how.ring(0). Its mask is dropped at the end.
        how: the plan for the range of s, the same at both owners.
        ring: the width in bits of the ring of the products that y may enter later.
    """
    work, t, y = how.work, s, None
    first = how.steps[0].sigma
    for n, step in enumerate(how.steps):
        share = step.sigma * t.share(engine) - product(engine, t, t, work + 2 + step.drop)
        wanted = [MaskedOpening(share * step.factor, step.drop, work + 2, how.ring(n + 1))]
        if n > 0:
            wanted.append(MaskedOpening(_times(engine, s, first, y, t, step.sigma), work + 1, Y_BITS, how.ring(n + 1)))
        masked = open_all(engine, *wanted)
        evict(engine, *(v for v in (t, y) if v is not None and v is not s))
        t, y = masked[0], masked[1] if n > 0 else None
    share = _times(engine, s, first, y, t, how.last.sigma) * how.last.factor
    (out,) = open_all(engine, MaskedOpening(share, how.last.drop, how.bits, ring))
    evict(engine, *(v for v in (s, t, y) if v is not None))
    return out


def _times(
    engine: Engine, s: MaskedValue, first: int, y: MaskedValue | None, t: MaskedValue, sigma: int
) -> torch.Tensor:
    """Return a share of y (sigma - t). While y has not been opened (None), y is first - s."""
    if y is not None:
        return sigma * y.share(engine) - product(engine, y, t)
    known = engine.public_share(torch.full_like(t.delta, first * sigma))
    return known - first * t.share(engine) - sigma * s.share(engine) + product(engine, s, t)
