"""Bounds on what fixed point adds to relevance and diversity, which read no model and no label.

A method and its public facts go in; B comes out, in units of the value, as for `accuracy.error_bound`. With L the bound
on the rows of both owners, a coordinate (x - mu)' u is within 2 L, and those of one row along orthonormal directions
have a root of squares within 2 L too. It is off by dc <= |dx| |u| + L |du|, surely, and by a cut to OPERAND_BITS, by
chance. A mean square along directions is then off by 4 L dc surely. The derivation is in docs/protocols/releases.md.
The formulas are part of the proof and are not to be tuned.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.relevance import FINE, Diversity, Relevance
from mpc_appraisal.mpc.protocols.tensors import OPERAND_BITS
from mpc_appraisal.release.function_errors import CHANGE_BITS, INPUT, input_off, tilt
from mpc_appraisal.release.softmax_accuracy import LAMBDA

OPERAND = 2.0**-OPERAND_BITS  # a unit in the last place of a shared factor of a product
CUT = 2.0**-CHANGE_BITS  # a unit in the last place after a product with a public factor
LEAST_BLOCK = 1 << 12  # a data owner adds a number of its own for each block of so many rows at most, or for all rows


def _relevance(method: Relevance, facts: Facts, unit: float) -> float:
    n, longest, k = facts.rows, facts.longest, min(method.directions, facts.features)
    row, variance = method.scales(facts)
    factor = FINE * variance / (n * row**2)
    coordinate = 1.01 * (input_off(n, facts) * longest + longest * input_off(k, facts))
    sure = 4 * longest * coordinate + math.sqrt(k) * coordinate**2 + 4 * longest**2 * tilt(factor)
    chance = LAMBDA * 2 * OPERAND * 2 * longest / (math.sqrt(n) * row)
    each = OPERAND**2 / row**2 + OPERAND / variance  # of squared cuts, and of the cut of a difference
    each += (3 * max(1.0, factor) * CUT + INPUT) / (FINE * variance)
    return sure + chance + math.sqrt(k) * each + math.sqrt(unit) / variance


def _diversity(method: Diversity, facts: Facts, unit: float) -> float:
    n, longest, k = facts.rows, facts.longest, min(method.directions, facts.features)
    scale, columns = method.scale(facts), min(method.directions, facts.features) + 2
    coordinate = 1.01 * (input_off(n, facts) * (1 + longest) + longest * input_off(columns, facts))
    sure = 2 * coordinate * longest * (2 * math.sqrt(k) + 3) + columns * coordinate**2
    chance = LAMBDA * OPERAND * 3 * longest / (math.sqrt(n) * scale)
    squares = columns * OPERAND**2 / scale**2
    added = math.ceil(n / LEAST_BLOCK) * INPUT  # the data owner's own numbers, one for each block
    return sure + chance + squares + (added + unit) / (scale**2 * n)


def compared_off(method: Appraiser, facts: Facts) -> float:
    """Return what the comparison of candidates of different sizes adds to the error of a diversity."""
    one = 2.0 ** math.floor(7.0 - math.log2(facts.longest))
    return 4 * facts.longest**2 * tilt(one**2 / (method.scale(facts) ** 2 * facts.rows)) + 3 * CUT / one**2


RELEVANCE_BOUNDS: dict[type[Appraiser], Callable[..., float]] = {Relevance: _relevance, Diversity: _diversity}
