"""What fixed point adds to sensitivities: sure bounds, because noise has to cover everything that a row can change.

`softmax_error` bounds the error e of one row's probabilities, and `opened_error` what is cut after rows are summed:

    e = f + C u + 2 C (w + u),    f = (1 + C w + v) (1 + r) - 1,    u = 2^-16

C is the number of classes and u the unit of a computed probability. w is a unit of the row's last opened value in parts
of its smallest sum, v is a unit of that sum, opened by itself, and r is the relative error of its reciprocal
(`SoftmaxPlan.slip`). A sigmoid is the softmax of two numbers. `squared_error` is the bound for linear regression, which
has no softmax and shares the triangle of a QR decomposition in place of the rows. In go public sizes and bounds; out
come the errors. They hold only if nothing is truncated in a way that may fail (`Session.require_exact_truncation`). The
derivation is in docs/protocols/releases.md. Whoever changes the engine's softmax, or what of a squared error is shared,
has to derive these bounds anew.
"""

from __future__ import annotations

import math

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.models.links import IDENTITY
from mpc_appraisal.mpc.protocols.softmax_plan import BITS, X_DROP, plan
from mpc_appraisal.mpc.protocols.tensors import OPERAND_BITS
from mpc_appraisal.release.dp.clipping import ROUNDING
from mpc_appraisal.release.dp.sensitivity import Bounds

FACTORISED = 16 * 2.0**-52  # the error of a QR decomposition, for each row and column, in parts of the matrix' norm


def softmax_error(classes: int, bound: float) -> float:
    """Return the largest distance e of one row's computed probabilities from the simplex, summed over its `classes`.

    `bound` is the public bound on the centred logits. Raises InputError for what the engine refuses.
    """
    how, cut = plan(classes, bound), 2.0**-BITS
    return how.slip + classes * cut + 2 * classes * (2.0**X_DROP / how.low + cut)


def opened_error(method: Appraiser, facts: Facts, row: float, direction: float | None = None) -> float:
    """Return a sure bound on what is lost between the rows' computed terms and the number that is opened.

    Args:
        method: gradient_norm or influence, whose sums are cut to OPERAND_BITS before they enter a product.
        facts: The public facts of the question.
        row: A bound on the norm of one row's scaled gradient. Only gradient_norm uses it.
        direction: A bound on the distance of two columns of the influence direction. Only influence uses it.

    Raises:
        InputError: The method is another one, or influence comes without `direction`.
    """
    cut, entries = 2.0**-OPERAND_BITS, (facts.features + 1) * facts.outputs
    if type(method) is GradientNorm:
        off = cut * math.sqrt(entries)
        return 2 * facts.rows * row * off + off**2
    if type(method) is Influence and direction is not None:
        return cut * facts.outputs * math.sqrt(facts.features + 1) * direction
    raise InputError("appraisal", method.name, "gradient_norm or influence: no other method's rounding is bounded")


def squared_error(method: Appraiser, facts: Facts, bounds: Bounds) -> float:
    """Return a sure bound on the difference of the opened number from that of the clipped rows, for linear regression.

        |A w| <= sqrt(n) (R W + T),    |A v| <= sqrt(n) R D,    e = 2^-17 sqrt((d + 2) (d + 3) / 2) + q

    A (n, d + 2) are the rows [x, 1, y], w = [theta, -1] and v = [V, 0]. The owner shares a triangle with the products
    A'A, up to an error in each column of A of e together: the rounding of its entries, and the error q of float64. Each
    residual is cut to OPERAND_BITS, and so is each entry of the gradient. Rows that are shared as they are have less.

    Args:
        method: gradient_norm or influence.
        facts: The public facts of the question.
        bounds: R, T and W, and for influence D.

    Raises:
        InputError: The method is another one, or a bound is missing.
    """
    (target, weights), cut, columns = bounds.sizes(), 2.0**-OPERAND_BITS, facts.features + 2
    length, off = math.sqrt(facts.rows), ROUNDING * math.sqrt(columns * (columns + 1) / 2)
    off += FACTORISED * facts.rows * columns * length * math.hypot(bounds.row_norm, target)
    residual = 2 * length * (bounds.row_norm * weights + target)
    wrong = 2 * off * math.hypot(weights, 1.0) + cut * math.sqrt(columns)
    # (A + E)' (r + f) - A' r = A' f + E' (r + f), for any error E of the rows and f of the residuals r.
    gradient = length * bounds.row_norm * wrong + off * (residual + wrong)
    if type(method) is GradientNorm:
        scale = method.scale(facts)
        moved = scale * gradient + cut * math.sqrt(facts.features + 1)
        return 2 * facts.rows * scale * bounds.row_gradient(IDENTITY) * moved + moved**2
    if type(method) is Influence and bounds.direction_spread is not None:
        return (gradient + cut * math.sqrt(facts.features + 1)) * bounds.direction_spread
    raise InputError("appraisal", method.name, "gradient_norm or influence: no other method's rounding is bounded")
