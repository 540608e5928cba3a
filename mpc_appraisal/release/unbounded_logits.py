"""The public rule by which a method computes its softmax without a bound on logits.

    spread = 2 R max over steps of the largest norm that a class's centred weights can have

R is the norm of the longest row. The spread bounds the difference of two logits of a row, in everything that a method
computes, from public facts: the announced norms, the rate and the number of steps. In go a method and the public facts;
out comes the spread where the softmax without a bound is used, else None. The rule holds where a session states `auto`
for its bound on logits (`Facts.auto`); with a number, or with none, every softmax has a bound.

Where public facts make sure that the bound on logits holds, the softmax that takes fewer rounds is used, or else the
one of fewer bytes. A training that may leave the bound takes the softmax without one: nothing is checked, and no bit is
opened. Beyond LARGEST nothing makes sure that the ring holds the logits, and the bound is checked as without `auto`.
All parties have to compute the rule alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.mpc.protocols.row_softmax import unbounded_is_cheaper
from mpc_appraisal.mpc.protocols.softmax_plan import LARGEST_EXPONENT, MAX_DOUBLINGS

AUTO = "auto"  # what a session states in place of a bound
LARGEST = 2.0**20  # up to here logits with 40 fractional bits, and what training adds to them, fit the ring
LARGEST_BOUND = LARGEST_EXPONENT * 2**MAX_DOUBLINGS  # the largest bound on logits that a softmax can have


def unbounded_spread(method: Appraiser, facts: Facts) -> float | None:
    """Return the largest difference of two logits where the method's softmax has no bound, or None where it has one.

    Args:
        method: The method.
        facts: The public facts, with the norms that the owners announced.
    """
    if not facts.auto or not facts.loss.exponential or not method.uses_model:
        return None
    spread = method.logit_spread(facts)
    if spread is None or not 0 < spread <= LARGEST:
        return None
    bound = facts.logit_bound * method.logit_growth
    outputs = max(2, facts.outputs)
    certain = spread <= 2 * bound <= 2 * LARGEST_BOUND
    return None if certain and not unbounded_is_cheaper(outputs, bound, spread) else spread


def unbounded_words(methods: Sequence[Appraiser], facts: Sequence[Facts]) -> list[str]:
    """Return a sentence for each method whose softmax has no bound, for requests and records; `facts` of candidates."""
    found = []
    for method in methods:
        spreads = [spread for f in facts if (spread := unbounded_spread(method, f)) is not None]
        if spreads:
            found.append(
                f"By {method.name}: the softmax needs no bound on logits, and none is checked; by public facts two "
                f"logits of a row differ by at most {max(spreads):.3g}."
            )
    return found
