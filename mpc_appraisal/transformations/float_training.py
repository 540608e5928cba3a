"""Logistic regression on shares in floating point as a protocol of the app, to be measured and not to be used.

    share    <x>_0 = r,   <x>_1 = x - r,   r normal of deviation s: each new sharing of the same x discloses more of it

The formulas are those of `float_shares`, the parties are three processes of this machine, and the helper sees the
arguments of sigmoids in an order that it does not know. In go a `LearningData` and settings; out come accuracy, cost
and views. The baseline takes the same steps in the clear, in float64. The name has to stay, because records hold it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS, rank_of
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import Opening, PlainSession
from mpc_appraisal.transformations.float_shares import FloatPlan, Floats, logistic
from mpc_appraisal.transformations.network_training import (
    HELPER_VIEWS,
    NetworkTraining,
    commonest,
    helper_view,
    order_of,
    rightly,
    targets,
)
from mpc_appraisal.transformations.parties import PartyTurn, launched
from mpc_appraisal.transformations.rtas_layers import initial
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training
from mpc_appraisal.transformations.strategy import PLAIN, Emit, LearningCost, LearningData, LearningOutcome
from mpc_appraisal.transformations.views import FloatSharesView


@dataclass(frozen=True)
class FloatShares(NetworkTraining):
    """The settings of a logistic regression on shares in floating point; its keys are those of `NetworkTraining`.

    Attributes:
        deviation: s, the standard deviation of masks, above 0.

    Raises InputError for a network with hidden layers, and as `NetworkTraining` does.
    """

    deviation: float = 1.0

    name: ClassVar[str] = "float_shares"
    label: ClassVar[str] = "RTAS, float shares"
    engine: ClassVar[str | None] = None

    @property
    def shows(self) -> tuple[str, ...]:
        """The names of the views, of which those of the helper are as in `RtasTraining`."""
        return (*(HELPER_VIEWS if self.epochs > 1 else HELPER_VIEWS[:1]), "float_shares")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network != "logistic":
            raise InputError("network", self.network, "logistic: float shares train no other network")
        number("deviation", self.deviation, "a finite number above 0", above=0)

    @property
    def leakage(self) -> tuple[str, ...]:
        return (
            "Each owner receives shares x - r with a normal r: the mean of several sharings of one row comes ever "
            "closer to the row, and training masks each row anew in each epoch. No deviation of r is safe.",
            "The helper sees every argument of a sigmoid, in an order that it does not know.",
            "The generators are not cryptographic. Weights and predictions are opened to both owners.",
        )

    @property
    def trust(self) -> str:
        return "The code is there to be measured. No trust makes shares in floating point safe."

    def run(self, data: LearningData, session: Any, emit: Emit) -> LearningOutcome:
        data = data.drawn(self.rows, self.tested)
        classes = max(data.train.classes, data.test.classes)
        x, test = (part.x.to(torch.float64) for part in (data.train, data.test))
        y, model = targets(data.train.y, classes), self.model(data.train.features, classes)
        layers, order = initial(model, data.seed), order_of(len(x), self.batch, self.epochs, data.seed)
        plan = TrainingPlan(model, order, self.rate, len(test))
        emit({"state": "training in the clear"})
        start = time.perf_counter()
        clear = run_training(PlainSession(), plan, DataSide(x, y, test), ModelSide(layers))
        plain_seconds, cost, openings, accuracy, more = time.perf_counter() - start, None, (), None, {}
        if session.name != PLAIN:
            emit({"state": f"{self.label}: three parties train"})
            public = FloatPlan(*x.shape, order, self.rate, len(test), model.outputs)
            common = {"plan": public, "deviation": self.deviation}
            jobs = {role: dict(common) for role in (MODEL_OWNER, DATA_OWNER, DEALER)}
            jobs[MODEL_OWNER]["given"] = {"weight": layers[0].weight}
            jobs[DATA_OWNER]["given"] = {"x": x, "y": y, "test": test}
            done = launched(_party, jobs, session)
            cost = LearningCost(done.seconds, done.bytes_sent, done.rounds)
            accuracy, more, openings = rightly(done.predicted, data.test.y), {"spread": done.more}, done.openings
        views = dict.fromkeys(self.shows, helper_view(plan, clear.layers, data))
        views["float_shares"] = FloatSharesView(data.train, self.deviation, 1 + self.epochs)
        return LearningOutcome(accuracy, rightly(clear.predicted, data.test.y), commonest(data.test.y), len(x),
                               len(test), len(order), cost, plain_seconds, openings, views, more)  # fmt: skip


def _party(
    rendezvous: Rendezvous,
    role: str,
    timeout: float,
    plan: FloatPlan,
    deviation: float,
    given: dict[str, Tensor] | None = None,
) -> PartyTurn:
    meter = Meter()
    channel = open_channel(rendezvous, meter, timeout, "tcp")
    before, start = meter.cost(), time.perf_counter()
    floats = Floats(rank_of(role), channel, deviation)
    found = logistic(floats, plan, **{name: value.float() for name, value in (given or {}).items()})
    seconds, spent = time.perf_counter() - start, meter.cost() - before
    channel.close()
    return PartyTurn(seconds, spent.bytes_sent, spent.rounds, _openings(found), found.predicted, found.spread[-1])


def _openings(found: Any) -> tuple[dict[str, Any], ...]:
    """Return what both owners learn at the end."""
    numbers = {"weights": found.weight.numel() + found.bias.numel(), "predictions": found.predicted.numel()}
    return tuple(Opening(what, OWNERS, n, "both owners open the result").as_dict() for what, n in numbers.items())
