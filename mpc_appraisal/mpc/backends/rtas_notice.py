"""RTAS: linear algebra on shares, other functions by a random permutation at a helper.

    X W, truncation, squares, comparisons of a release: the engine's, on shares mod 2^64
    f(z) = pi^-1( f(pi(z)) ),  f in relu, step, sigmoid, tanh, exp: the helper is shown pi(z), pi known to the owners
    softmax, log_softmax of rows (n, C): rows permuted, and in every row the columns by a permutation of its own

"Private machine learning by random transformations" (anonymous), section 4.2.1. There the shares are floating point;
here they are in the ring, so that each of them says nothing: the helper's sum is all that is to be seen. The helper is
the dealer's process, and the strategy an engine, `session.engine=rtas` or `protocol=rtas`: every appraisal method runs
on it unchanged. See `mpc.permuted` and `mpc.helped` for the protocol and `mpc.functions` for the functions.

It needs no public bound on logits, and a softmax takes two messages one after the other. Both are paid for with
LEAKAGE, so it is the default of nothing, and it is not for data that must stay private from the helper.
"""

from __future__ import annotations

import sys

from mpc_appraisal.common import roles
from mpc_appraisal.mpc.backends.rtas import NAME

TRUST = (
    "The parties follow the protocol, and the helper, which is the dealer too, colludes with neither owner. "
    f"{roles.CHEATING} A cheating helper can answer anything."
)
LEAKAGE = (
    "The helper sees every value that goes into a softmax or an activation, batch by batch: all logits of the data "
    "owner's rows, and of the model owner's where a method trains or tests on them. Their order is hidden, the values "
    "are not: they rank candidates much as the gradient norm does (measured rank correlation .76), and by what is "
    "missing (1.00), and tell the mix of classes; with the model they tell whether a row is among the data; batches "
    "and training steps can be linked. Noise and thresholds bound what owners learn, not what the helper sees; what a "
    "release compares it does not see. That it refuses a value beyond fixed point, both owners learn. Helper and one "
    "owner together learn everything. Not for data that must stay private from the helper."
)


def trust_of(engine: str) -> str:
    """What must be trusted where this engine computes; with the leakage, where there is any."""
    if engine == "stock":
        return roles.STOCK_TRUST
    return f"{TRUST} {LEAKAGE}" if engine == NAME else roles.TRUST


def warn(engine: str) -> None:
    """Say what leaks, to standard error, before anything is shared; nothing for an engine that leaks nothing."""
    if engine == NAME:
        print(f"warning: engine {NAME}: {LEAKAGE}", file=sys.stderr, flush=True)
