"""The joint computation of an appraisal: the owners share their inputs, every method scores every candidate, and the
release opens the results.

In go a session, the plan, one party's own values and the public facts (sizes and norms); out comes what this party was
shown. A candidate is one data set of the data owner. An input is shared when each owner holds one of two ring elements
that add up to it. The same function runs at each owner, over plain tensors for the baseline, and dry, on shapes alone,
to forecast costs. For this reason the sequence of steps must not depend on private values or on what was opened: the
dealer, who supplies random numbers, follows the script of the dry run. HELD_ROWS has to be the same at all parties.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

import torch

from mpc_appraisal.appraisal.covered import check_covered
from mpc_appraisal.appraisal.integers import grid
from mpc_appraisal.appraisal.norms import shared_rows, weight_limit_of
from mpc_appraisal.appraisal.plan import BLOCK_ROWS, HELD_ROWS, READ_ROWS, Emit, MethodInput, Plan
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Dataset, StoredDataset, with_bias
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.methods import Appraiser, Facts
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.backends.repeats import Point, Stretch, repeat
from mpc_appraisal.mpc.net.meter import Cost
from mpc_appraisal.mpc.ops import RowBlocks
from mpc_appraisal.mpc.protocols.grid import Grid
from mpc_appraisal.mpc.session import Opening, Session
from mpc_appraisal.release.base import Outcome, Score
from mpc_appraisal.release.dp.announced_norms import check_announced_norms
from mpc_appraisal.release.unbounded_logits import unbounded_spread


@dataclass(frozen=True)
class Appraised:
    """One candidate's appraisal by one method, as one party knows it.

    Attributes:
        method: The method.
        candidate: The candidate's name.
        outcome: What this party was shown.
        cost: What the appraisal cost this party.
        failure: The bound on the probability that the value is wrong because a number wrapped in the ring; None if
            unknown.
        openings: All that this appraisal opened, in order. What a joint release opened stands with every candidate.
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
    candidates: Mapping[str, Dataset | StoredDataset],
    inputs: Mapping[str, MethodInput],
    facts: dict[str, Facts],
    bound: float,
    emit: Emit,
    answered: Collection[Key] = (),
) -> list[Appraised]:
    """Appraise every candidate by every method, and return one entry for each pair; a dry run needs `facts` alone.

    A candidate is shared once for all methods, at a divided cost. Raises BoundError where a checked bound is broken,
    and InputError where the plan asks for a check of messages that does not cover it.

    Args:
        session: This party's side of the joint computation, which the public `plan` describes.
        candidates: The data owner's rows by candidate's name; empty in every other process.
        inputs: What the model owner brings, by method's name; empty in every other process.
        facts: The public facts by candidate's name; their order is that of the computation.
        bound: The public bound on the centred logits.
        emit: A function that receives progress events at the model owner.
        answered: Pairs of a method and a candidate that need no computation, because their answers are known.
    """
    described = plan.release.description
    check_covered(plan, facts)
    of = len(plan.methods) * len(facts) - len(answered)
    results: list[Appraised] = []
    scores, secrets = [], {}
    if described.noised:
        session.require_exact_truncation()
    session.mark()
    repeats = _Repeats(session) if session.dry and not described.joint else None
    for name, f in facts.items():
        methods = [method for method in plan.methods if (method.name, name) not in answered]
        if not methods:
            continue
        if repeats is not None and repeats.knows(f, methods):
            results += [replace(result, candidate=name) for result in repeats.again()]
            continue
        before = session.meter.cost()
        x, y = _share_candidate(session, methods, name, f, candidates.get(name), bound)
        shared = session.meter.cost() - before
        for method in methods:
            before, failed, known = session.meter.cost(), session.failure, len(session.ledger)
            own = inputs.get(method.name)
            if method.name not in secrets:
                secrets[method.name] = _share_inputs(session, plan, method, own, f)
            with session.meter.phase("private"):
                score = _score(session, plan, method, name, secrets[method.name], x, y, f, bound)
                scores.append(score)
                opened = [Outcome()]
                if not described.joint:
                    opened = plan.release.open(session, [score], lambda own=own: own.threshold)
                    session.drop_settled()
            session.mark()
            cost = _with_part(session.meter.cost() - before, shared, len(methods))
            now = session.failure
            failure = None if failed is None or now is None else now - failed
            results.append(Appraised(method, name, opened[0], cost, failure, tuple(session.ledger[known:])))
            emit({"done": len(results), "of": of, "method": method.name, "candidate": name})
        if not isinstance(x, RowBlocks):
            _evict(session, x, y)
        if repeats is not None:
            repeats.add(results[-len(methods) :])
    if described.joint:
        _compare_all(session, plan, scores, results)
    return results


