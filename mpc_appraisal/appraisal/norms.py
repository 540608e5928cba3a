"""Norms that the owners tell: the bound on logits that follows, and whether the ring holds what they allow."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from mpc_appraisal.appraisal.plan import BLOCK_ROWS, DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.mpc.backends.registry import bounded
from mpc_appraisal.mpc.protocols.logit_bound import WeightLimit, weight_limit
from mpc_appraisal.mpc.protocols.norm_check import WEIGHT_ROOM
from mpc_appraisal.mpc.protocols.softmax import LARGEST_EXPONENT, MAX_SQUARINGS
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, FINE_ELEMENTS
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS
from mpc_appraisal.release.dp.clipping import spread

LARGEST_BOUND = LARGEST_EXPONENT * 2**MAX_SQUARINGS  # on logits, for a softmax
UNCHECKED_BOUND = 2.0**14  # on logits that a helper sees: products of 40 fractional bits stay within the ring
SPREAD = "direction_spread"  # as it is told
LARGEST_SUM = 2.0**29  # of rows of a gradient, with 32 fractional bits


def published_norms(
    role: str, own: OwnInput, theta: torch.Tensor | None, owned: dict[str, dict[str, torch.Tensor]], plan: Plan
) -> dict[str, float]:
    """What a public bound on logits is made of: the largest norm of a row of one's data, and of a class's weights.

    |x . (w_c - mean w)| <= ||x|| ||w_c - mean w||. Each owner computes its own, adds what fixed point rounds
    (2^-17 for each of d + 1 entries; to a logit, 2^-14), and tells it rounded up to four bits. Where noise is to hide
    the data owner's rows it tells the public norm that they are clipped to in place of theirs.

    The model owner tells the largest distance of two columns of its influence direction in the same way, where a method
    has one and no noise is scaled to it: how far off a value may be follows from it.
    """

    def up(norm: float) -> float:
        mantissa, exponent = math.frexp(norm)
        return math.ldexp(math.ceil(mantissa * 16) / 16, exponent)

    def rows(x: torch.Tensor) -> float:
        longest = math.sqrt(float(torch.linalg.vector_norm(x, dim=1).max()) ** 2 + 1)  # 1: the constant feature
        return longest + math.sqrt(x.shape[1] + 1) * 2.0**-17

    described, published = plan.release.description, {}
    if isinstance(own, DataOwnerInput) and described.noised:
        published["row_norm"] = float(described.row_norm)
    elif isinstance(own, DataOwnerInput):
        published["row_norm"] = up(max(rows(block.x) for c in own.candidates for block in c.blocks(BLOCK_ROWS)))
    if not isinstance(own, ModelOwnerInput):
        return published
    parts = [rows(d.x) for d in (own.train, own.test) if d is not None]
    norm = class_norm(theta) + math.sqrt(len(theta)) * 2.0**-17
    # As they are shared, where noise is to count on it: rounding of all classes may add up.
    bits = FINE_BITS if theta.numel() <= FINE_ELEMENTS else PRECISION_BITS
    shared = [torch.round(each["weights"] * 2.0**bits) / 2.0**bits for each in owned.values() if "weights" in each]
    norm = max([norm, *map(class_norm, shared)]) + WEIGHT_ROOM  # no row is shorter than 1
    directions = [tensors["direction"] for tensors in owned.values() if "direction" in tensors]
    if directions and not described.noised:
        published[SPREAD] = up(max(spread(d) + 2 * math.sqrt(len(d)) * 2.0**-17 for d in directions))
    return published | {"row_norm": up(max(parts, default=1.0)), "weight_norm": up(norm)}


def class_norm(theta: torch.Tensor) -> float:
    """The largest norm of a class's weights (d, C) less their mean over the classes."""
    return float((theta - theta.mean(1, keepdim=True)).norm(dim=0).max())


def check_norms(notes: dict[str, dict[str, float]], plan: Plan, facts: dict[str, Facts]) -> float:
    """The bound on centred logits that follows from the norms that the owners told, or the stated one if larger.

    Raises, at every party alike, InputError: the ring cannot hold what these norms allow.
    """
    buyer, longest = notes[MODEL_OWNER], notes[DATA_OWNER]["row_norm"]
    derived = max(buyer["row_norm"], longest) * buyer["weight_norm"]
    if plan.engine == "stock":
        return derived
    checked = bounded(plan.engine)
    if checked and plan.logit_bound is not None and plan.logit_bound < derived:
        raise InputError("session.logit_bound", plan.logit_bound, f"{derived:g} or more, by the told norms")
    bound = plan.logit_bound or derived
    if not checked and derived > UNCHECKED_BOUND:
        raise InputError(
            "the bound on logits",
            f"{derived:g} by the told norms",
            f"at most {UNCHECKED_BOUND:g}: standardise the features, or raise model.l2",
        )
    for method in plan.methods:
        if checked and bound * method.logit_growth > LARGEST_BOUND:
            raise InputError(
                "the bound on logits",
                f"{bound * method.logit_growth:g} for {method.name}",
                f"at most {LARGEST_BOUND:g}: rows of norm {longest:g} and weights of norm {buyer['weight_norm']:g} are "
                "too large together; standardise the features, or raise model.l2",
            )
    for name, f in with_norms(facts, notes, bound).items():
        for method in plan.methods:
            summed = method.summed_rows(f)
            pieces = [f.rows, BLOCK_ROWS, f.rows % BLOCK_ROWS or BLOCK_ROWS, f.train_rows or f.rows]
            small = min(pieces) * (f.features + 1) <= FINE_ELEMENTS  # held with four bits more
            if summed * f.longest > LARGEST_SUM / (16 if small else 1):
                raise InputError(
                    f"party.data ({name})",
                    f"{summed} rows of norm up to {f.longest:g} in the sums of {method.name}",
                    f"rows times norm of at most {LARGEST_SUM / (16 if small else 1):g}: standardise the features",
                )
            weight_limit_of(method, f, bound, plan)
    return bound


def with_norms(facts: dict[str, Facts], notes: dict[str, dict[str, float]], bound: float) -> dict[str, Facts]:
    """`facts` with the norms that the owners told, and the bound on logits that `check_norms` made of them."""
    buyer, seller = notes[MODEL_OWNER]["row_norm"], notes[DATA_OWNER]["row_norm"]
    published = {"row_norm": seller, "longest": max(buyer, seller), "spread": notes[MODEL_OWNER].get("spread")}
    return {name: replace(f, **published, logit_bound=bound) for name, f in facts.items()}


def with_spread(facts: dict[str, Facts], notes: dict[str, dict[str, float]]) -> dict[str, Facts]:
    """`facts` with the spread of the influence direction that the model owner told, where no noise is scaled to it.

    The ledgers' questions do not hold it, so that a question of an earlier version is still the same question.
    """
    published = notes[MODEL_OWNER].get(SPREAD)
    return facts if published is None else {name: replace(f, spread=published) for name, f in facts.items()}


def weight_limit_of(method: Appraiser, facts: Facts, bound: float, plan: Plan) -> WeightLimit | None:
    """What the weights of a method that trains are held to; raises InputError where that cannot be checked."""
    if method.logit_growth <= 1 or not bounded(plan.engine):
        return None
    shape, grown = (facts.features + 1, facts.classes), bound * method.logit_growth
    return weight_limit(method.name, grown, facts.longest, shape, lambda norm: method.reach(norm, facts))
