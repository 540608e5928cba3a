"""The joint computation of an appraisal: candidates are brought in, every method scores them, the result is opened."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from mpc_appraisal.appraisal.norms import weight_limit_of
from mpc_appraisal.appraisal.plan import BLOCK_ROWS, THRESHOLD, Emit, Plan
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Dataset, StoredDataset, with_bias
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.mpc.net.meter import Cost
from mpc_appraisal.mpc.ops import RowBlocks
from mpc_appraisal.mpc.session import Opening, Session
from mpc_appraisal.release.base import Outcome, Score
from mpc_appraisal.release.dp.announced_norms import check_announced_norms

HELD_ROWS = 1 << 15  # a larger candidate is brought in block by block, anew for each method


@dataclass(frozen=True)
class Appraised:
    """What one appraisal told this party, its cost, and the bound on the probability that it is wrong by a wrap.

    openings: all that this appraisal opened, in order; what a joint release opened stands with every candidate.
    """

    method: Appraiser
    candidate: str
    outcome: Outcome
    cost: Cost
    failure: float | None
    openings: tuple[Opening, ...]


def program(
    session: Session,
    plan: Plan,
    candidates: dict[str, Dataset | StoredDataset],
    owned: dict[str, dict[str, torch.Tensor]],
    facts: dict[str, Facts],
    bound: float,
    emit: Emit,
    answered: Collection[tuple[str, str]] = (),
) -> list[Appraised]:
    """The joint computation; run dry it needs `facts` alone.

    A candidate is brought in once and used by every method; what that costs is divided among them. `answered`: (method,
    candidate) that need no computation, for their answers are known.
    """
    release, described, secrets = plan.release, plan.release.description, {}
    results: list[Appraised] = []
    scores: list[Score] = []
    of = len(plan.methods) * len(facts) - len(answered)
    if described.noised:
        session.require_exact_truncation()
    session.mark()
    for name, f in facts.items():
        methods = [method for method in plan.methods if (method.name, name) not in answered]
        if not methods:
            continue
        before = session.meter.cost()
        own = candidates.get(name)
        held = f.rows <= HELD_ROWS or not all(method.streams for method in methods)
        with session.meter.phase("share"):
            if held:
                x, y = _bring_in(session, name, f, lambda own=own: next(own.blocks(own.rows)))  # a stored one too
                session.cache(x)  # every method multiplies by it
            else:
                x, y = RowBlocks(lambda name=name, f=f, own=own: _stream(session, name, f, own)), None
        shared = session.meter.cost() - before
        for method in methods:
            before, failed, known = session.meter.cost(), session.failure, len(session.ledger)
            if method.name not in secrets:
                with session.meter.phase("share"):
                    secrets[method.name] = {
                        key: session.input(
                            MODEL_OWNER, lambda m=method, k=key: owned[m.name][k], shape, f"{key} of {method.name}"
                        )
                        for key, shape in method.private_shapes(f).items()
                    }
                with session.meter.phase("private"):
                    check_announced_norms(session, described, method, secrets[method.name], f)
            with session.meter.phase("private"):
                limit = weight_limit_of(method, f, bound, plan)
                session.bound_logits(bound * method.logit_growth, weights=limit)
                score = Score(method, name, f, method.score(secrets[method.name], x, y, f))
                if not described.noised:  # no noise covers that bit
                    session.check_logits()
                outcome = Outcome()
                if described.joint:
                    scores.append(score)
                else:
                    (outcome,) = release.open(session, [score], lambda m=method: owned[m.name][THRESHOLD].item())
            session.mark()
            cost = _with_part(session.meter.cost() - before, shared, len(methods))
            now = session.failure
            failure = None if failed is None or now is None else now - failed
            results.append(Appraised(method, name, outcome, cost, failure, tuple(session.ledger[known:])))
            if session.role == MODEL_OWNER:
                emit({"done": len(results), "of": of, "method": method.name, "candidate": name})
        if held:
            session.evict(x, y)
    for method in plan.methods if described.joint else ():
        places = [k for k, score in enumerate(scores) if score.method is method]
        if places:
            _compare(session, plan, [scores[k] for k in places], results, places)
    if described.joint:
        session.mark()  # the dealer's part in it is divided among all results
    return results


def _compare(session: Session, plan: Plan, scores: list[Score], results: list[Appraised], places: list[int]) -> None:
    """Release all scores of a method together; its cost is divided among them, but all rounds are the first one's."""
    before, known = session.meter.cost(), len(session.ledger)
    with session.meter.phase("private"):
        outcomes = plan.release.open(session, scores)
    parts, openings = (session.meter.cost() - before).divided(len(places)), tuple(session.ledger[known:])
    for k, outcome, part in zip(places, outcomes, parts, strict=True):
        r = results[k]
        results[k] = replace(r, outcome=outcome, cost=r.cost + part, openings=r.openings + openings)


def _bring_in(session: Session, name: str, f: Facts, read: Callable[[], Dataset]) -> tuple[Any, Any]:
    """x (n, d + 1) and y (n, C) of the data owner; `read` is called in its process alone."""
    x = session.input(DATA_OWNER, lambda: with_bias(read().x), (f.rows, f.features + 1), f"party.data ({name})")
    y = session.input(
        DATA_OWNER,
        lambda: read().with_classes(f.classes).one_hot(),
        (f.rows, f.classes),
        f"labels of party.data ({name})",
    )
    return x, y


def _stream(session: Session, name: str, f: Facts, own: Dataset | StoredDataset | None) -> Iterator[tuple[Any, Any]]:
    """A candidate's rows in blocks, each forgotten once it has been used."""
    source = own.blocks(BLOCK_ROWS) if own is not None else None
    for start in range(0, f.rows, BLOCK_ROWS):
        block = next(source) if source is not None else None
        rows = replace(f, rows=min(BLOCK_ROWS, f.rows - start))
        x, y = _bring_in(session, name, rows, lambda block=block: block)
        yield x, y
        session.evict(x, y)


def _with_part(cost: Cost, shared: Cost, m: int) -> Cost:
    """`cost` and an equal part of what sharing the candidate cost, since `m` methods use it."""
    seconds = dict(cost.seconds)
    seconds["share"] = seconds.get("share", 0.0) + shared.seconds.get("share", 0.0) / m
    return Cost(seconds, cost.bytes_sent + shared.bytes_sent // m, cost.rounds + shared.rounds)
