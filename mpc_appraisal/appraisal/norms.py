"""The norms that the owners announce, the bound on logits that follows, and whether the ring holds what they allow.

A norm is a bound on the length of an owner's rows or of the model's weights. A logit is the product of a row and the
weights of a class. In go one owner's rows or weights, and then both owners' announced norms. Out come the norms to
announce, the public bound on the centred logits, and facts (public sizes and norms) that hold the norms. The ring is
the integers modulo 2^64, in which numbers are shared and must not wrap.

Every party has to compute the same bound and refuse alike, from announced numbers alone. The limits follow from the
engine's number formats (`mpc.protocols`) and may change only with those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from mpc_appraisal.appraisal.plan import BLOCK_ROWS, DataOwnerInput, MethodInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.models.links import IDENTITY, LOGISTIC, SOFTMAX, Link
from mpc_appraisal.mpc.backends.registry import bounded
from mpc_appraisal.mpc.backends.rtas import NAME as RTAS
from mpc_appraisal.mpc.protocols.logit_bound import WeightLimit, weight_limit
from mpc_appraisal.mpc.protocols.norm_check import WEIGHT_ROOM
from mpc_appraisal.mpc.protocols.tensors import FINE_BITS, FINE_ELEMENTS
from mpc_appraisal.mpc.ring.fixed_point import MAX_ABS, PRECISION_BITS
from mpc_appraisal.release.dp.clipping import spread
from mpc_appraisal.release.unbounded_logits import AUTO, LARGEST_BOUND, unbounded_spread

UNCHECKED_BOUND = 2.0**14  # the largest bound where a helper sees the logits: products of 40 fractional bits fit
TARGET = "target_norm"  # the field of the message that announces the bound on targets that are numbers
LARGEST_RESIDUAL = 2.0**21  # the largest residual of a numeric target: with 40 fractional bits it fits the ring
SPREAD = "direction_spread"  # the field of the message that announces the direction's spread
LARGEST_SUM = 2.0**29  # the largest sum of rows' gradients that the ring holds with 32 fractional bits


def published_norms(
    role: str,
    own: OwnInput,
    theta: torch.Tensor | None,
    inputs: Mapping[str, MethodInput],
    plan: Plan,
    longest: float | None = None,
) -> dict[str, float]:
    """Return the norms that one owner announces, from which every party derives a public bound on logits.

    They are the largest norm of a row x and of a class's centred weights w_c: `|x . (w_c - mean w)|` is at most the
    product of the norms of x and of w_c - mean w. Each owner adds what fixed point may round (2^-17 for each of d + 1
    entries; 2^-14 for a logit), and rounds up to four bits. Where noise hides the data owner's rows, that owner
    announces the public norms that they and their targets are clipped to.

    Where the target is a number that a method reads, each owner adds the bound `target_norm` on its targets' size, for
    the residuals.

    Where a method has an influence direction and no noise is scaled to it, the model owner also announces the largest
    distance of two of the direction's columns, or the norm of a direction of one column, from which the error bound of
    a value follows.

    Args:
        role: The role of the owner. It is not used: the kind of `own` decides.
        own: This owner's input; nothing is announced for any other party.
        theta: The model's weights (d + 1, C), for d features and C classes, at the model owner; None at the others.
        inputs: What the model owner brings to each method; empty at the others.
        plan: What all parties state alike.
        longest: The bound on the candidates' rows where `check_candidates` has found it; None reads the rows.
    """

    def up(norm: float) -> float:
        mantissa, exponent = math.frexp(norm)
        return math.ldexp(math.ceil(mantissa * 16) / 16, exponent)

    owned = {name: one.tensors for name, one in inputs.items()}
    described, published = plan.release.description, {}
    if isinstance(own, DataOwnerInput) and described.noised:
        published["row_norm"] = float(described.row_norm)
    elif isinstance(own, DataOwnerInput):
        if longest is None:
            longest = max(row_norm(block.x) for c in own.candidates for block in c.blocks(BLOCK_ROWS))
        published["row_norm"] = up(longest)
    numbers = plan.model.link is IDENTITY and any(method.uses_labels for method in plan.methods)
    if isinstance(own, DataOwnerInput) and numbers and described.noised:
        published[TARGET] = float(described.target_norm)
    elif isinstance(own, DataOwnerInput) and numbers:
        published[TARGET] = up(max(_largest(block.y) for c in own.candidates for block in c.blocks(BLOCK_ROWS)))
    if not isinstance(own, ModelOwnerInput):
        return published
    parts = [row_norm(d.x) for d in (own.train, own.test) if d is not None]
    link = plan.model.link
    norm = class_norm(theta, link) + math.sqrt(len(theta)) * 2.0**-17
    # The norm must hold for the weights as they are shared: the rounding of all classes may add up.
    bits = FINE_BITS if theta.numel() <= FINE_ELEMENTS else PRECISION_BITS
    shared = [torch.round(each["weights"] * 2.0**bits) / 2.0**bits for each in owned.values() if "weights" in each]
    norm = max([norm, *(class_norm(one, link) for one in shared)]) + WEIGHT_ROOM  # no row is shorter than 1
    directions = [tensors["direction"] for tensors in owned.values() if "direction" in tensors]
    if numbers:
        published[TARGET] = up(max((_largest(d.y) for d in (own.train, own.test) if d is not None), default=2.0**-17))
    if directions and not described.noised:
        size = spread if link is SOFTMAX else torch.linalg.vector_norm
        published[SPREAD] = up(max(float(size(d)) + 2 * math.sqrt(len(d)) * 2.0**-17 for d in directions))
    return published | {"row_norm": up(max(parts, default=1.0)), "weight_norm": up(norm)}


def row_norm(x: torch.Tensor) -> float:
    """Return a bound on the norm of every row of x (n, d) as it is shared: with the constant feature 1 and rounded."""
    longest = math.sqrt(float(torch.linalg.vector_norm(x, dim=1).max()) ** 2 + 1)
    return longest + math.sqrt(x.shape[1] + 1) * 2.0**-17


def _largest(y: torch.Tensor) -> float:
    """Return a bound above 0 on the size of every target as it is shared, that is, rounded."""
    return float(y.abs().max()) + 2.0**-17


def class_norm(theta: torch.Tensor, link: Link = SOFTMAX) -> float:
    """Return the largest norm of a column of theta (d + 1, C) less the mean of its columns, which are the classes.

    With one column, it is the norm of the column, or half of it for the logistic link, whose sigmoid is the softmax of
    the two centred columns -theta / 2 and theta / 2.
    """
    if link is not SOFTMAX:
        return float(theta.norm()) / (2 if link is LOGISTIC else 1)
    return float((theta - theta.mean(1, keepdim=True)).norm(dim=0).max())


def check_norms(published: Mapping[str, dict[str, float]], plan: Plan, facts: dict[str, Facts]) -> float:
    """Return the bound on centred logits: the stated one, or else the one that the announced norms give.

    The engine `stock` knows no stated bound. On an engine that checks the bound on shares, the stated one must not be
    smaller than the derived one.

    Args:
        published: The announced norms, by role.
        plan: What all parties state alike.
        facts: The public facts by candidate's name.

    Raises:
        InputError: The stated bound is too small, or the ring cannot hold what these norms allow. It is raised at every
            party alike.
    """
    buyer, longest = published[MODEL_OWNER], published[DATA_OWNER]["row_norm"]
    derived = max(buyer["row_norm"], longest) * buyer["weight_norm"]
    if plan.engine == "stock":
        return derived
    checked = bounded(plan.engine)
    if checked and plan.logit_bound not in (None, AUTO) and plan.logit_bound < derived:
        raise InputError("session.logit_bound", plan.logit_bound, f"{derived:g} or more, by the announced norms")
    bound = derived if plan.logit_bound in (None, AUTO) else plan.logit_bound
    if not checked and plan.model.link.exponential and derived > UNCHECKED_BOUND:
        raise InputError(
            "the bound on logits",
            f"{derived:g} by the announced norms",
            f"at most {UNCHECKED_BOUND:g}: standardise the features, or raise model.l2",
        )
    known = with_norms(facts, published, bound, plan)
    for method in plan.methods:
        exponential = method.uses_model and plan.model.link.exponential
        free = all(unbounded_spread(method, f) is not None for f in known.values())
        if checked and exponential and not free and bound * method.logit_growth > LARGEST_BOUND:
            raise InputError(
                "the bound on logits",
                f"{bound * method.logit_growth:g} for {method.name}",
                f"at most {LARGEST_BOUND:g}: rows of norm {longest:g} and weights of norm {buyer['weight_norm']:g} are "
                "too large together; standardise the features, or raise model.l2",
            )
    for name, f in known.items():
        for method in plan.methods:
            summed = method.summed_rows(f)
            pieces = [f.rows, BLOCK_ROWS, f.rows % BLOCK_ROWS or BLOCK_ROWS, f.train_rows or f.rows]
            small = min(pieces) * (f.features + 1) <= FINE_ELEMENTS  # such a matrix has four fractional bits more
            if plan.model.link is IDENTITY and method.uses_labels:
                check_residuals(method, f, name)
            if summed * f.longest > LARGEST_SUM / (16 if small else 1):
                raise InputError(
                    f"party.data ({name})",
                    f"{summed} rows of norm up to {f.longest:g} in the sums of {method.name}",
                    f"rows times norm of at most {LARGEST_SUM / (16 if small else 1):g}: standardise the features",
                )
            weight_limit_of(method, f, bound, plan)
    return bound


def check_residuals(method: Appraiser, f: Facts, name: str) -> None:
    """Raise InputError where residuals of numeric targets, or sums of rows' gradients, may not fit the ring."""
    largest = f.loss.largest_residual(f.logit_bound * method.logit_growth, f.target)
    rows = shared_rows((method,), f)
    for found, most, what in (
        (largest * math.sqrt(f.rows if rows < f.rows else 1), LARGEST_RESIDUAL, "residuals"),
        (method.summed_rows(f) * f.longest * largest, LARGEST_SUM / 16, "sums of rows' gradients"),
    ):
        if found > most:
            raise InputError(
                f"party.data ({name})",
                f"{what} of up to {found:.3g} in {method.name}, by the announced norms of rows, weights and targets",
                f"at most {most:g}: standardise the features and divide the target by a public number",
            )


