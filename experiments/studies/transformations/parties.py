"""The sessions of `tables.py`: every system's batches and trainings, by three new processes.

One launch serves all but CrypTen, which has one session a process and so a launch of its own. Turns go round the
systems, so that whatever else the machine does meets them alike; each is a session. Seconds begin when it is open and
end with its result: dry run, sharing of the batch and the dealer's work are in them. The first turn warms up and is not
counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.harness.parties import TIMEOUT, launch_parties, meeting, run_session, start_together
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS, ROLES, rank_of
from mpc_appraisal.models.secret_layers import bilinear
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.meter import Cost, Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.transformations.float_shares import FloatPlan, Floats, logistic
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training

DEVIATION = 1.0  # of float shares: pixels have one of .31
STOCK, FLOAT = "stock", "float"


@dataclass(frozen=True, eq=False)
class SystemRun:
    """One system's session. `engine` is that of sessions, or FLOAT; `turns` are the counted ones."""

    model: str
    operation: str
    system: str
    engine: str
    plan: TrainingPlan
    data: DataSide | None
    side: ModelSide | None
    turns: int
    warm: bool = True

    def of(self, role: str) -> SystemRun:
        """Return what a party may know of it."""
        data, side = (self.data if role == DATA_OWNER else None), (self.side if role == MODEL_OWNER else None)
        return replace(self, data=data, side=side)


@dataclass
class Measured:
    """Seconds of every turn at the slower owner; the last turn's bytes by party, rounds and predictions (or None)."""

    seconds: list[float] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    predicted: Tensor | None = None
    spread: float | None = None


@dataclass(frozen=True)
class Turn:
    """What one party measured of one turn of the run number `place`."""

    place: int
    warming: bool
    seconds: float
    sent: int
    rounds: int = 0
    predicted: Tensor | None = None
    spread: float | None = None


def run(runs: Sequence[SystemRun]) -> list[Measured]:
    """Return the results in the order of the runs."""
    found: dict[int, Measured] = {}
    for stock in (False, True):
        places = [place for place, one in enumerate(runs) if (one.engine == STOCK) == stock]
        if places:
            found |= zip(places, _launched([runs[place] for place in places]), strict=True)
    return [found[place] for place in range(len(runs))]


def _launched(runs: Sequence[SystemRun]) -> list[Measured]:
    turns = launch_parties(_party, {role: {"runs": [one.of(role) for one in runs]} for role in ROLES})
    found = [Measured() for _ in runs]
    for each in zip(*(turns[role] for role in ROLES), strict=True):
        parties = dict(zip(ROLES, each, strict=True))
        owners, one = [parties[owner] for owner in OWNERS], found[each[0].place]
        if not each[0].warming:
            one.seconds.append(max(turn.seconds for turn in owners))
        one.sent = {role: turn.sent for role, turn in parties.items()}
        one.rounds = max(turn.rounds for turn in owners)
        one.predicted, one.spread = parties[MODEL_OWNER].predicted, parties[MODEL_OWNER].spread
    return found


def _party(role: str, address: str, emit: Any, folder: Path, runs: list[SystemRun]) -> list[Turn]:
    most = max(one.turns + one.warm for one in runs)
    order = [
        (place, turn, one) for turn in range(most) for place, one in enumerate(runs) if turn < one.turns + one.warm
    ]
    with meeting(role, address) as rendezvous:
        return list((_stock if runs[0].engine == STOCK else _turns)(rendezvous, role, order))


def _turns(rendezvous: Rendezvous, role: str, order: list[tuple[int, int, SystemRun]]) -> Iterator[Turn]:
    for place, turn, one in order:
        start_together(rendezvous, f"{place}/{turn}", ROLES)
        measure = _floats if one.engine == FLOAT else _dealt if role == DEALER else _session
        yield Turn(place, one.warm and not turn, *measure(rendezvous, role, one))


def _stock(rendezvous: Rendezvous, role: str, order: list[tuple[int, int, SystemRun]]) -> Iterator[Turn]:
    """Run all turns in one session; the dealer's bytes follow from its marks."""
    if role == DEALER:
        marks = deal(STOCK, rendezvous, TIMEOUT)
        for (place, turn, one), before, after in zip(order, marks, marks[1:], strict=False):
            yield Turn(place, one.warm and not turn, 0.0, after - before)
        return
    _teach_stock()
    session = open_session(STOCK, rendezvous, TIMEOUT)
    session.mark()
    for place, turn, one in order:
        start_together(rendezvous, f"{place}/{turn}", OWNERS)
        before, start = session.meter.cost(), time.perf_counter()
        predicted = run_training(session, one.plan, **_side(role, one)).predicted
        seconds, spent = time.perf_counter() - start, session.meter.cost() - before
        session.mark()
        yield Turn(place, one.warm and not turn, seconds, spent.bytes_sent, spent.rounds, predicted)
    session.close()


def _side(role: str, one: SystemRun) -> dict[str, Any]:
    return {"model": one.side} if role == MODEL_OWNER else {"data": one.data}


def _dealt(rendezvous: Rendezvous, role: str, one: SystemRun) -> tuple:
    start = time.perf_counter()
    sent = deal(one.engine, rendezvous, TIMEOUT)[-1]
    return time.perf_counter() - start, sent


def _session(rendezvous: Rendezvous, role: str, one: SystemRun) -> tuple:
    def program(session: Any, **sides: Any) -> Tensor | None:
        return run_training(session, one.plan, **sides).predicted

    return run_session(rendezvous, one.engine, program, **_side(role, one))


def _spent(meter: Meter, before: Cost, start: float) -> tuple[float, int, int]:
    """Return seconds, bytes and rounds since then."""
    seconds, spent = time.perf_counter() - start, meter.cost() - before
    return seconds, spent.bytes_sent, spent.rounds


def _floats(rendezvous: Rendezvous, role: str, one: SystemRun) -> tuple:
    meter = Meter()
    channel = open_channel(rendezvous, meter, TIMEOUT, "tcp")
    before, start, plan = meter.cost(), time.perf_counter(), one.plan
    given: dict[str, Tensor] = {}
    features, rows = plan.model.shapes()[0][0][0], max((max(b) + 1 for b in plan.batches), default=0)
    if role == DATA_OWNER:
        given = {"x": one.data.x[:rows], "y": one.data.y[:rows]}
        given |= {"test": one.data.test[: plan.predicted]} if plan.predicted else {}
    elif role == MODEL_OWNER:
        given = {"weight": one.side.layers[0].weight}
    public = FloatPlan(rows, features, plan.batches, plan.lr, plan.predicted)
    floats = Floats(rank_of(role), channel, DEVIATION)
    result = logistic(floats, public, **{name: value.float() for name, value in given.items()})
    found = _spent(meter, before, start)
    channel.close()
    return *found, result.predicted if plan.predicted else None, result.spread[-1] if result.spread else None


def _teach_stock() -> None:
    """Give CrypTen's own tensors the names in which they disagree with plain ones."""
    from mpc_appraisal.mpc.backends.stock import crypten

    @bilinear.register(crypten.mpc.MPCTensor)
    def _(left: Any, op: str, right: Any, **options: Any) -> Any:
        return getattr(left, op)(right, **options)

    @ops.negative.register(crypten.mpc.MPCTensor)
    def _(value: Any) -> Any:
        return value < 0
