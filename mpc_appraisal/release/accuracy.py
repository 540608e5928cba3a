"""Bounds on what fixed point adds to a value, from public facts, for every method that one is derived for.

    |value - value in float64| <= B, except with a probability of CHANCE

The bound B holds whatever the data are, if no number wraps in the ring (`Record.failure_probability`). `error_bound`
takes a method and its public facts (sizes, and norms that the owners announced) and returns B, or the reason for which
there is none. B adds up errors that are sure, such as the rounding of inputs, and errors by chance, which come from the
stochastic roundings on shares and grow as the root of the number of rows. `softmax_accuracy.Off` holds both for one
row; each function of the last section follows both through one method and returns B, where `unit` is that of the opened
number.

The derivation is in docs/protocols/releases.md, that of `mlp_finetuning` in docs/protocols/perceptron_bound.md. To
bound a new method, derive its B there and add its function to `BOUNDS`. The constants and formulas here are part of the
proof and are not to be tuned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.finetuning import Finetuning
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.methods.mlp_finetuning import MlpFinetuning
from mpc_appraisal.methods.relevance import Diversity, Relevance
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.mpc.protocols.grid import MOST_BITS
from mpc_appraisal.mpc.protocols.row_softmax import LOGIT_BITS
from mpc_appraisal.mpc.protocols.slopes import SlopePlan, slope_plan
from mpc_appraisal.mpc.protocols.softmax_plan import LOGIT_RANGE, P_SCALE, S_BITS, Y_SCALE, plan
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, FINE_ELEMENTS, OPERAND_BITS
from mpc_appraisal.mpc.protocols.unbounded_softmax import LARGEST_SPREAD
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS
from mpc_appraisal.release.description import ReleaseDescription
from mpc_appraisal.release.function_errors import CHANGE_BITS, INPUT, input_off, row_off, tilt
from mpc_appraisal.release.linear_accuracy import LINEAR_BOUNDS
from mpc_appraisal.release.perceptron_accuracy import BEYOND, LOOSE, UNIT, Rounded, perceptron_bound
from mpc_appraisal.release.relevance_accuracy import RELEVANCE_BOUNDS, compared_off
from mpc_appraisal.release.softmax_accuracy import CHANCE, LAMBDA, Off, log_softmax_off, softmax_off
from mpc_appraisal.release.unbounded_accuracy import (
    log_of_method,
    of_method,
    unbounded_log_softmax_off,
    unbounded_softmax_off,
)
from mpc_appraisal.release.unbounded_logits import unbounded_spread, unbounded_words

SQRT2 = math.sqrt(2)
APART = 0.75  # fine-tuning's series is bounded for training that moves two logits of a test row no farther apart
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
SERIES = (
    "For training that moves two logits of a test row apart by at most {:g}, which public facts make sure only up to a "
    "product of learning rate and steps of {:.2g}."
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
    unit = 2.0 ** -grid(method, facts) if rounded else 0.0
    if type(method) in RELEVANCE_BOUNDS:
        return _relevance_bound(method, facts, unit, compared)
    if type(method) not in BOUNDS:
        return Bound(None, NOT_DERIVED)
    if facts.loss is not SOFTMAX:
        return _linear_bound(method, facts, engine, unit, compared)
    if facts.logit_bound <= 0:
        return Bound(None, NO_NORMS)
    if type(method) in (Influence, InfluenceError) and facts.spread is None:
        curvature, steepness = 2 * facts.l2 + method.damping, method.measure.steepness
        if curvature == 0 or steepness is None:
            return Bound(None, NO_SPREAD if curvature == 0 else OWN_METRIC)
        facts = replace(facts, spread=2 * steepness * facts.longest / curvature)
    found = BOUNDS[type(method)](method, facts, engine, unit)
    if compared and type(method) is Influence:
        found += tilt(1.0 / facts.rows) * facts.row_norm * facts.spread + 2.0**-CHANGE_BITS
    note = None
    if type(method) is Finetuning and method.lr > (sure := 2 / (facts.longest**2 / 2 + 2 * facts.l2)):
        note = STABLE.format(sure)
    if type(method) is Finetuning and method.expands(facts) and SQRT2 * method.largest_move(facts) > APART:
        sure = APART / SQRT2 / method.largest_move(facts) * method.lr * method.steps
        note = " ".join([SERIES.format(APART, sure), *[note] * (note is not None)])
    if facts.auto:
        note = " ".join([*[note] * (note is not None), *unbounded_words([method], [facts])]) or None
    if type(method) is MlpFinetuning:
        note = LOOSE if math.isfinite(found) else BEYOND
        return Bound(found if math.isfinite(found) else None, note)
    return Bound(found, note) if math.isfinite(found) else Bound(None, NOT_DERIVED)


def _linear_bound(method: Appraiser, facts: Facts, engine: str, unit: float, compared: bool) -> Bound:
    """Return what `error_bound` does for a model with one column of weights. unit: that of the opened number, or 0."""
    if type(method) not in LINEAR_BOUNDS or unit == 0.0:  # an answer with noise has no bound of its own here
        return Bound(None, OTHER_MODEL)
    if facts.logit_bound <= 0 or (type(method) in (Influence, InfluenceError) and facts.spread is None):
        return Bound(None, NO_NORMS)
    found = LINEAR_BOUNDS[type(method)](method, facts, engine, unit)
    if compared and type(method) is Influence:
        value = facts.row_norm * facts.spread * facts.largest_residual
        found += tilt(1.0 / facts.rows) * value + 2.0**-CHANGE_BITS
    return Bound(found)


def _relevance_bound(method: Appraiser, facts: Facts, unit: float, compared: bool) -> Bound:
    """Return what `error_bound` does for relevance and diversity. unit: that of the opened number."""
    if facts.logit_bound <= 0:
        return Bound(None, NO_NORMS)
    found = RELEVANCE_BOUNDS[type(method)](method, facts, unit)
    return Bound(found + compared_off(method, facts) if compared and type(method) is Diversity else found)


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
    that of a mean gradient of a hundredth of the rows' norm, and some bits of larger norms are still rounding. The
    series of fine-tuning at small rates rounds in units of the rate times the steps, and so does its grid. An
    answer with noise is not rounded, because the noise of both owners lies over all of these bits.
    """
    rows = facts.rows if type(method) in (Influence, InfluenceError) else facts.test_rows
    finest = {Influence: 15, InfluenceError: 17}.get(type(method), 14)
    if type(method) is Finetuning and method.expands(facts):
        finest -= math.floor(math.log2(method.lr * method.steps))
    return SCALED.get(type(method)) or max(4, min(finest, CHANGE_BITS) - math.ceil(math.log2(max(rows, 1)) / 2))