def shared_rows(methods: Sequence[Appraiser], f: Facts) -> int:
    """Return the number of rows that a candidate is shared as.

    A squared error and all that methods make of it by sums over rows do not change where an orthogonal matrix mixes the
    rows. So the data owner of numeric targets may share the triangle of its rows' QR decomposition in their place,
    which has d + 2 rows at most, for d features, the constant and the target. Its numbers are at most the root of the
    number of rows times as long as a row.
    """
    longest = math.sqrt(f.rows) * max(f.row_norm, f.target)
    mixed = f.link == IDENTITY.name and all(method.mixes_rows(f) for method in methods) and longest < MAX_ABS
    return min(f.rows, f.features + 2) if mixed else f.rows


def with_norms(
    facts: dict[str, Facts], published: Mapping[str, dict[str, float]], bound: float, plan: Plan | None = None
) -> dict[str, Facts]:
    """Return `facts` with the announced norms, and the bound on logits that `check_norms` derived from them.

    plan: what the session states of the softmax; without it every softmax has a bound.
    """
    buyer, seller = published[MODEL_OWNER]["row_norm"], published[DATA_OWNER]["row_norm"]
    norms = {"row_norm": seller, "longest": max(buyer, seller), "spread": published[MODEL_OWNER].get("spread")}
    if TARGET in published[MODEL_OWNER]:
        norms["target"] = max(published[role].get(TARGET, 0.0) for role in (MODEL_OWNER, DATA_OWNER))
    if plan is not None and chosen_by_rule(plan):
        norms["auto"] = True
    return {name: replace(f, **norms, logit_bound=bound) for name, f in facts.items()}


