"""Bounds on the errors of the engine's softmax and log-softmax, for one row of logits.

    |sum over n rows of c_i error_i| <= n sure + LAMBDA chance sqrt(n)        for factors |c_i| <= 1, with 1 - CHANCE

`softmax_off` and `log_softmax_off` take the number of classes, the public bound on centred logits and the engine's
name, and return an `Off`, whatever the logits are. `accuracy` follows both parts through the methods. The derivation is
in docs/protocols/releases.md. The constants and formulas here are part of the proof and are not to be tuned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS
from mpc_appraisal.mpc.protocols.log_softmax import LOG_BITS, mean_factor
from mpc_appraisal.mpc.protocols.softmax_plan import (
    BITS,
    NARROW,
    X_DROP,
    Y_SCALE,
    SoftmaxPlan,
    exponent_step,
    plan,
    power_chance,
)
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT

CHANCE = 1e-9  # the probability with which an error is beyond its bound, by the masks alone
LAMBDA = math.sqrt(2 * math.log(2 / CHANCE))  # deviations that a sum of chance errors keeps to
LOGIT_BITS = (32, 36, 40, 41)  # the fractional bits that logits can have, by the sizes of the two matrices
TABLE = 2.0**-24  # the largest mean relative error of a power of three; a test measures it


@dataclass(frozen=True)
class Off:
    """The error of one row, in units of the function's result.

    Attributes:
        sure: The part that may have one sign in every row.
        chance: The part by chance: the root of the sum of b_k^2, where b_k bounds the error of source k.
    """

    sure: float
    chance: float


@lru_cache(maxsize=64)
def softmax_off(classes: int, bound: float, engine: str) -> Off:
    """Return the error of a weighted sum of one row's probabilities, computed from given logits.

    No two of the weights differ by more than 1. `bound` is the public bound on the centred logits.
    """
    if engine != "fast":
        return Off(classes * 2.0 ** -(FUNCTIONS["softmax"].bits + 1), 0.0)
    how = plan(classes, bound)
    times, chance = 2.0 ** (how.doublings + how.roots), power_chance(how.reach, how.bits)
    rate = rate_error(1.0 / (classes * times), how.reach)
    sure, square = times * (how.reach * rate + TABLE) / 2, (times * chance) ** 2 / 8
    for each in _opened(how):
        square += (each.times * each.unit / 2) ** 2 * classes * _steepest(classes, each.times)
        sure += (each.times * each.unit) ** 2 * classes / 2
    entry = 2.0**X_DROP / how.low
    drift = 1 / how.low + 2.0**-Y_SCALE  # the opened sum and its reciprocal, by chance
    sure += how.reciprocal.error() + drift**2
    square += drift**2 + (entry / 2) ** 2 * classes + classes * 4.0 ** -(BITS + 1)
    return Off(sure, math.sqrt(square))


def rate_error(unit: float, reach: float) -> float:
    """Return the relative error of the rounded power of three that one step of an opened exponent counts.

    `unit` is the unit of exponents of at most `reach`, of which only the place to the next power of two matters.
    """
    fine = unit * 2.0**-36
    step = fine * 2.0 ** exponent_step(fine, reach)[0]
    return abs(exponent_step(fine, reach)[1] / (step / LN3 * 2.0**POINT) - 1)


@lru_cache(maxsize=64)
def log_softmax_off(classes: int, bound: float, engine: str) -> Off:
    """Return the error of an entry of one row's log-softmax, computed from given logits within `bound`."""
    if engine != "fast":
        return Off(2.0 ** -(FUNCTIONS["log_softmax"].bits + 1), 0.0)
    found = [_log_softmax_off(classes, bound, mean_factor(classes, bits, bound)[2]) for bits in LOGIT_BITS]
    return Off(max(off.sure for off in found), max(off.chance for off in found))


@lru_cache(maxsize=256)
def _log_softmax_off(classes: int, bound: float, aside: float) -> Off:
    """Do what `log_softmax_off` does, for rows whose mean is within `aside` of 0."""
    how, wide = plan(classes, bound, aside, precise=True), math.log(classes)
    times, chance = 2.0 ** (how.doublings + how.roots), power_chance(how.reach, how.bits)
    rate = rate_error(1.0 / times, how.reach)
    # A common factor of all exponents counts by the mean of what is left of u when the levels are subtracted.
    left = bound + aside if how.coarse is None else 2.0**how.doublings * (2 * wide + 1.5) + wide
    sure = times * TABLE + rate * left + 2 * (rate * (bound + aside)) ** 2 + how.fit("logarithm").error()
    square = (times * chance) ** 2 + 2 * (2.0**-LOG_BITS / 2) ** 2 + (1 / how.low) ** 2
    for each in _opened(how):
        unit = each.unit * classes ** (1 / each.squared - 1 / each.times)
        square += (each.times * unit / 2) ** 2 * (classes if each.times == 1 else 1)
        sure += (each.times * unit) ** 2 * classes / 2
    return Off(sure, math.sqrt(square))


@dataclass(frozen=True)
class OpenedRow:
    """A row that is opened on the way to be raised to a power.

    Attributes:
        times: the power that later steps raise it to.
        squared: the power, of those that are taken before the row is divided, after which its sum is in a known range.
        unit: the unit of an entry, in parts of the root of that sum, which is at most the row's own sum.
    """

    times: float
    squared: float
    unit: float


def _opened(how: SoftmaxPlan) -> list[OpenedRow]:
    """Return the rows that a softmax opens before its last ones, which have the power 1."""
    found, whole = [], 2.0 ** (NARROW - 1)
    for root in range(how.roots, 0, -1):
        least = whole * (how.first_low / whole) ** (0.5**root)
        found.append(OpenedRow(2.0 ** (how.doublings + root), 2.0**root, 1 / least))
    low = how.first_low
    for k, stage in zip(range(how.doublings, 0, -1), how.stages, strict=True):
        found += [OpenedRow(2.0**k, 1.0, 1 / low), OpenedRow(2.0 ** (k - 1), 1.0, 1 / stage.square_low)]
        low = stage.low - 2
    return found


@lru_cache(maxsize=128)
def _steepest(classes: int, times: float) -> float:
    """Return a bound on (P / p) (1 - P)^2, where P is p^times rescaled."""
    m, s = np.linspace(0.0, 1.0, 2001), 1 / times
    found = m ** (1 - s) * (m**s + (classes - 1) ** (1 - s) * (1 - m) ** s)
    return 1.01 * float((found * (1 - m) ** 2).max())