# -- the methods -----------------------------------------------------------------------------------------------------


def _weights(facts: Facts) -> float:
    """Return the largest norm of a class's centred weights."""
    return facts.logit_bound / facts.longest


def _softmax_off(method: Appraiser, facts: Facts, engine: str) -> Off:
    """Return the error of one row's probabilities, for logits that training may have changed."""
    return of_method(method, facts, engine, facts.classes, facts.logit_bound * method.logit_growth)


def _logits(facts: Facts) -> float:
    """Return the error of a centred logit from the rounding of the candidate's rows and of the weights."""
    return 1.01 * (row_off(facts) * _weights(facts) + 2 * facts.row_norm * input_off(facts.classes, facts))


def _gradient_norm(method: GradientNorm, facts: Facts, engine: str, unit: float) -> float:
    off, n, row = _softmax_off(method, facts, engine), facts.rows, math.sqrt(2) * facts.row_norm
    sure = row * (off.sure + _logits(facts) / 2) + math.sqrt(2) * row_off(facts)
    cut = 2.0**-OPERAND_BITS * math.sqrt((facts.features + 1) * facts.classes)
    scale = method.scale(facts)
    return n * sure + LAMBDA * 2 * row * off.chance * math.sqrt(n) + (cut + math.sqrt(unit)) / (scale * facts.ratio)


