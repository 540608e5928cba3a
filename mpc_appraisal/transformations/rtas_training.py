"""RTAS and RTAS-fast: training and inference of small networks on shares.

    RTAS        every weight, output, activation and gradient is shared; functions go to the helper of a session of
                engine rtas. The data owner has x and y, the model owner the weights with which training begins.
    RTAS-fast   z_1 = x W_1 + b_1 is computed on shares and opened to the label owner, which has y, trains the other
                layers in the clear and brings in the gradient g_1 of z_1; then W_1 <- W_1 - x' g_1 on shares. W_1
                begins as the sum of a part of each owner, so that nobody knows it.

x (n, d) are rows, y (n, outputs) labels, W_1 and b_1 the first layer, and a helper is a third party that applies
functions to permuted values. The label owner is the session's model owner. In go a public plan and each owner's side;
out come trained layers and predictions. On a plain session this is the plaintext baseline, and RTAS on engine fast is
training that shows no values to a helper. Each batch of x is masked once, for its product forward and the one backward.

The protocols are those of "Private machine learning by random transformations" (anonymous), sections 4.2, 4.3, 5.3 and
5.4; the formulas are in `rtas_layers`. CHUNK may change at all parties together. What leaks has to be printed before
anything is shared, and LEAKAGE_FAST has to name what RTAS-fast opens.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.models.secret_layers import BITS, Layer, rounded
from mpc_appraisal.mpc.backends.registry import warn
from mpc_appraisal.mpc.session import PlainSession, Session
from mpc_appraisal.transformations.rtas_layers import (
    Model,
    backward,
    first,
    first_gradient,
    onward,
    rate,
    step,
    updated,
)

CHUNK = 1024  # the most rows that are predicted at once

LEAKAGE_FAST = (
    "The label owner sees the first layer's output X W0 + b0 of every row, in order, at every step, and of every row "
    "that is predicted. It knows no W0, but rows that it knows in the clear give it W0 by least squares (behind a "
    "convolution one image does), and W0 gives it every other row: exactly where W0 has as many independent outputs as "
    "a row has features, and closely with fewer where rows are images. With one output it learns a logit for each row. "
    "The data owner learns nothing of labels or of the layers after the first. Not for rows that must stay private "
    "from the label owner."
)


class LabelOwner:
    """The label owner of RTAS-fast, which has the layers after the first, and the labels, in the clear.

    Args:
        model: The network.
        layers: All layers but the first.
        y: The labels (rows, outputs); None where nothing is trained.
    """

    def __init__(self, model: Model, layers: Sequence[Layer], y: Tensor | None):
        self.model, self.layers, self.y = model, list(layers), y

    def learn(self, z: Tensor, batch: Sequence[int], lr: float) -> Tensor:
        """Train on z_1 of a batch, whose row numbers are `batch`, and return g_1."""
        mantissa, exponent = rate(lr, len(z))
        done = onward(PlainSession(), self.model, self.layers, z, True)
        g, found = backward(self.model, self.layers, done, self.y[list(batch)].to(z.dtype), mantissa)
        if found:
            self.layers = updated(self.layers, found, exponent)
        return g

    def predict(self, z: Tensor) -> Tensor:
        """Return the outputs (rows, outputs) for z_1."""
        return onward(PlainSession(), self.model, self.layers, z, False).output


@dataclass(frozen=True)
class TrainingPlan:
    """The public plan of a run.

    Attributes:
        model: The network.
        batches: The numbers of the rows of each step, in order.
        lr: The learning rate.
        predicted: The number of rows of the data owner's test data.
        fast: True if the protocol is RTAS-fast.

    Raises InputError for a bad rate, for a step without rows, and for a plan with nothing to do.
    """

    model: Model
    batches: tuple[tuple[int, ...], ...] = ()
    lr: float = 0.1
    predicted: int = 0
    fast: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise InputError("lr", self.lr, "a finite number above 0")
        if not all(self.batches) or self.predicted < 0 or not (self.batches or self.predicted):
            raise InputError("batches", len(self.batches), "steps on one row or more, or rows to predict")


@dataclass(frozen=True, eq=False)
class DataSide:
    """What the data owner brings.

    Attributes:
        x: The rows (rows, d) to train on.
        y: Their labels (rows, outputs); None in RTAS-fast.
        test: The rows (rows, d) to predict.
        first: The data owner's part of the first layer in RTAS-fast; None in RTAS.
    """

    x: Tensor | None = None
    y: Tensor | None = None
    test: Tensor | None = None
    first: Layer | None = None


@dataclass(frozen=True, eq=False)
class ModelSide:
    """What the model owner brings.

    Attributes:
        layers: All layers; in RTAS-fast the first is the model owner's part only.
        y: The labels (rows, outputs) in RTAS-fast; None in RTAS.
    """

    layers: Sequence[Layer]
    y: Tensor | None = None


class TrainedModel(NamedTuple):
    """The result of a run.

    Attributes:
        layers: The layers that were trained on shares, still shared; in RTAS-fast the first alone.
        rest: The other layers of RTAS-fast, at the label owner; empty elsewhere.
        predicted: The predictions (rows, outputs) at the model owner; None elsewhere.
    """

    layers: list[Layer]
    rest: list[Layer]
    predicted: Tensor | None


def run_training(
    session: Session, plan: TrainingPlan, data: DataSide | None = None, model: ModelSide | None = None
) -> TrainedModel:
    """Train and predict as the plan says.

    Args:
        session: The session. On engine rtas this is RTAS: only predictions are opened, to the model owner.
        plan: The public plan.
        data, model: The sides. Each owner gives its own side, a plain session both, and a dry run neither.

    Where a side is given, what leaks is printed first. Raises InputError for sides that do not fit the plan.
    """
    _check(plan, data, model)
    if data is not None or model is not None:
        warn(session.engine)
        if plan.fast and session.engine != PlainSession.engine:
            warn_fast()
    run = _Fast(session, plan, data, model) if plan.fast else _Shared(session, plan, data, model)
    for batch in plan.batches:
        x = run.rows(lambda b=batch: data.x[list(b)], len(batch))
        run.step(x, batch)
        session.evict(x)
    parts = []
    for start in range(0, plan.predicted, CHUNK):
        count = min(CHUNK, plan.predicted - start)
        x = run.rows(lambda s=start, n=count: data.test[s : s + n], count)
        parts.append(run.predict(x))
        session.evict(x)
    known = [part for part in parts if part is not None]  # the model owner alone has them
    return TrainedModel(run.layers, run.rest(), torch.cat(known) if known else None)


def warn_fast() -> None:
    """Print what RTAS-fast leaks to standard error."""
    print(f"warning: RTAS-fast: {LEAKAGE_FAST}", file=sys.stderr, flush=True)


def _check(plan: TrainingPlan, data: DataSide | None, model: ModelSide | None) -> None:
    shapes, trained = plan.model.shapes(), max((max(b) + 1 for b in plan.batches), default=0)
    features, outputs = math.prod(plan.model.image), plan.model.outputs
    if data is not None:
        _check_rows("x", data.x, trained, features)
        _check_rows("test", data.test, plan.predicted, features)
        if plan.fast:
            _check_layers("first", [data.first], shapes[:1])
        else:
            _check_rows("y", data.y, trained, outputs)
    if model is not None:
        _check_layers("layers", model.layers, shapes)
        if plan.fast:
            _check_rows("y", model.y, trained, outputs)


def _check_rows(name: str, found: Tensor | None, rows: int, width: int) -> None:
    if rows and (found is None or found.dim() != 2 or found.shape[1] != width or len(found) < rows):
        seen = None if found is None else tuple(found.shape)
        raise InputError(name, seen, f"shape (rows, {width}) with {rows} rows at least")


def _check_layers(name: str, layers: Sequence[Layer | None], shapes: Sequence[Any]) -> None:
    found = [layer and tuple(tuple(p.shape) for p in layer) for layer in layers]
    if found != list(shapes):
        raise InputError(name, found, f"weights and biases of shapes {shapes}")


class _Run:
    """The base of RTAS and RTAS-fast: how rows and layers come into the session."""

    def __init__(self, session: Session, plan: TrainingPlan, data: DataSide | None, side: ModelSide | None):
        self.session, self.plan, self.data, self.side = session, plan, data, side

    def rows(self, read: Callable[[], Tensor], count: int) -> Any:
        shape = self.plan.model.input_shape(count)
        return self.session.input(DATA_OWNER, lambda: read().reshape(shape), shape, "rows of the data owner")

    def inputs(self, owner: str, shapes: Sequence[Any], layers: Sequence[Layer | None]) -> Iterator[Layer]:
        for place, shape in enumerate(shapes):
            names = (f"weight {place}", f"bias {place}")
            yield Layer(*(
                self.session.input(owner, lambda k=k, place=place: layers[place][k], shape[k], f"{name} of {owner}")
                for k, name in enumerate(names)
            ))  # fmt: skip


class _Shared(_Run):
    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.layers = list(self.inputs(MODEL_OWNER, self.plan.model.shapes(), self.side.layers if self.side else ()))
        if self.plan.batches:
            self.layers = [Layer(*(rounded(p, BITS) for p in layer)) for layer in self.layers]

    def step(self, x: Any, batch: Sequence[int]) -> None:
        shape = (len(batch), self.plan.model.outputs)
        y = self.session.input(DATA_OWNER, lambda: self.data.y[list(batch)], shape, "labels of the data owner")
        self.layers = step(self.session, self.plan.model, self.layers, x, y, self.plan.lr)

    def predict(self, x: Any) -> Tensor | None:
        model = self.plan.model
        z = first(model, self.layers[0], x)
        p = onward(self.session, model, self.layers[1:], z, False).output
        return self.session.reveal(p, "predictions", "the model owner asked for them", to=(MODEL_OWNER,))

    def rest(self) -> list[Layer]:
        return []


class _Fast(_Run):
    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        model, shapes = self.plan.model, self.plan.model.shapes()[:1]
        parts = [
            next(self.inputs(MODEL_OWNER, shapes, self.side.layers if self.side else ())),
            next(self.inputs(DATA_OWNER, shapes, (self.data.first if self.data else None,))),
        ]
        self.layers = [Layer(*(rounded(a, BITS) + rounded(b, BITS) for a, b in zip(*parts, strict=True)))]
        self.upper = LabelOwner(model, self.side.layers[1:], self.side.y) if self.side else None

    def _opened(self, x: Any) -> Tensor | None:
        z = first(self.plan.model, self.layers[0], x)
        return self.session.reveal(z, "first layer's outputs", "the label owner goes on in the clear", (MODEL_OWNER,))

    def step(self, x: Any, batch: Sequence[int]) -> None:
        z, lr, shape = self._opened(x), self.plan.lr, (len(batch), *self.plan.model.first_shape())
        g = self.session.input(MODEL_OWNER, lambda: self.upper.learn(z, batch, lr), shape, "gradient of RTAS-fast")
        gradient = first_gradient(self.plan.model, x, g)
        self.layers = updated(self.layers, [gradient], rate(lr, len(batch))[1])
        self.session.evict(g)

    def predict(self, x: Any) -> Tensor | None:
        z = self._opened(x)
        return self.upper.predict(z) if self.upper else None

    def rest(self) -> list[Layer]:
        return self.upper.layers if self.upper else []
