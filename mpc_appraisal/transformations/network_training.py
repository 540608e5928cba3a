"""Training and inference of a small network as protocols of the app: RTAS, RTAS-fast, and shares without a helper.

    rtas_training    a helper computes every activation, and sees its arguments in an order that it does not know
    rtas_fast        the label owner sees the outputs of the first layer, and trains the other layers in the clear
    shares_training  no party sees a value: the same program on the engine fast

The loss is the mean squared error of sigmoids, the networks and the steps are those of `rtas_layers`, and the parties
are three processes of this machine. In go a `LearningData` and settings; out come accuracy, cost, openings and views.
The baseline is the same program on a plain session, with the same first weights and the same order of rows. A network
may be added to NETWORKS. The names of the protocols have to stay, because records hold them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mpc_appraisal.common.checks import integer, number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import TRUST
from mpc_appraisal.models.networks import Conv, Dense
from mpc_appraisal.models.secret_layers import Layer
from mpc_appraisal.mpc.backends import rtas
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.transformations.parties import run_parties
from mpc_appraisal.transformations.rtas_layers import RELU, SIGMOID, Model, first, halves, initial, onward, step
from mpc_appraisal.transformations.rtas_training import (
    LEAKAGE_FAST,
    DataSide,
    ModelSide,
    TrainingPlan,
    run_training,
)
from mpc_appraisal.transformations.strategy import (
    PLAIN,
    Emit,
    LearningCost,
    LearningData,
    LearningOutcome,
    LearningProtocol,
    check_classes,
)
from mpc_appraisal.transformations.views import FirstLayerView, HelperView

NETWORKS = ("logistic", "perceptron", "cnn")
HELPER_VIEWS = ("helper", "helper_training")
KERNEL = 4  # the side of a filter of the network cnn, which the paper chose for 28 x 28 pixels; its stride is 2


@dataclass(frozen=True)
class NetworkTraining(LearningProtocol):
    """The settings of a training. Raises InputError for a setting that does not fit.

    Attributes:
        network: 'logistic', 'perceptron' with one hidden layer, or 'cnn' with a convolution before the hidden layer.
        hidden: The number of units of the hidden layer; 'logistic' has none.
        epochs: How often each training row is used.
        batch: The rows of a step.
        rate: The learning rate.
        rows: The number of training rows, drawn from the seed; None for all.
        tested: The number of test rows that are predicted, drawn likewise; None for all.
    """

    network: str = "logistic"
    hidden: int = 32
    epochs: int = 4
    batch: int = 32
    rate: float = 1.0
    rows: int | None = 512
    tested: int | None = 256

    fast: ClassVar[bool] = False

    def __post_init__(self) -> None:
        one_of("network", self.network, NETWORKS)
        for name in ("hidden", "epochs", "batch"):
            integer(name, getattr(self, name), 1)
        number("rate", self.rate, "a finite number above 0", above=0)
        for name in ("rows", "tested"):
            if getattr(self, name) is not None:
                integer(name, getattr(self, name), 2, expected="null, or an integer of 2 or more")

    def model(self, features: int, classes: int) -> Model:
        """Return the network for rows of so many features. Two classes have one output, others one each.

        Raises InputError for a convolution on rows that are no square images of one channel.
        """
        last = (Dense(classes if classes > 2 else 1), SIGMOID)
        if self.network == "logistic":
            return Model(self.network, (1, 1, features), (last,))
        if self.network == "perceptron":
            return Model(self.network, (1, 1, features), ((Dense(self.hidden), RELU), last))
        side = math.isqrt(features)
        if side * side != features or side < KERNEL:
            raise InputError("network", self.network, f"logistic or perceptron for {features} features: "
                             f"the rows are no square images with a side of {KERNEL} or more")  # fmt: skip
        return Model(
            self.network, (1, side, side), ((Conv(4, KERNEL, stride=2), RELU), (Dense(self.hidden), SIGMOID), last)
        )

    def check(self, data: LearningData) -> None:
        check_classes(data, self.name)
        self.model(data.train.features, max(data.train.classes, data.test.classes))

    def run(self, data: LearningData, session: Any, emit: Emit) -> LearningOutcome:
        data = data.drawn(self.rows, self.tested)
        classes = max(data.train.classes, data.test.classes)
        model = self.model(data.train.features, classes)
        x, test = (part.x.to(torch.float64) for part in (data.train, data.test))
        y, layers = targets(data.train.y, classes), initial(model, data.seed)
        order = order_of(len(x), self.batch, self.epochs, data.seed)
        plan = TrainingPlan(model, order, self.rate, len(test), self.fast)
        emit({"state": "training in the clear"})
        start = time.perf_counter()
        clear = run_training(PlainSession(), plan, *self._sides(layers, x, y, test, data.seed))
        plain_seconds, cost, openings, accuracy = time.perf_counter() - start, None, (), None
        if session.name != PLAIN:
            emit({"state": f"{self.label}: three parties train"})
            done = run_parties(self.engine, plan, *self._sides(layers, x, y, test, data.seed), session)
            cost = LearningCost(done.seconds, done.bytes_sent, done.rounds)
            openings, accuracy = done.openings, rightly(done.predicted, data.test.y)
        return LearningOutcome(
            accuracy=accuracy,
            plain_accuracy=rightly(clear.predicted, data.test.y),
            always=commonest(data.test.y),
            trained=len(x),
            tested=len(test),
            steps=len(order),
            cost=cost,
            plain_seconds=plain_seconds,
            openings=openings,
            views=self._views(plan, [*clear.layers, *clear.rest], data),
        )

    def _sides(self, layers: Sequence[Layer], x: Tensor, y: Tensor, test: Tensor, seed: int):
        if not self.fast:
            return DataSide(x, y, test), ModelSide(layers)
        part, rest = halves(layers, seed)
        return DataSide(x, None, test, rest), ModelSide(part, y)

    def _views(self, plan: TrainingPlan, layers: Sequence[Layer], data: LearningData) -> dict[str, Any]:
        if not self.shows:
            return {}
        if self.fast:
            return {"first_layer": FirstLayerView(plan.model, layers[0], data.train, data.test)}
        return dict.fromkeys(self.shows, helper_view(plan, layers, data))


@dataclass(frozen=True)
class RtasTraining(NetworkTraining):
    """RTAS: the activations are computed by a helper, which is shown their arguments in an order it does not know."""

    name: ClassVar[str] = "rtas_training"
    label: ClassVar[str] = "RTAS"
    engine: ClassVar[str] = rtas.NAME

    @property
    def shows(self) -> tuple[str, ...]:
        """The names of the views; one epoch alone cannot be compared with another."""
        return HELPER_VIEWS if self.epochs > 1 else HELPER_VIEWS[:1]

    @property
    def leakage(self) -> tuple[str, ...]:
        return (rtas.LEAKAGE,)

    @property
    def trust(self) -> str:
        return rtas.TRUST


@dataclass(frozen=True)
class RtasFast(NetworkTraining):
    """RTAS-fast: the outputs of the first layer are opened to the label owner, which trains the rest in the clear."""

    name: ClassVar[str] = "rtas_fast"
    label: ClassVar[str] = "RTAS-fast"
    engine: ClassVar[str] = "fast"
    shows: ClassVar[tuple[str, ...]] = ("first_layer",)
    fast: ClassVar[bool] = True

    @property
    def leakage(self) -> tuple[str, ...]:
        return (LEAKAGE_FAST,)

    @property
    def trust(self) -> str:
        return TRUST


@dataclass(frozen=True)
class SharesTraining(NetworkTraining):
    """The same training on the engine fast: only the predictions are opened, to the model owner."""

    name: ClassVar[str] = "shares_training"
    label: ClassVar[str] = "shares, no helper"
    engine: ClassVar[str] = "fast"
    shows: ClassVar[tuple[str, ...]] = ()

    @property
    def leakage(self) -> tuple[str, ...]:
        return ("The model owner learns its predictions of the test rows. No party sees another value.",)

    @property
    def trust(self) -> str:
        return TRUST


# -- what the protocols of learning share --------------------------------------------------------------------------
def targets(y: Tensor, classes: int) -> Tensor:
    """Return the targets (n, outputs) float64 of labels (n,): one output for two classes, otherwise one-hot."""
    return y[:, None].to(torch.float64) if classes == 2 else one_hot(y, classes).to(torch.float64)


def rightly(predicted: Tensor, y: Tensor) -> float:
    """Return the share of labels (n,) that outputs (n, outputs) predict rightly."""
    found = (predicted[:, 0] > 0.5).long() if predicted.shape[1] == 1 else predicted.argmax(1)
    return float((found == y).double().mean())


def commonest(y: Tensor) -> float:
    """Return the share of the commonest class."""
    return float(torch.bincount(y).max()) / len(y)


def order_of(rows: int, batch: int, epochs: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the rows of each step: each epoch has all rows in a new order."""
    draw = torch.Generator().manual_seed(seed)
    return tuple(
        tuple(part.tolist()) for _ in range(epochs) for part in torch.randperm(rows, generator=draw).split(batch)
    )