def _influence(method: Influence, facts: Facts, engine: str, unit: float) -> float:
    off, n, width = _softmax_off(method, facts, engine), facts.rows, facts.row_norm * facts.spread
    root = math.sqrt(facts.features + 1)
    sure = width * (off.sure + _logits(facts) / 2) + row_off(facts) * facts.spread
    sure += facts.row_norm * 2 * root * INPUT  # the rounding of the direction
    cut = 2.0**-OPERAND_BITS * facts.classes * root * facts.spread
    found = sure + LAMBDA * width * off.chance / math.sqrt(n) + (cut / facts.ratio + unit) / n
    how = _slope_plan(method, facts) if engine == "fast" and unit > 0 else None
    if how is None:
        return found
    # The same for `slopes`. Without an announced spread the gradient is computed, so that the larger bound counts.
    sure = width * (off.sure + _logits(facts) / 2) + row_off(facts) * facts.spread
    sure += facts.row_norm * 2 * root * 2.0 ** -(_weight_bits(facts) + 1 + how.scale)
    softmax, step = plan(facts.classes, facts.logit_bound), 2.0 ** -(how.value_bits + how.scale)
    chance = math.hypot(step / 2, step / 2 * 2.0 ** (S_BITS - 1 + Y_SCALE - P_SCALE + how.drop) / softmax.low)
    chance = math.hypot(width * off.chance, (1 + softmax.slip) * chance)
    cut = _label_cut(how, facts) * facts.classes * root * facts.spread
    return max(found, sure + LAMBDA * chance / math.sqrt(n) + (cut / facts.ratio + unit) / n)


def _slope_plan(method: Influence, facts: Facts) -> SlopePlan | None:
    """Return the public numbers by which influence is computed as a slope; None where it is not."""
    if unbounded_spread(method, facts) is not None:
        return None
    longest, spread = facts.row_norm * facts.ratio, facts.spread / facts.ratio
    shape = (facts.features + 1, facts.classes)
    return slope_plan(facts.logit_bound, shape, facts.rows, longest, spread, _weight_bits(facts))


def _weight_bits(facts: Facts) -> int:
    """Return the fewest fractional bits with which the weights are shared."""
    return FINE_BITS if (facts.features + 1) * facts.outputs <= FINE_ELEMENTS else PRECISION_BITS


def _label_cut(how: SlopePlan, facts: Facts) -> float:
    """Return how far rounding moves an entry of X'Y, for the candidate's rows X and its labels Y."""
    rows, weights = FINE_BITS, _weight_bits(facts)
    if facts.resolution is not None:
        rows, weights = math.ceil(math.log2(facts.resolution.scale)), MOST_BITS
    kept = how.label_bits(rows, weights)
    return 0.0 if kept == rows else 2.0 ** -(kept + 1)


def _influence_error(method: InfluenceError, facts: Facts, engine: str, unit: float) -> float:
    off, n, width = _softmax_off(method, facts, engine), facts.rows, facts.row_norm * facts.spread
    scale, many = method.scale(facts), math.sqrt(2 * math.log(2 * n / CHANCE))
    product = input_off(n, facts) * facts.spread + 2 * facts.row_norm * input_off(facts.classes, facts)
    row = width * (off.sure + _logits(facts) / 2 + many * off.chance) + product + 2 * 2.0**-OPERAND_BITS
    row += 2.0**-OPERAND_BITS * scale * 2 + 2 * width * INPUT  # of the deviations, and of the mean's public factor
    return row / math.sqrt(n) + math.sqrt(unit) * scale / n


