"""What fixed point adds to sensitivities: sure bounds, for noise that has to cover everything that a row can change.

Two runs on neighbouring candidates are compared with the same masks, which do not depend on the data. The engine works
row by row until rows are summed, so all other rows' terms are then the same, to the bit. What is left:

**The replaced row's term**, x (p - y)' with p the softmax *as computed*. It need not be close to the true one, only to
the simplex. With the last normalisation, p = x_opened y cut to 16 bits, where x_opened >= -1 unit, and the sum of the
row's x times y is between `how.low` and `how.high` of the plan (`inverse.plan`, which counts the rounding of the sum,
of t and of y). A row of C entries, each one unit off, sums to C units less or more. Hence the distance

    e = sum |p - nearest point of the simplex| <= f + C u + 2 C (w + u),  f = max(high (1 + C w) - 1, 1 - low (1 - C w))

w: a unit of x_opened in parts of the smallest row sum, u = 2^-16. It is `Bounds.softmax_error`.

**What is cut after summing**, at most one unit in the last place each, of OPERAND_BITS: see `opened_error`. All of this
holds surely only where nothing is truncated in a way that may fail: `Session.require_exact_truncation`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.gradient_norm import GradientNorm
from mpc_appraisal.methods.influence import Influence
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.softmax import BITS, normalised
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, OPERAND_BITS

LOGIT_BITS = (32, 36, 2 * FINE_BITS)  # fractional bits of logits, by the sizes of the two matrices


@lru_cache(maxsize=64)
def softmax_error(classes: int, bound: float) -> float:
    """e: how far the probabilities of one row, as computed, are from the simplex at most, summed over C `classes`.

    bound: public, on the centred logits. Raises InputError for what the engine refuses.
    """
    worst = 0.0
    for bits in LOGIT_BITS:
        engine = DrySession().context.engine
        logits = torch.zeros(1, classes, dtype=torch.int64, device="meta")
        rows, p = normalised(engine, logits, bits, bound)
        unit = 2.0**rows.drop / rows.low
        low, high = p.how.low * (1 - classes * unit), p.how.high * (1 + classes * unit)
        cut = 2.0**-BITS
        worst = max(worst, max(high - 1, 1 - low) + classes * cut + 2 * classes * (unit + cut))
    return worst


def opened_error(method: Appraiser, facts: Facts, row: float, direction: float | None = None) -> float:
    """A sure bound on what is lost between the rows' terms, as computed, and the number that is opened.

    row: bound on the norm of one row's scaled gradient; direction: on the distance of two columns of V.

    gradient_norm: the D C entries of s G, D = features + 1, are cut to OPERAND_BITS before they are squared:
        | ||s G + d||^2 - ||s G||^2 | <= 2 n row ||d|| + ||d||^2,   ||d|| <= 2^-18 sqrt(D C).
    influence: G is cut the same before it is multiplied by V: |<d, V>| <= 2^-18 sum |V| <= 2^-18 C sqrt(D) times the
        longest column, of which none is longer than the distance of two, as V is centred.
    """
    cut, entries = 2.0**-OPERAND_BITS, (facts.features + 1) * facts.classes
    if type(method) is GradientNorm:
        off = cut * math.sqrt(entries)
        return 2 * facts.rows * row * off + off**2
    if type(method) is Influence and direction is not None:
        return cut * facts.classes * math.sqrt(facts.features + 1) * direction
    raise InputError("appraisal", method.name, "gradient_norm or influence: no other method's rounding is bounded")
