"""Bounds on the errors of the softmax and log-softmax without a bound on logits, for one row of logits.

In go the number of classes and the public largest difference of two logits; out come `softmax_accuracy.Off`, which say
how a sum over rows is bounded. `of_method` and `log_of_method` choose between these and those of the softmax with a
bound, by the public rule of `release.unbounded_logits`. With v, m, x, C and u as in `mpc.protocols.unbounded_softmax`:

- A power is off by chance as in `softmax`, and a rate that is rounded multiplies all v by one factor 1 + t. This moves
  a weighted sum of probabilities by t (8 + u) / 2 at most, for the window of v is 16 + 2 u wide, and the logarithm of
  the sum by t times the mean of v under the probabilities, which is at most ln C + u in size.
- What lies below the window is left out: at most (C - 1) e^(-16 + 2 u) of the sum.
- x is opened once, and once as a sum; then the rows are divided, or the logarithm is taken, as in `softmax_accuracy`.
  Where the division has two steps, the first opening of x counts besides, and the error of its rough reciprocal cancels
  (see `row_division`).

The constants and formulas here are part of the proof and are not to be tuned.
"""

from __future__ import annotations

import math
from functools import lru_cache

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.mpc.protocols.log_softmax import LOG_BITS
from mpc_appraisal.mpc.protocols.row_division import division_plan
from mpc_appraisal.mpc.protocols.softmax_plan import BITS, LOGIT_RANGE, X_DROP, Y_SCALE
from mpc_appraisal.mpc.protocols.unbounded_softmax import FLOOR_BITS, STEP_BITS, Window, log_bits, log_fit, window
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT
from mpc_appraisal.release.softmax_accuracy import TABLE, Off, log_softmax_off, softmax_off
from mpc_appraisal.release.unbounded_logits import unbounded_spread

USUAL_BITS = 36  # A logit has so many fractional bits, or differs from that by whole bits that are cut.


def of_method(method: Appraiser, facts: Facts, engine: str, classes: int, bound: float) -> Off:
    """Return the error of a weighted sum of one row's probabilities in this method; see `softmax_off`."""
    spread = unbounded_spread(method, facts)
    return softmax_off(classes, bound, engine) if spread is None else unbounded_softmax_off(classes, spread)


def log_of_method(method: Appraiser, facts: Facts, engine: str, bound: float) -> Off:
    """Return the error of an entry of one row's log-softmax in this method; see `log_softmax_off`."""
    spread = unbounded_spread(method, facts)
    if spread is None:
        return log_softmax_off(facts.classes, bound, engine)
    return unbounded_log_softmax_off(facts.classes, spread, facts.test_rows)


def _of_powers(w: Window) -> tuple[float, float]:
    """Return the relative error by chance of an entry of x, and by how much the rounded rate multiplies v."""
    step = 2.0 ** (w.drop - USUAL_BITS)
    factor = math.sqrt(3) / 2 * 2.0**-w.mantissa + LN3 / 2 * 2.0**-20
    return 2 * factor + (step / 2 if w.drop else 0.0), abs(w.rate / (step / LN3 * 2.0**POINT) - 1)


def _left_out(classes: int, w: Window) -> float:
    return (classes - 1) * math.exp(2 * 2.0**-w.point - LOGIT_RANGE)


@lru_cache(maxsize=64)
def unbounded_softmax_off(classes: int, spread: float) -> Off:
    """Return the error of a weighted sum of one row's probabilities, computed from given logits.

    No two of the weights differ by more than 1. `spread` is the largest difference of two logits.
    """
    w = window(classes, USUAL_BITS, spread)
    power, tilt = _of_powers(w)
    how, wide = division_plan(classes, w.low, w.down), 2.0**-w.point
    entry, drift = 2.0**X_DROP / how.low, 1 / how.low + 2.0**-Y_SCALE
    sure = (tilt * (LOGIT_RANGE / 2 + wide) + TABLE) / 2 + _left_out(classes, w) + how.error + drift**2
    square = power**2 / 8 + drift**2 + (entry / 2) ** 2 * classes + classes * 4.0 ** -(BITS + 1)
    if how.rough is not None:  # x is opened once more before, in finer units
        first = 2.0**how.x_down / w.low
        sure += classes * first**2
        square += (first / 2) ** 2 * classes
    return Off(sure, math.sqrt(square))


@lru_cache(maxsize=64)
def unbounded_log_softmax_off(classes: int, spread: float, rows: int | None) -> Off:
    """Return the error of an entry of one row's log-softmax, computed from given logits.

    rows: how many rows the log-softmax has; None for one with a floor, which is 16 below the rounded largest logit.
    """
    w = window(classes, USUAL_BITS, spread, STEP_BITS if rows is not None else FLOOR_BITS)
    power, tilt = _of_powers(w)
    step, kept = 2.0**-w.point, 2.0**-LOG_BITS if rows is None else 2.0 ** -log_bits(rows, spread)
    sure = TABLE + tilt * (math.log(classes) + step) + 2 * (tilt * LOGIT_RANGE) ** 2 + _left_out(classes, w)
    sure += step if rows is None else 0.0  # the floor is 16 below m, not below the largest logit
    sure += log_fit(w).error()
    square = power**2 + (2.0**w.down / w.low) ** 2 + 2 * (kept / 2) ** 2
    return Off(sure, math.sqrt(square))
