"""Bounds on what fixed point adds to values of linear and logistic regression, which have one column of weights.

A method and its public facts go in; B comes out, in units of the value, as for `accuracy.error_bound`. The model's link
decides what is off: the residual r = sigmoid(z) - y is computed on shares by the softmax of (z / 2, -z / 2), and
r = 2 (z - y) by sums alone. With R the bound on a row, rho that on a residual, D the norm of the influence direction
and z = theta' [x, 1], the errors dx of a row, dw of the weights, dz of an output and dr of a residual are

    dz <= |dx| |theta| + R |dw|       dr <= dz / 4 + that of the softmax, or 2 (dz + dy)       d(r x) <= R dr + rho |dx|

A squared error may be shared as the triangle of a QR decomposition (`norms.shared_rows`). Its rows are fewer and up to
sqrt(n) times as long, so that the root mean squares of errors stay below the same bounds. The derivation is in
docs/protocols/releases.md. The formulas are part of the proof and are not to be tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.methods.influence_error import InfluenceError
from mpc_appraisal.models.links import LOGISTIC
from mpc_appraisal.mpc.protocols.tensors import OPERAND_BITS
from mpc_appraisal.release.function_errors import INPUT, input_off, row_off
from mpc_appraisal.release.softmax_accuracy import CHANCE, LAMBDA, softmax_off

OPERAND = 2.0**-OPERAND_BITS  # a unit in the last place of a shared factor of a product


@dataclass(frozen=True)
class Residual:
    """The error of one row's residual.

    Attributes:
        largest: rho, a bound on the residual.
        sure: The part of the error that may have one sign in every row.
        chance: The part by chance, as in `function_errors.Off`.
    """

    largest: float
    sure: float
    chance: float


def residual_off(facts: Facts, engine: str, bound: float, output: float) -> Residual:
    """Return the error of a residual whose output z is off by at most `output`.

    bound: the public bound on logits, to which training may have raised it; for two classes it holds for z / 2.
    """
    if facts.loss is LOGISTIC:
        off = softmax_off(2, bound, engine)
        return Residual(1.0, off.sure + output / 4, off.chance)
    largest = facts.loss.largest_residual(bound, facts.target)
    return Residual(largest, 2 * (output + INPUT), OPERAND / 2)  # the cut to a factor's bits is by chance


def weight_norm(facts: Facts) -> float:
    """Return a bound on the norm of the weights."""
    return facts.logit_bound / facts.longest * (2 if facts.loss is LOGISTIC else 1)


def _output(facts: Facts) -> float:
    """Return the error of an output of the candidate from the rounding of its rows and of the weights."""
    return 1.01 * (row_off(facts) * weight_norm(facts) + facts.row_norm * input_off(1, facts))


def _gradient_norm(method: GradientNorm, facts: Facts, engine: str, unit: float) -> float:
    off, n = residual_off(facts, engine, facts.logit_bound, _output(facts)), facts.rows
    sure = facts.row_norm * off.sure + off.largest * row_off(facts)
    cut = OPERAND * math.sqrt(facts.features + 1)
    total = n * sure + LAMBDA * 2 * facts.row_norm * off.chance * math.sqrt(n)
    return total + (cut + math.sqrt(unit)) / (method.scale(facts) * facts.ratio)


def _influence(method: Influence, facts: Facts, engine: str, unit: float) -> float:
    off, n = residual_off(facts, engine, facts.logit_bound, _output(facts)), facts.rows
    spread, root = facts.spread, math.sqrt(facts.features + 1)
    sure = (facts.row_norm * off.sure + off.largest * row_off(facts)) * spread
    sure += facts.row_norm * off.largest * root * INPUT  # the rounding of the direction
    cut = OPERAND * root * spread
    return sure + LAMBDA * facts.row_norm * spread * off.chance / math.sqrt(n) + (cut / facts.ratio + unit) / n


def _influence_error(method: InfluenceError, facts: Facts, engine: str, unit: float) -> float:
    off, n = residual_off(facts, engine, facts.logit_bound, _output(facts)), facts.rows
    many, scale = math.sqrt(2 * math.log(2 * n / CHANCE)), method.scale(facts)
    width = facts.row_norm * facts.spread
    product = 1.01 * (input_off(n, facts) * facts.spread + facts.row_norm * input_off(1, facts)) + OPERAND
    row = width * (off.sure + many * off.chance) + off.largest * product
    row += OPERAND * scale * 2 + 2 * width * off.largest * INPUT  # of the deviations, and of the mean's public factor
    return row / math.sqrt(n) + math.sqrt(unit) * scale / n


LINEAR_BOUNDS: dict[type[Appraiser], Callable[..., float]] = {
    GradientNorm: _gradient_norm,
    Influence: _influence,
    InfluenceError: _influence_error,
}
