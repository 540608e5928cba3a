"""The sessions of `transformations_tables.py`: every system's batches and trainings, by three new processes.

One launch serves all but CrypTen, which has one session a process and so a launch of its own. Turns go round the
systems, so that whatever else the machine does meets them alike; each is a session. Seconds begin when it is open and
end with its result: dry run, sharing of the batch and the dealer's work are in them. The first turn warms up and is not
counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_common import together
from torch import Tensor

from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS, ROLES, rank_of
from mpc_appraisal.models.secret_layers import bilinear
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.transformations.float_shares import FloatPlan, Floats, logistic
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training

TIMEOUT = 300.0
DEVIATION = 1.0  # of float shares: pixels have one of .31
STOCK, FLOAT = "stock", "float"


@dataclass(frozen=True, eq=False)
class Job:
    """One system's session. engine: that of sessions, or FLOAT; turns: counted ones."""

    model: str
    operation: str
    system: str
    engine: str
    plan: TrainingPlan
    data: DataSide
    side: ModelSide
    turns: int
    warm: bool = True

    def of(self, role: str) -> Job:
        """What a party may know of it."""
        mine = {DATA_OWNER: (self.data, None), MODEL_OWNER: (None, self.side)}.get(role, (None, None))
        return Job(self.model, self.operation, self.system, self.engine, self.plan, *mine, self.turns, self.warm)


@dataclass
class Measured:
    """Seconds of every turn at the slower owner; the last turn's bytes by party, rounds and predictions (or None)."""

    seconds: list[float] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    predicted: Tensor | None = None
    spread: float | None = None


def run(jobs: Sequence[Job]) -> list[Measured]:
    """Results in the order of the jobs."""
    found: dict[int, Measured] = {}
    for stock in (False, True):
        places = [place for place, job in enumerate(jobs) if (job.engine == STOCK) == stock]
        if places:
            found |= zip(places, _launched([jobs[place] for place in places]), strict=True)
    return [found[place] for place in range(len(jobs))]


def _launched(jobs: Sequence[Job]) -> list[Measured]:
    given = {role: {"jobs": [job.of(role) for job in jobs]} for role in ROLES}
    turns = launch(_party, given, lambda event: None)
    found = [Measured() for _ in jobs]
    for each in zip(*(turns[role] for role in ROLES), strict=True):
        place, warming, parties = each[0][0], each[0][1], dict(zip(ROLES, each, strict=True))
        one = found[place]
        if not warming:
            one.seconds.append(max(parties[owner][2] for owner in OWNERS))
        one.sent = {role: parties[role][3] for role in ROLES}
        one.rounds = max(parties[owner][4] for owner in OWNERS)
        one.predicted, one.spread = parties[MODEL_OWNER][5:]
    return found


def _party(role: str, address: str, emit: Any, folder: Path, jobs: list[Job]) -> list[tuple]:
    """(place, warming, seconds, bytes sent, rounds, predictions, spread) of every turn."""
    rendezvous = Rendezvous(role, address, TIMEOUT, hosted=True)
    rendezvous.announce()
    order = [
        (place, turn, job)
        for turn in range(max(job.turns + job.warm for job in jobs))
        for place, job in enumerate(jobs)
        if turn < job.turns + job.warm
    ]
    found = list((_stock if jobs[0].engine == STOCK else _turns)(rendezvous, role, order))
    rendezvous.exchange("done", {})
    rendezvous.close()
    return found


def _turns(rendezvous: Rendezvous, role: str, order: list[tuple[int, int, Job]]) -> Iterator[tuple]:
    for place, turn, job in order:
        together(rendezvous, f"{place}/{turn}", ROLES)
        one = _floats if job.engine == FLOAT else _dealt if role == DEALER else _session
        yield place, job.warm and not turn, *one(rendezvous, role, job)


def _stock(rendezvous: Rendezvous, role: str, order: list[tuple[int, int, Job]]) -> Iterator[tuple]:
    """All turns in one session; the dealer's bytes from its marks."""
    if role == DEALER:
        marks = deal(STOCK, rendezvous, TIMEOUT)
        for (place, turn, job), before, after in zip(order, marks, marks[1:], strict=False):
            yield place, job.warm and not turn, 0.0, after - before, 0, None, None
        return
    _teach_stock()
    session = open_session(STOCK, rendezvous, TIMEOUT)
    session.mark()
    for place, turn, job in order:
        together(rendezvous, f"{place}/{turn}", OWNERS)
        before, start = session.meter.cost(), time.perf_counter()
        predicted = run_training(session, job.plan, **_side(role, job)).predicted
        seconds, spent = time.perf_counter() - start, session.meter.cost() - before
        session.mark()
        yield place, job.warm and not turn, seconds, spent.bytes_sent, spent.rounds, predicted, None
    session.close()


def _side(role: str, job: Job) -> dict[str, Any]:
    return {"model": job.side} if role == MODEL_OWNER else {"data": job.data}


def _dealt(rendezvous: Rendezvous, role: str, job: Job) -> tuple:
    start = time.perf_counter()
    sent = deal(job.engine, rendezvous, TIMEOUT)[-1]
    return time.perf_counter() - start, sent, 0, None, None


def _session(rendezvous: Rendezvous, role: str, job: Job) -> tuple:
    session = open_session(job.engine, rendezvous, TIMEOUT)
    before, start = session.meter.cost(), time.perf_counter()

    def program(session: Any, **sides: Any) -> Tensor | None:
        predicted = run_training(session, job.plan, **sides).predicted
        session.mark()
        return predicted

    session.prepare(program)
    predicted = program(session, **_side(role, job))
    seconds, spent = time.perf_counter() - start, session.meter.cost() - before
    session.close()
    return seconds, spent.bytes_sent, spent.rounds, predicted, None


def _floats(rendezvous: Rendezvous, role: str, job: Job) -> tuple:
    meter = Meter()
    channel = open_channel(rendezvous, meter, TIMEOUT, "tcp")
    before, start, plan = meter.cost(), time.perf_counter(), job.plan
    given: dict[str, Tensor] = {}
    features, rows = plan.model.shapes()[0][0][0], max((max(b) + 1 for b in plan.batches), default=0)
    if role == DATA_OWNER:
        given = {"x": job.data.x[:rows], "y": job.data.y[:rows]}
        given |= {"test": job.data.test[: plan.predicted]} if plan.predicted else {}
    elif role == MODEL_OWNER:
        given = {"weight": job.side.layers[0].weight}
    public = FloatPlan(rows, features, plan.batches, plan.lr, plan.predicted)
    floats = Floats(rank_of(role), channel, DEVIATION)
    result = logistic(floats, public, **{name: value.float() for name, value in given.items()})
    seconds, spent = time.perf_counter() - start, meter.cost() - before
    channel.close()
    spread = result.spread[-1] if result.spread else None
    return seconds, spent.bytes_sent, spent.rounds, result.predicted if plan.predicted else None, spread


def _teach_stock() -> None:
    """CrypTen's own tensors under the names in which they disagree with plain ones."""
    from mpc_appraisal.mpc.backends.stock import crypten

    @bilinear.register(crypten.mpc.MPCTensor)
    def _(left: Any, op: str, right: Any, **options: Any) -> Any:
        return getattr(left, op)(right, **options)

    @ops.negative.register(crypten.mpc.MPCTensor)
    def _(value: Any) -> Any:
        return value < 0
