"""Bounds on what fixed point adds to a value, from public facts, for every method that one is derived for.

    |value - value in float64| <= B, except with a probability of CHANCE

The bound B holds whatever the data are, if no number wraps in the ring (`Record.failure_probability`). `error_bound`
takes a method and its public facts (sizes, and norms that the owners announced) and returns B, or the reason for which
there is none. B adds up errors that are sure, such as the rounding of inputs, and errors by chance, which come from the
stochastic roundings on shares and grow as the root of the number of rows. `Off` holds both for one row; each function
of the last section follows both through one method and returns B, where `unit` is that of the opened number.

The derivation is in docs/protocols/releases.md, that of `mlp_finetuning` in docs/protocols/perceptron_bound.md. To
bound a new method, derive its B there and add its function to `BOUNDS`. The constants and formulas here are part of the
proof and are not to be tuned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.finetuning import Finetuning
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.methods.mlp_finetuning import MlpFinetuning
from mpc_appraisal.methods.relevance import Diversity, Relevance
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS
from mpc_appraisal.mpc.protocols.log_softmax import ASIDE, LOG_BITS, OPEN_BITS, doublings, polynomial
from mpc_appraisal.mpc.protocols.log_softmax import MANTISSA as LOG_MANTISSA
from mpc_appraisal.mpc.protocols.reciprocal import ReciprocalPlan
from mpc_appraisal.mpc.protocols.softmax import (
    BITS,
    LOGIT_RANGE,
    MANTISSA,
    Q_DROP,
    Z_BITS,
    kept,
    normalise,
    powers,
    squares,
    squarings,
)
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, FINE_ELEMENTS, OPERAND_BITS
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS
from mpc_appraisal.mpc.ring.powers_of_three import LN3, POINT, stretched
from mpc_appraisal.release.description import ReleaseDescription
from mpc_appraisal.release.perceptron_accuracy import BEYOND, LOOSE, UNIT, Rounded, perceptron_bound

CHANCE = 1e-9  # the probability with which an error is beyond its bound, by the masks alone
LAMBDA = math.sqrt(2 * math.log(2 / CHANCE))  # deviations that a sum of chance errors keeps to
INPUT = 2.0 ** -(PRECISION_BITS + 1)  # the rounding of an input that is shared as it is
TABLE = 2.0**-24  # the largest mean relative error of a power of three; a test measures it
CHANGE_BITS = 26  # the fewest fractional bits that are left after a product with a public factor
EXACT = "Computed in float64: no fixed point."
STOCK = "No bound: CrypTen as shipped approximates exponentials by a series that is not bounded here."
NO_SPREAD = "No bound: without l2 and damping nothing public bounds the influence direction."
OWN_METRIC = "No bound: nothing public bounds the influence direction of the model owner's own metric."
NO_NORMS = "No bound: it follows from norms that the owners announce, and none were announced."
NOT_DERIVED = "No bound is derived for this method: see its own documentation for the errors that were measured."
OTHER_MODEL = "No bound is derived for this model: see docs/models.md for the errors that were measured."
STABLE = (
    "For training that does not amplify an error, which public facts make sure only up to a learning rate of {:.3g}."
)


@dataclass(frozen=True)
class Bound:
    """A bound on the error of one value.

    Attributes:
        value: The bound B, in units of the value. None means that no bound is known.
        note: What the bound rests on, or the reason for which there is none.
    """

    value: float | None
    note: str | None = None


PLAINTEXT = Bound(0.0, EXACT)
SCALED = {GradientNorm: 14, Relevance: 20, Diversity: 10}  # bits of the grid of sums that a public scale bounds
LOOSELY = frozenset({MlpFinetuning.name})  # values of these methods may be within the bound and far from honest runs


@dataclass(frozen=True)
class Off:
    """The error of one row, in units of the function's result.

    Attributes:
        sure: The part that may have one sign in every row.
        chance: The part by chance: the root of the sum of b_k^2, where b_k bounds the error of source k.
    """

    sure: float
    chance: float


def error_bound(method: Appraiser, facts: Facts, engine: str, rounded: bool = True, compared: bool = False) -> Bound:
    """Return the bound B on the error of one value, in units of the value.

    A decision is certain only for a value farther than B from the threshold, and an order only for values farther apart
    than both their bounds.

    Args:
        method: The method that computes the value.
        facts: The public facts of the question, with the norms that the owners announced.
        engine: 'fast', 'rtas', 'stock' or 'plaintext'.
        rounded: Whether the value is rounded to `grid` before it is opened.
        compared: Whether the value is compared on shares with values of candidates of other sizes.
    """
    if engine in ("plaintext", "stock"):
        return PLAINTEXT if engine == "plaintext" else Bound(None, STOCK)
    if type(method) not in BOUNDS or facts.loss is not SOFTMAX:
        return Bound(None, NOT_DERIVED if type(method) not in BOUNDS else OTHER_MODEL)
    if facts.logit_bound <= 0:
        return Bound(None, NO_NORMS)
    if type(method) in (Influence, InfluenceError) and facts.spread is None:
        curvature, steepness = 2 * facts.l2 + method.damping, method.measure.steepness
        if curvature == 0 or steepness is None:
            return Bound(None, NO_SPREAD if curvature == 0 else OWN_METRIC)
        facts = replace(facts, spread=2 * steepness * facts.longest / curvature)
    found = BOUNDS[type(method)](method, facts, engine, 2.0 ** -grid(method, facts) if rounded else 0.0)
    if compared and type(method) is Influence:
        found += _tilt(1.0 / facts.rows) * facts.row_norm * facts.spread + 2.0**-CHANGE_BITS
    note = None
    if type(method) is Finetuning and method.lr > (sure := 2 / (facts.longest**2 / 2 + 2 * facts.l2)):
        note = STABLE.format(sure)
    if type(method) is MlpFinetuning:
        note = LOOSE if math.isfinite(found) else BEYOND
        return Bound(found if math.isfinite(found) else None, note)
    return Bound(found, note) if math.isfinite(found) else Bound(None, NOT_DERIVED)


def doubt_of(
    described: ReleaseDescription, methods: Sequence[Appraiser], facts: Sequence[Facts], engine: str
) -> list[str]:
    """Return a sentence for each method on how certain its comparisons are; none if nothing is compared."""
    if not described.compared:
        return []
    found = []
    for method in methods:
        bounds = [error_bound(method, f, engine, True, described.joint).value for f in facts]
        worst = None if None in bounds else max(bounds)
        found.append(f"By {method.name}: {certainty(worst, described.joint)}")
    return found


def certainty(within: float | None, joint: bool) -> str:
    """Return a sentence on how far values must be apart for their comparison on shares to be certain.

    `within` is the largest error bound of the values. None means that no bound is known.
    """
    if within is None:
        return "no bound on the error is known, and no comparison on shares is certain of close values."
    if joint:
        return f"the order is certain only of values farther apart than {two_digits(2 * within):g}."
    return f"a decision is certain only for a value farther than {two_digits(within):g} from the threshold."


def two_digits(number: float) -> float:
    """Return the number rounded up to two digits."""
    if number <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.ceil(number / step * (1 - 1e-9)) * step:.2g}")


def grid(method: Appraiser, facts: Facts) -> int:
    """Return the number of fractional bits that an opened number is rounded to on shares.

    The bits below show the engine's rounding and nothing of the value. What a run adds by chance grows as the root of
    the rows that are summed, and one unit of the grid is about two deviations of one run from another. So the grid adds
    no more to a value than a run does (2^-11 in the sum of 150 rows' influence, 3e-6 in their mean), and a bit or two
    of the engine's rounding are left. The error of a squared norm depends on the norm, which is secret. Its unit is
    that of a mean gradient of a hundredth of the rows' norm, and some bits of larger norms are still rounding. An
    answer with noise is not rounded, because the noise of both owners lies over all of these bits.
    """
    rows = facts.rows if type(method) in (Influence, InfluenceError) else facts.test_rows
    finest = {Influence: 15, InfluenceError: 17}.get(type(method), 14)
    return SCALED.get(type(method)) or max(4, finest - math.ceil(math.log2(max(rows, 1)) / 2))


# -- what the engine's functions are off by ------------------------------------------------------------------------


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
    logits = torch.zeros(1, classes, dtype=torch.int64, device="meta")
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


# -- the methods -----------------------------------------------------------------------------------------------------


def _input(rows: int, facts: Facts) -> float:
    """Return how far rounding moves one row of a matrix of `rows` rows, in the Euclidean norm."""
    bits = FINE_BITS if rows * (facts.features + 1) <= FINE_ELEMENTS else PRECISION_BITS
    return math.sqrt(facts.features + 1) * 2.0 ** -(bits + 1)


def _weights(facts: Facts) -> float:
    """Return the largest norm of a class's centred weights."""
    return facts.logit_bound / facts.longest


def _logits(facts: Facts) -> float:
    """Return the error of a centred logit from the rounding of the candidate's rows and of the weights."""
    return 1.01 * (_input(facts.rows, facts) * _weights(facts) + 2 * facts.row_norm * _input(facts.classes, facts))


def _gradient_norm(method: GradientNorm, facts: Facts, engine: str, unit: float) -> float:
    off, n, row = softmax_off(facts.classes, facts.logit_bound, engine), facts.rows, math.sqrt(2) * facts.row_norm
    sure = row * (off.sure + _logits(facts) / 2) + math.sqrt(2) * _input(n, facts)
    cut = 2.0**-OPERAND_BITS * math.sqrt((facts.features + 1) * facts.classes)
    scale = method.scale(facts)
    return n * sure + LAMBDA * 2 * row * off.chance * math.sqrt(n) + (cut + math.sqrt(unit)) / scale


def _influence(method: Influence, facts: Facts, engine: str, unit: float) -> float:
    off, n, width = softmax_off(facts.classes, facts.logit_bound, engine), facts.rows, facts.row_norm * facts.spread
    root = math.sqrt(facts.features + 1)
    sure = width * (off.sure + _logits(facts) / 2) + _input(n, facts) * facts.spread
    sure += facts.row_norm * 2 * root * INPUT  # the rounding of the direction
    cut = 2.0**-OPERAND_BITS * facts.classes * root * facts.spread
    return sure + LAMBDA * width * off.chance / math.sqrt(n) + (cut + unit) / n


def _influence_error(method: InfluenceError, facts: Facts, engine: str, unit: float) -> float:
    off, n, width = softmax_off(facts.classes, facts.logit_bound, engine), facts.rows, facts.row_norm * facts.spread
    scale, many = method.scale(facts), math.sqrt(2 * math.log(2 * n / CHANCE))
    product = _input(n, facts) * facts.spread + 2 * facts.row_norm * _input(facts.classes, facts)
    row = width * (off.sure + _logits(facts) / 2 + many * off.chance) + product + 2 * 2.0**-OPERAND_BITS
    row += 2.0**-OPERAND_BITS * scale * 2 + 2 * width * INPUT  # of the deviations, and of the mean's public factor
    return row / math.sqrt(n) + math.sqrt(unit) * scale / n


def _finetuning(method: Finetuning, facts: Facts, engine: str, unit: float) -> float:
    grown = facts.logit_bound * method.logit_growth
    off, log = softmax_off(facts.classes, grown, engine), log_softmax_off(facts.classes, grown, engine)
    total, longest, root = facts.train_rows + facts.rows, facts.longest, math.sqrt(facts.features + 1)
    m = min(total, method.batch_size or total)
    rate, steps, weights = min(method.lr, 1.0), method.steps, _weights(facts)
    # How far training moves a class's weights. An error of a public factor is one of the rate, in every step alike.
    moved = min(method.lr * steps * (longest + 2 * facts.l2 * weights), (1 + method.logit_growth) * weights)
    slope = math.sqrt(2) * longest
    decay = 2 * facts.l2 * math.sqrt(facts.classes) * (1 + method.logit_growth) * weights
    tilts = (_tilt(method.lr / rate / m) + _tilt(rate)) * (slope + decay) + _tilt(2 * facts.l2 * m) * decay
    tilts += 2 * facts.l2 * root * math.sqrt(facts.classes) * INPUT
    many = math.sqrt(2 * math.log(2 * (total + facts.test_rows) * facts.classes * (steps + 1) / CHANCE))
    product = rate * longest * 2.0 ** -(OPERAND_BITS + 1) * many
    rows = max(_input(facts.train_rows, facts), _input(facts.rows, facts))
    logit = max(INPUT, _logits(facts)) + product + rows * moved
    step = slope * (off.sure + logit / 2) + math.sqrt(2) * rows + tilts
    apart = method.lr * (steps * step + LAMBDA * math.sqrt(steps) * 2 * slope * off.chance / math.sqrt(m))
    apart += steps * rate * root * math.sqrt(facts.classes) * 2.0**-CHANGE_BITS
    after = INPUT + product + _input(facts.test_rows, facts) * moved
    loss = 2 * after + log.sure + INPUT + LAMBDA * log.chance / math.sqrt(facts.test_rows)
    return slope * apart + loss + unit / facts.test_rows


def _perceptron(method: MlpFinetuning, facts: Facts, engine: str, unit: float) -> float:
    classes, total = facts.classes, facts.train_rows + facts.rows
    off, log = softmax_off(classes, LOGIT_RANGE, engine), log_softmax_off(classes, LOGIT_RANGE, engine)
    entries = classes * (method.steps * total + 2 * facts.test_rows)
    many = math.sqrt(2 * math.log(2 * entries / CHANCE))  # deviations that all entries keep to at once
    cut = 2 * (classes - 1) * math.exp(-LOGIT_RANGE)
    rounded = Rounded(
        row=max(_input(rows, facts) for rows in (facts.train_rows, facts.rows, facts.test_rows)),
        softmax=math.sqrt(classes) * (off.sure + many * off.chance) + cut,
        loss=log.sure + many * log.chance + cut + 2 * UNIT,  # two units for the mean of logits of 16 bits
        unit=unit,
        opened=2.0 ** (63 - grid(method, facts)),
    )
    return perceptron_bound(method, facts, rounded)


def _tilt(factor: float) -> float:
    """Return the relative error of a public factor, of which `Secret` keeps 16 bits when it multiplies."""
    if factor <= 0:
        return 0.0
    mantissa = math.frexp(factor)[0]
    return abs(round(mantissa * 2.0**PRECISION_BITS) / 2.0**PRECISION_BITS / mantissa - 1)


BOUNDS = {
    GradientNorm: _gradient_norm,
    Influence: _influence,
    InfluenceError: _influence_error,
    Finetuning: _finetuning,
    MlpFinetuning: _perceptron,
}