def _finetuning(method: Finetuning, facts: Facts, engine: str, unit: float) -> float:
    grown = facts.logit_bound * method.logit_growth
    off, log = _softmax_off(method, facts, engine), log_of_method(method, facts, engine, grown)
    total, longest, root = facts.train_rows + facts.rows, facts.longest, math.sqrt(facts.features + 1)
    m = min(total, method.batch_size or total)
    steps, weights = method.steps, _weights(facts)
    farthest, heaviest = method.logit_growth * weights, weights
    if unbounded_spread(method, facts) is not None:
        farthest = heaviest = method.farthest_norm(facts)
    # How far training moves a class's weights. An error of a public factor is one of the rate, in every step alike.
    moved = min(method.lr * steps * (longest + 2 * facts.l2 * heaviest), weights + farthest)
    slope = math.sqrt(2) * longest
    decay = 2 * facts.l2 * math.sqrt(facts.classes) * (weights + farthest)
    tilts = tilt(method.lr / method.unit / m) * slope + tilt(2 * method.lr * facts.l2) * decay
    rows = max(input_off(facts.train_rows, facts), input_off(facts.rows, facts))
    logit = max(INPUT, _logits(facts)) + 2.0**-LOGIT_BITS + rows * moved
    step = slope * (off.sure + logit / 2) + math.sqrt(2) * rows + tilts
    apart = method.lr * (steps * step + LAMBDA * math.sqrt(steps) * 2 * slope * off.chance / math.sqrt(m))
    # A step's two products are within two units each, and what the regulariser takes of the first weights within one. A
    # change that is cut before it enters products moves logits, and with them the next gradients.
    fine, cut = (method.unit * 2.0**-bits for bits in (method.change_bits(facts), method.product_bits(facts)))
    apart += steps * root * math.sqrt(facts.classes) * 5 * fine
    apart += method.lr * steps * slope * longest * root * (cut if cut > fine else 0.0)
    if method.expands(facts):
        return slope * apart + _series_off(method, facts) + unit / facts.test_rows
    after = INPUT + 2.0**-LOGIT_BITS + input_off(facts.test_rows, facts) * moved
    after += longest * root * (cut if cut > fine else 0.0)
    loss = 2 * after + log.sure + INPUT + LAMBDA * log.chance / math.sqrt(facts.test_rows)
    return slope * apart + loss + unit / facts.test_rows


def _series_off(method: Finetuning, facts: Facts) -> float:
    """Return the error of the mean of fine-tuning's series over the test rows, for the change that training made."""
    classes, n, unit, move = facts.classes, facts.test_rows, method.unit, method.largest_move(facts)
    apart, wide = min(SQRT2 * move, APART), max(1.0, 2.0 ** math.ceil(math.log2(move / unit / 4))) * unit
    down = max(1.0, 2.0 ** (math.ceil(math.log2(2 * n * move / unit)) - 24))
    slope, moved = SQRT2 * facts.longest, move / facts.longest
    rest = 0.33 / 120 * apart**5  # the fifth cumulant of numbers within 1 is at most 0.33
    entries = math.sqrt((facts.features + 1) * classes)
    first = down * INPUT * entries * moved / n + tilt(unit * down) * slope * moved
    first += 2 * LAMBDA * slope * unit * 2.0 ** -(FINE_BITS + 1) + input_off(n, facts) * SQRT2 * moved * apart
    powers, step = 1 + apart + apart**2, 2.0**-FINE_BITS
    second = apart**2 * (2 * classes + 1) * INPUT * powers
    second += LAMBDA / math.sqrt(n) * step * powers * (wide * apart + 2 * wide**2 * math.sqrt(classes))
    return rest + first + second + 8 * 2.0**-CHANGE_BITS / n


def _perceptron(method: MlpFinetuning, facts: Facts, engine: str, unit: float) -> float:
    classes, total = facts.classes, facts.train_rows + facts.rows
    off, log = softmax_off(classes, LOGIT_RANGE, engine), log_softmax_off(classes, LOGIT_RANGE, engine)
    if engine == "fast":
        off = unbounded_softmax_off(classes, LARGEST_SPREAD)
        log = unbounded_log_softmax_off(classes, LARGEST_SPREAD, None)
    entries = classes * (method.steps * total + 2 * facts.test_rows)
    many = math.sqrt(2 * math.log(2 * entries / CHANCE))  # deviations that all entries keep to at once
    cut = 2 * (classes - 1) * math.exp(-LOGIT_RANGE)
    rounded = Rounded(
        row=max(input_off(rows, facts) for rows in (facts.train_rows, facts.rows, facts.test_rows)),
        softmax=math.sqrt(classes) * (off.sure + many * off.chance) + cut,
        loss=log.sure + many * log.chance + cut + 2 * UNIT,  # two units for the mean of logits of 16 bits
        unit=unit,
        opened=2.0 ** (63 - grid(method, facts)),
    )
    return perceptron_bound(method, facts, rounded)


BOUNDS = {
    GradientNorm: _gradient_norm,
    Influence: _influence,
    InfluenceError: _influence_error,
    Finetuning: _finetuning,
    MlpFinetuning: _perceptron,
}
