"""When the candidates' rows are shared as integers, and how: the public resolution of an appraisal.

A candidate is one data set of the data owner, and a resolution says that all its numbers are k / scale for integers k
of a few bits (`data.resolution`). In go the plan, the data owner's input and the public facts; out come what the data
owner announces, the facts with the resolution, and the grid by which a candidate is shared. A resolution is announced
only where it is used: with the engine fast, for methods that say that they take such rows (`Appraiser.narrow`), and
without noise, since a fact that depends on the rows is not covered by it. Every party has to decide alike, from public
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mpc_appraisal.appraisal.plan import DataOwnerInput, Plan
from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER
from mpc_appraisal.data import Resolution, resolution_of, rounding_of
from mpc_appraisal.methods import Facts
from mpc_appraisal.mpc.backends.fast import FastSession
from mpc_appraisal.mpc.protocols.grid import Grid, grid_of


def used(plan: Plan) -> bool:
    """Return whether a session of this plan shares the candidates' rows as integers, if they have a resolution."""
    return plan.engine == FastSession.engine and suits(plan)


def suits(plan: Plan) -> bool:
    """Return whether the plan's methods, model and release take rows as integers; then they are rounded as stated."""
    narrow = all(method.narrow for method in plan.methods) and plan.model.link.exponential
    return narrow and not plan.release.description.noised


def announced(own: DataOwnerInput, plan: Plan) -> dict[str, Any]:
    """Return the part of the data owner's message that states the resolution; empty where there is none.

    Raises InputError where the owner's statement is none, or its data are not what it states.
    """
    rounding_of(own.resolution)  # which refuses a bad statement in every session
    if not used(plan):
        return {}
    found = resolution_of(own.candidates, own.resolution, lambda data: f"party.data ({data.name})")
    return {} if found is None else {"resolution": found.as_dict()}


def with_resolution(facts: dict[str, Facts], message: Mapping[str, Any], plan: Plan) -> dict[str, Facts]:
    """Return the facts with the resolution of the data owner's message. Raises PeerError for one that does not fit."""
    stated = message.get("resolution")
    if stated is None:
        return facts
    try:
        resolution = Resolution(stated["scale"], stated["bits"])
    except InputError as error:
        raise PeerError(f"{DATA_OWNER} announced {error.name}: {error.value}; expected {error.expected}") from None
    if not used(plan):
        raise PeerError(f"{DATA_OWNER} announced a resolution; expected none in this session, which does not use it")
    return {name: replace(f, resolution=resolution) for name, f in facts.items()}


def grid(facts: Facts, rows: int, bound: float) -> Grid | None:
    """Return how a candidate is shared in matrices of at most `rows` rows; None where it has no resolution.

    bound: the public bound on the centred logits.
    """
    if facts.resolution is None:
        return None
    return grid_of(facts.resolution.scale, facts.resolution.bits, rows, facts.outputs, bound)
