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

from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS
from mpc_appraisal.mpc.protocols.log_softmax import ASIDE, LOG_BITS, OPEN_BITS, doublings, polynomial
from mpc_appraisal.mpc.protocols.log_softmax import MANTISSA as LOG_MANTISSA
from mpc_appraisal.mpc.protocols.reciprocal import ReciprocalPlan
from mpc_appraisal.mpc.protocols.softmax import (
    BITS,
    MANTISSA,
    Q_DROP,
    Z_BITS,
    kept,
    normalise,
    powers,
    squares,
    squarings,
)
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, stretched
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

CHANCE = 1e-9  # the probability with which an error is beyond its bound, by the masks alone
LAMBDA = math.sqrt(2 * math.log(2 / CHANCE))  # deviations that a sum of chance errors keeps to
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
    k = squarings(bound)
    opened, last = _stages(classes, bound, k, kept(classes))
    power, skew, _ = _power(bound / 2.0**k, classes, 1.0 / (classes * 2.0**k))
    sure, square = 2.0**k * (skew + TABLE) / 2, (2.0**k * power) ** 2 / 8
    for times, unit in opened:
        square += (times * unit / 2) ** 2 * classes * (_steepest(classes, times) if times > 1 else 1.0)
        sure += (times * unit) ** 2 * classes / 2 if times > 1 else 0.0
    drift = last.drift
    sure += max(last.high / (1 + drift) - 1, 1 - last.low / (1 - drift)) + drift**2
    square += drift**2 + classes * 4.0 ** -(BITS + 1)
    return Off(sure, math.sqrt(square))


@lru_cache(maxsize=64)
def log_softmax_off(classes: int, bound: float, engine: str) -> Off:
    """Return the error of an entry of one row's log-softmax, computed from given logits within `bound`."""
    if engine != "fast":
        return Off(2.0 ** -(FUNCTIONS["log_softmax"].bits + 1), 0.0)
    squarings(bound)
    (k, largest), unit, wide = doublings(bound, classes), 2.0**-LOG_BITS, classes * math.exp(ASIDE)
    power, skew, _ = _power(largest, 1, 2.0**-k, 0.0, LOG_MANTISSA)
    # A common factor of all exponents counts by the mean of u under the probabilities, which is within ASIDE.
    tilt = skew / largest
    sure = 2.0**k * TABLE + tilt * ASIDE + 2 * (tilt * bound) ** 2
    square = (2.0**k * power) ** 2 + (unit / 2) ** 2
    for j in range(k + 1):  # the values that are opened to be squared, and the sum at last
        times = 2.0 ** (k - j)
        part = wide ** (1 / times) * 2.0 ** (2.1 - OPEN_BITS) * math.exp(ASIDE / times)
        square += (times * part / 2) ** 2
        sure += (times * part) ** 2 * classes / 2 if times > 1 else 0.0
    low, high = 0.999 * math.exp(-ASIDE), 1.001 * wide
    inverse, skew, _ = _power(math.log(2 * high / low) + 0.2, 1, unit, room=0.0)
    sure += _series(low / high, 1.0) + skew + TABLE
    return Off(sure, math.sqrt(square + (inverse + 2.5 * unit) ** 2))


def _stages(classes: int, bound: float, k: int, x_bits: int) -> tuple[list[tuple[float, float]], ReciprocalPlan]:
    """Plan the engine's softmax in `k` stages.

    Returns (T, u) of every value that is opened on the way: T is the power that later stages raise it to, u its unit in
    parts of its row's sum. With them comes the plan of the last division.
    """
    engine = DrySession().context.engine
    logits = shape_tensor((1, classes))
    rows = powers(engine, logits, 36, bound, k, x_bits)
    opened = []
    for j in range(k):
        times = 2.0 ** (k - j)
        divided = normalise(engine, rows, last=False)
        opened += [(times, 2.0**rows.drop / rows.low), (times, 2.0**Q_DROP / (divided.one * divided.how.low))]
        rows = squares(engine, divided, classes)
    last = normalise(engine, rows, last=True)
    return [*opened, (1.0, 2.0**rows.drop / rows.low)], last.how


def _power(
    largest: float, classes: int, unit: float, room: float | None = None, most: int = MANTISSA
) -> tuple[float, float, float]:
    """Bound the errors of an exponential of numbers z of at most `largest` in size.

    Returns the relative error by chance, the sure relative error, and the step of the opened z. `unit` is that of z.
    """
    if room is None:
        room = math.log2(classes * math.cosh(largest) * 1.001) - largest / math.log(2.0)
    # Where z has 36 fractional bits, `unit` stands for 2^36 units: only its place to the next power of two matters.
    fine = unit * 2.0**-36 if classes > 1 else unit
    drop = max(0, math.ceil(math.log2(largest / fine / (2.0 ** (Z_BITS - 2) - 8))))
    step = fine * 2.0**drop
    rate = step / LN3 * 2.0**POINT
    offset = math.ceil(largest / LN3 + 1.01)
    mantissa = min(most, int((62.9 - room - largest / math.log(2.0) - stretched(offset)) / 2))
    factor = math.sqrt(3) / 2 * 2.0**-mantissa + LN3 / 2 * 2.0**-20
    rounded = step / 2 if drop else 0.0
    return 2 * factor + rounded, largest * abs(round(rate) / rate - 1), step


@lru_cache(maxsize=128)
def _steepest(classes: int, times: float) -> float:
    """Return a bound on (P / p) (1 - P)^2, where P is p^times rescaled."""
    m, s = np.linspace(0.0, 1.0, 2001), 1 / times
    found = m ** (1 - s) * (m**s + (classes - 1) ** (1 - s) * (1 - m) ** s)
    return 1.01 * float((found * (1 - m) ** 2).max())


@lru_cache(maxsize=128)
def _series(low: float, high: float) -> float:
    """Return a bound on how far the series of `log_softmax.logarithm` is from ln on [low, high]."""
    x = np.linspace(low, high, 4001)
    start = np.polynomial.polynomial.polyval((x - (high + low) / 2) / ((high - low) / 2), polynomial(low, high))
    d = x * np.exp(-start) - 1
    return 1.01 * float(np.abs(start + d - d**2 / 2 + d**3 * (21845 / 65536) - np.log(x)).max())