class _Repeats:
    """The candidates of a dry run that need no computation, since two of the same sizes have been computed."""

    def __init__(self, session: DrySession):
        self.session = session
        self.found: dict[Any, list[tuple[Stretch, list[Appraised]]]] = {}

    def knows(self, f: Facts, methods: Sequence[Appraiser]) -> bool:
        """Return whether two candidates with these facts have been appraised by these methods."""
        self.key, self.start = (f, tuple(method.name for method in methods)), Point.of(self.session)
        return len(self.found.get(self.key, ())) > 1

    def again(self) -> list[Appraised]:
        """Repeat the second of these candidates, and return its results."""
        stretch, results = self.found[self.key][1]
        repeat(self.session, stretch)
        return results

    def add(self, results: list[Appraised]) -> None:
        """Keep what has been computed since `knows` was called."""
        self.found.setdefault(self.key, []).append((Stretch.since(self.start, self.session), results))


def _share_candidate(
    session: Session,
    methods: Sequence[Appraiser],
    name: str,
    f: Facts,
    own: Dataset | StoredDataset | None,
    bound: float,
) -> tuple[Any, Any]:
    """Share a candidate's x (n, d + 1) and y (n, C): n rows of d features and a constant, with labels of C classes.

    Of a large candidate the blocks of both are returned in place of x, and None in place of y. Labels that no method
    reads are not shared, and None stands for y.
    """
    labels = any(method.uses_labels for method in methods)
    with session.meter.phase("share"):
        rows = shared_rows(methods, f)
        if rows < f.rows:
            x, y = _bring_in_mixed(session, name, f, rows, own)
            session.cache(x)
            return x, y
        if f.rows > HELD_ROWS and all(method.streams for method in methods):
            ring = grid(f, BLOCK_ROWS, bound)
            return RowBlocks(lambda: _stream(session, name, f, own, labels, ring)), None
        ring = grid(f, f.rows, bound)
        x, y = _bring_in(session, name, f, lambda: own.blocks(own.rows), labels, ring)  # one part of all rows
        session.cache(x)  # every method multiplies by it
        return x, y


def _share_inputs(session: Session, plan: Plan, method: Appraiser, own: MethodInput | None, f: Facts) -> dict[str, Any]:
    """Share the model owner's tensors for one method, and check them against the norms that it has announced."""

    def bring_in(key: str, shape: tuple[int, ...]) -> Any:
        return session.input(MODEL_OWNER, lambda: _divided(own.tensors[key], f), shape, f"{key} of {method.name}")

    with session.meter.phase("share"):
        secrets = {key: bring_in(key, shape) for key, shape in method.private_shapes(f).items()}
    with session.meter.phase("private"):
        check_announced_norms(session, plan.release.description, method, secrets, f)
    return secrets


def _divided(tensor: torch.Tensor, f: Facts) -> torch.Tensor:
    return tensor if f.ratio == 1.0 else tensor / f.ratio


def _score(
    session: Session,
    plan: Plan,
    method: Appraiser,
    name: str,
    secrets: dict[str, Any],
    x: Any,
    y: Any,
    f: Facts,
    bound: float,
) -> Score:
    """Return one candidate's score by one method, still on shares. Raises BoundError where logits left their bound."""
    limit, spread = weight_limit_of(method, f, bound, plan), unbounded_spread(method, f)
    session.bound_logits(bound * method.logit_growth, weights=limit, spread=spread)
    score, described = method.score(secrets, x, y, f), plan.release.description
    checked = limit is not None and not described.noised  # no noise would cover that bit
    if checked or described.joint:  # something is opened before the score is used
        (score,) = session.settled([score])
    if not described.noised:
        session.check_logits()
    return Score(method, name, f, score)


def _compare_all(session: Session, plan: Plan, scores: list[Score], results: list[Appraised]) -> None:
    """Release the scores of each method together, into `results`, which has one entry for each score."""
    for method in plan.methods:
        places = [k for k, score in enumerate(scores) if score.method is method]
        if places:
            _compare(session, plan, [scores[k] for k in places], results, places)
    session.mark()  # the bytes that the dealer sent for comparisons are divided among all results