def helper_view(plan: TrainingPlan, layers: Sequence[Layer], data: LearningData) -> HelperView:
    """Return what the helper of RTAS is shown of the last layer: with a trained model, and step by step in training."""

    def logits(x: Tensor, of: Sequence[Layer] = layers) -> Tensor:
        return last_outputs(plan.model, of, x.to(torch.float64))

    return HelperView("entries", logits, lambda: sights(plan, data), data.train, data.test)


def last_outputs(model: Model, layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Return z of the last layer (n, outputs) in the clear, before its sigmoid."""
    z = first(model, layers[0], x.reshape(model.input_shape(len(x))))
    if len(layers) == 1:
        return z
    done = onward(PlainSession(), model, layers[1:], z, False)
    return done.inputs[-1] @ layers[-1].weight + layers[-1].bias


def sights(plan: TrainingPlan, data: LearningData) -> Tensor:
    """Return z of the last layer of each row when training uses it, (epochs, n, outputs), computed in the clear."""
    x = data.train.x.to(torch.float64)
    y = targets(data.train.y, max(data.train.classes, data.test.classes))
    layers, found, epoch, seen = initial(plan.model, data.seed), [], None, len(x)
    for batch in map(list, plan.batches):
        if seen == len(x):
            epoch, seen = torch.empty(len(x), plan.model.outputs, dtype=torch.float64), 0
            found.append(epoch)
        epoch[batch] = last_outputs(plan.model, layers, x[batch])
        seen += len(batch)
        rows = x[batch].reshape(plan.model.input_shape(len(batch)))
        layers = step(PlainSession(), plan.model, layers, rows, y[batch], plan.lr)
    return torch.stack(found)
