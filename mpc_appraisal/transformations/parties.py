"""The three parties of a training as processes of this machine: two owners, and a dealer, which is also the helper.

In go a plan and both owners' sides; each process is given its own side alone. Out come seconds, bytes, rounds, what was
opened, and the predictions of the model owner. Seconds begin when a session is open and end with its result, so that
the dry run and the sharing of rows are in them, and the start of processes is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.backends.settings import SpawnSettings
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training


@dataclass(frozen=True, eq=False)
class PartyTurn:
    """What one party measured: its seconds, bytes sent, rounds, openings, predictions and other facts."""

    seconds: float
    sent: int
    rounds: int = 0
    openings: tuple[Mapping[str, Any], ...] = ()
    predicted: Tensor | None = None
    more: Any = None


@dataclass(frozen=True, eq=False)
class PartiesResult:
    """What the parties measured together; `predicted` and `more` are the model owner's."""

    seconds: float
    bytes_sent: Mapping[str, int]
    rounds: int
    openings: tuple[Mapping[str, Any], ...]
    predicted: Tensor
    more: Any = None


def run_parties(
    engine: str, plan: TrainingPlan, data: DataSide, model: ModelSide, session: SpawnSettings
) -> PartiesResult:
    """Run a training on an engine by three new processes. Raises what one of the parties raises."""
    common = {"engine": engine, "plan": plan}
    jobs = {MODEL_OWNER: {"side": {"model": model}}, DATA_OWNER: {"side": {"data": data}}, DEALER: {"side": {}}}
    return launched(_party, {role: common | job for role, job in jobs.items()}, session)


def launched(party: Callable[..., PartyTurn], jobs: dict[str, dict[str, Any]], session: SpawnSettings) -> PartiesResult:
    """Run `party(rendezvous, role, timeout, **job)` in a process for each role, and put together what they measured."""
    times = {"join_timeout": session.join_timeout, "timeout": session.timeout}
    jobs = {role: {"party": party, "times": times, "job": job} for role, job in jobs.items()}
    turns: dict[str, PartyTurn] = launch(_met, jobs, lambda event: None, session.threads)
    owners = [turns[role] for role in OWNERS]
    return PartiesResult(
        seconds=max(turn.seconds for turn in owners),
        bytes_sent={role: turn.sent for role, turn in turns.items()},
        rounds=max(turn.rounds for turn in owners),
        openings=turns[MODEL_OWNER].openings,
        predicted=turns[MODEL_OWNER].predicted,
        more=turns[MODEL_OWNER].more,
    )


def _met(role: str, address: str, emit: Any, folder: Any, party: Any, times: dict[str, float], job: dict) -> PartyTurn:
    rendezvous = Rendezvous(role, address, times["join_timeout"], hosted=True)
    rendezvous.announce()
    found = party(rendezvous, role, times["timeout"], **job)
    rendezvous.exchange("done", {})
    rendezvous.close()
    return found


def _party(
    rendezvous: Rendezvous, role: str, timeout: float, engine: str, plan: TrainingPlan, side: dict[str, Any]
) -> PartyTurn:
    if role == DEALER:
        start = time.perf_counter()
        sent = deal(engine, rendezvous, timeout)[-1]
        return PartyTurn(time.perf_counter() - start, sent)
    session = open_session(engine, rendezvous, timeout)
    before, start = session.meter.cost(), time.perf_counter()

    def program(session: Any, **side: Any) -> Any:
        found = run_training(session, plan, **side).predicted
        session.mark()
        return found

    session.prepare(program)
    predicted = program(session, **side)
    seconds, spent = time.perf_counter() - start, session.meter.cost() - before
    openings = tuple(opening.as_dict() for opening in session.ledger)
    session.close()
    return PartyTurn(seconds, spent.bytes_sent, spent.rounds, openings, predicted)
