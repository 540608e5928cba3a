"""How far off inputs and public factors are: what the bounds on errors of every model are made of.

Sizes go in; errors come out. `softmax_accuracy` has the errors of the engine's functions. The derivation is in
docs/protocols/releases.md. The constants and formulas here are part of the proof and are not to be tuned.
"""

from __future__ import annotations

import math

from mpc_appraisal.data.resolution import NEAR
from mpc_appraisal.methods.base import Facts
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, FINE_ELEMENTS
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

INPUT = 2.0 ** -(PRECISION_BITS + 1)  # the rounding of an input that is shared as it is
CHANGE_BITS = 26  # the fewest fractional bits that are left after a product with a public factor


def input_off(rows: int, facts: Facts) -> float:
    """Return how far rounding moves one row of a matrix of `rows` rows, in the Euclidean norm."""
    bits = FINE_BITS if rows * (facts.features + 1) <= FINE_ELEMENTS else PRECISION_BITS
    return math.sqrt(facts.features + 1) * 2.0 ** -(bits + 1)


def row_off(facts: Facts) -> float:
    """Return how far a row of the candidate is from the one that is shared, in the Euclidean norm.

    With a resolution it is shared exactly, and only the number of float32 that stood for k / scale was off.
    """
    return input_off(facts.rows, facts) if facts.resolution is None else NEAR * facts.row_norm


def tilt(factor: float) -> float:
    """Return the relative error of a public factor, of which `Secret` keeps 16 bits when it multiplies."""
    if factor <= 0:
        return 0.0
    mantissa = math.frexp(factor)[0]
    return abs(round(mantissa * 2.0**PRECISION_BITS) / 2.0**PRECISION_BITS / mantissa - 1)