def with_spread(facts: dict[str, Facts], published: Mapping[str, dict[str, float]]) -> dict[str, Facts]:
    """Return `facts` with the announced spread of the influence direction, where no noise is scaled to it.

    Ledgers' questions do not hold this spread, so that a question of an earlier version is still the same question.
    """
    spread_of = published[MODEL_OWNER].get(SPREAD)
    return facts if spread_of is None else {name: replace(f, spread=spread_of) for name, f in facts.items()}


def chosen_by_rule(plan: Plan) -> bool:
    """Return whether the public rule of `release.unbounded_logits` chooses the softmax.

    Noise is scaled to the errors of the softmax with a bound, so that nothing is chosen where there is noise.
    """
    return plan.logit_bound == AUTO and bounded(plan.engine) and not plan.release.description.noised


def checks_weights(method: Appraiser, plan: Plan, facts: Facts) -> bool:
    """Return whether the weights that the method trains are checked on shares.

    This is so where a softmax needs a bound on logits, and in linear regression, of which no helper sees a value: only
    the check finds that its training has left what fixed point holds.
    """
    linear = plan.engine == RTAS and not plan.model.link.exponential
    checked = linear or (bounded(plan.engine) and unbounded_spread(method, facts) is None)
    return method.logit_growth > 1 and checked


def weight_limit_of(method: Appraiser, facts: Facts, bound: float, plan: Plan) -> WeightLimit | None:
    """Return the limit that the weights of a training method must keep, or None where nothing needs one.

    Raises InputError where the limit cannot be checked on shares.
    """
    if not checks_weights(method, plan, facts):
        return None
    shape, grown = (facts.features + 1, facts.outputs), bound * method.logit_growth
    if facts.loss is LOGISTIC:
        grown *= 2  # the bound is that of the two centred columns -theta / 2 and theta / 2
    return weight_limit(method.name, grown, facts.longest, shape, lambda norm: method.reach(norm, facts))
