"""Bounds on the errors of the softmax and log-softmax without a bound on logits, for one row of logits.

In go the number of classes and the public largest difference of two logits; out come `softmax_accuracy.Off`, which say
how a sum over rows is bounded. `of_method` and `log_of_method` choose between these and those of the softmax with a
bound, by the public rule of `release.unbounded_logits`. With v, m, x, C and u as in `mpc.protocols.unbounded_softmax`:

- A power is off by chance as in `softmax`, and a rate that is rounded multiplies all v by one factor 1 + t. This moves
  a weighted sum of probabilities by t (8 + u) / 2 at most, for the window of v is 16 + 2 u wide, and the logarithm of
  the sum by t times the mean of v under the probabilities, which is at most ln C + u in size.
- What lies below the window is left out: at most (C - 1) e^(-16 + 2 u) of the sum.
- x is opened once, and once as a sum; then the rows are divided, or the logarithm is taken, as in `softmax_accuracy`.

The constants and formulas here are part of the proof and are not to be tuned.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.log_softmax import LOG_BITS
from mpc_appraisal.mpc.protocols.row_division import OPEN_BITS, PositiveRows, divided, polynomial
from mpc_appraisal.mpc.protocols.softmax_plan import BITS, LOGIT_RANGE, MANTISSA, Z_BITS
from mpc_appraisal.mpc.protocols.unbounded_softmax import FLOOR_BITS, STEP_BITS, X_BITS, Window, log_bits, window
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, stretched
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor
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
    drop = math.floor(math.log2(w.one)) - X_BITS
    rows = PositiveRows(shape_tensor((1, classes)), 64, drop, w.one, w.low, w.high)
    last = divided(DrySession().context.engine, rows).how
    sure = (tilt * (LOGIT_RANGE / 2 + 2.0**-w.point) + TABLE) / 2 + _left_out(classes, w)
    sure += max(last.high / (1 + last.drift) - 1, 1 - last.low / (1 - last.drift)) + last.drift**2
    square = power**2 / 8 + (2.0**drop / w.low / 2) ** 2 * classes + last.drift**2 + classes * 4.0 ** -(BITS + 1)
    return Off(sure, math.sqrt(square))


@lru_cache(maxsize=64)
def unbounded_log_softmax_off(classes: int, spread: float, rows: int | None) -> Off:
    """Return the error of an entry of one row's log-softmax, computed from given logits.

    rows: how many rows the log-softmax has; None for one with a floor, which is 16 below the rounded largest logit.
    """
    w = window(classes, USUAL_BITS, spread, STEP_BITS if rows is not None else FLOOR_BITS)
    power, tilt = _of_powers(w)
    unit, step = 2.0**-LOG_BITS, 2.0**-w.point
    kept = unit if rows is None else 2.0 ** -log_bits(rows, spread)
    drop = math.ceil(math.log2(w.high / (2.0 ** (OPEN_BITS - 1) - 16)))
    sure = TABLE + tilt * (math.log(classes) + step) + 2 * (tilt * LOGIT_RANGE) ** 2 + _left_out(classes, w)
    inverse, skew = _power(math.log(2 * w.high / w.low) + 0.2, unit)
    sure += step if rows is None else 0.0  # the floor is 16 below m, not below the largest logit
    sure += _series(w.low / w.high, 1.0) + skew + TABLE
    square = power**2 + (2.0**drop / w.low / 2) ** 2 + 2 * kept**2 + (inverse + 2.5 * unit) ** 2
    return Off(sure, math.sqrt(square))


def _power(largest: float, unit: float) -> tuple[float, float]:
    """Bound the errors of an exponential of numbers of `unit` and at most `largest` in size: by chance, and for sure.

    The two mantissas together have as many bits as the ring leaves, at most 2 MANTISSA.
    """
    drop = max(0, math.ceil(math.log2(largest / unit / (2.0 ** (Z_BITS - 2) - 8))))
    step = unit * 2.0**drop
    rate = step / LN3 * 2.0**POINT
    offset = math.ceil(largest / LN3 + 1.01)
    mantissa = min(MANTISSA, int((62.9 - largest / math.log(2.0) - stretched(offset)) / 2))
    factor = math.sqrt(3) / 2 * 2.0**-mantissa + LN3 / 2 * 2.0**-20
    return 2 * factor + (step / 2 if drop else 0.0), largest * abs(round(rate) / rate - 1)


@lru_cache(maxsize=128)
def _series(low: float, high: float) -> float:
    """Return a bound on how far the series of `row_division.logarithm` is from ln on [low, high]."""
    x = np.linspace(low, high, 4001)
    start = np.polynomial.polynomial.polyval((x - (high + low) / 2) / ((high - low) / 2), polynomial(low, high))
    d = x * np.exp(-start) - 1
    return 1.01 * float(np.abs(start + d - d**2 / 2 + d**3 * (21845 / 65536) - np.log(x)).max())
