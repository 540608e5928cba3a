"""What fixed point adds to sensitivities: sure bounds, because noise has to cover everything that a row can change.

`softmax_error` bounds the error e of one row's probabilities, and `opened_error` what is cut after rows are summed:

    e = f + C u + 2 C (w + u),    f = max(high (1 + C w) - 1, 1 - low (1 - C w)),    u = 2^-16

C is the number of classes and u the unit of a computed probability. w is a unit of the row's last opened value in parts
of its smallest sum, and low and high are the ends of the engine's plan for its last division (`normalised`). In go
public sizes and bounds; out come the two errors. Both hold only if nothing is truncated in a way that may fail
(`Session.require_exact_truncation`). The derivation is in docs/protocols/releases.md. Whoever changes the engine's
softmax has to derive these bounds anew.
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

LOGIT_BITS = (32, 36, 2 * FINE_BITS)  # the fractional bits that logits can have, by the sizes of the two matrices


@lru_cache(maxsize=64)
def softmax_error(classes: int, bound: float) -> float:
    """Return the largest distance e of one row's computed probabilities from the simplex, summed over its `classes`.

    `bound` is the public bound on the centred logits. Raises InputError for what the engine refuses.
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
    """Return a sure bound on what is lost between the rows' computed terms and the number that is opened.

    Args:
        method: gradient_norm or influence, whose sums are cut to OPERAND_BITS before they enter a product.
        facts: The public facts of the question.
        row: A bound on the norm of one row's scaled gradient. Only gradient_norm uses it.
        direction: A bound on the distance of two columns of the influence direction. Only influence uses it.

    Raises:
        InputError: The method is another one, or influence comes without `direction`.
    """
    cut, entries = 2.0**-OPERAND_BITS, (facts.features + 1) * facts.classes
    if type(method) is GradientNorm:
        off = cut * math.sqrt(entries)
        return 2 * facts.rows * row * off + off**2
    if type(method) is Influence and direction is not None:
        return cut * facts.classes * math.sqrt(facts.features + 1) * direction
    raise InputError("appraisal", method.name, "gradient_norm or influence: no other method's rounding is bounded")