def _compare(session: Session, plan: Plan, scores: list[Score], results: list[Appraised], places: list[int]) -> None:
    """Release all scores of one method together, into the results at `places`.

    The cost is divided among these results, but for the rounds, which the first one has.
    """
    before, known = session.meter.cost(), len(session.ledger)
    with session.meter.phase("private"):
        outcomes = plan.release.open(session, scores)
    parts, openings = (session.meter.cost() - before).divided(len(places)), tuple(session.ledger[known:])
    for k, outcome, part in zip(places, outcomes, parts, strict=True):
        r = results[k]
        results[k] = replace(r, outcome=outcome, cost=r.cost + part, openings=r.openings + openings)


def _bring_in(
    session: Session, name: str, f: Facts, parts: Callable[[], Iterable[Dataset]], labels: bool, ring: Grid | None
) -> tuple[Any, Any]:
    """Share the data owner's x (n, d + 1) and y (n, C), or None without labels; `parts` runs in its process alone.

    The rows come in parts, which are converted one by one, so that they are in memory once. Where `ring` is not None, x
    is shared as integers.
    """
    key, converted = f"party.data ({name})", cache(lambda: _converted(f, parts(), key, labels, ring))
    whole = () if ring is None else (ring,)
    x = session.input(DATA_OWNER, lambda: converted()[0], (f.rows, f.features + 1), key, *whole)
    if not labels:
        return x, None
    return x, session.input(DATA_OWNER, lambda: converted()[1], (f.rows, f.outputs), f"labels of {key}")


def _converted(
    f: Facts, parts: Iterable[Dataset], key: str, labels: bool, ring: Grid | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return x and y of the parts as they are shared, and None for y without labels."""
    x, y = [], []
    for part in parts:
        x.append(with_bias(part.x) if ring is None else f.resolution.integers(part.x, key))
        if labels:
            y.append(part.with_classes(f.classes).targets(f.outputs))
        del part
    return x[0] if len(x) == 1 else torch.cat(x), torch.cat(y) if labels else None


def _bring_in_mixed(
    session: Session, name: str, f: Facts, rows: int, own: Dataset | StoredDataset | None
) -> tuple[Any, Any]:
    """Share the triangle of the QR decomposition of the data owner's x and y as x (rows, d + 1) and y (rows, 1)."""
    known: list[torch.Tensor] = []

    def triangle() -> torch.Tensor:
        if not known:
            known.append(mixed_rows(own))
        return known[0]

    x = session.input(DATA_OWNER, lambda: triangle()[:, :-1], (rows, f.features + 1), f"party.data ({name})")
    y = session.input(DATA_OWNER, lambda: triangle()[:, -1:], (rows, 1), f"the target of party.data ({name})")
    return x, y


def mixed_rows(data: Dataset | StoredDataset) -> torch.Tensor:
    """Return R of the QR decomposition of the rows [x, 1, y], (min(n, d + 2), d + 2), from one block after the other.

    R'R is the sum over rows of [x, 1, y]' [x, 1, y], which all sums of squared errors and their gradients are made of.
    """
    found = torch.empty(0, data.features + 2, dtype=torch.float64)
    for block in data.blocks(BLOCK_ROWS):
        rows = torch.cat([with_bias(block.x.to(torch.float64)), block.targets()], dim=1)
        found = torch.linalg.qr(torch.cat([found, rows]), mode="r").R
    return found


def _stream(
    session: Session, name: str, f: Facts, own: Dataset | StoredDataset | None, labels: bool, ring: Grid | None
) -> Iterator[tuple[Any, Any]]:
    """Share a candidate block by block; the session evicts each block once it has been used."""
    size = math.gcd(BLOCK_ROWS, READ_ROWS)
    source = own.blocks(size) if own is not None else None
    for start in range(0, f.rows, BLOCK_ROWS):
        rows = replace(f, rows=min(BLOCK_ROWS, f.rows - start))
        x, y = _bring_in(session, name, rows, lambda: islice(source, BLOCK_ROWS // size), labels, ring)
        yield x, y
        _evict(session, x, y)


def _evict(session: Session, x: Any, y: Any) -> None:
    session.evict(*([x] if y is None else [x, y]))


def _with_part(cost: Cost, shared: Cost, m: int) -> Cost:
    """Return `cost` plus an equal part of the cost of sharing the candidate, since `m` methods use it.

    Seconds and bytes are divided. Rounds count whole.
    """
    seconds = dict(cost.seconds)
    seconds["share"] = seconds.get("share", 0.0) + shared.seconds.get("share", 0.0) / m
    return Cost(seconds, cost.bytes_sent + shared.bytes_sent // m, cost.rounds + shared.rounds)
