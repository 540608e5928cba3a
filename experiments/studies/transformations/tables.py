"""RTAS's tables 1 to 4: logistic regression and the CNN, one batch trained and one inferred, and training to accuracy.

A full run takes MNIST and the paper's models and batches, a small one digits. All rows are of the part "table". Kind
"cost": model, operation (train, infer), system, batch, seconds (a list), bytes by party, rounds. Kind "training":
model, system, steps, accuracy and, of a single output, recall; bytes, seconds, rounds of the whole. Kind "absent": a
rival that was not measured, and why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from experiments.harness.jobs import Job
from experiments.harness.records import Row
from experiments.harness.size import source_of
from experiments.rivals import tenseal
from experiments.rivals.tenseal import NETWORK, Tenseal
from experiments.studies.transformations import spu
from experiments.studies.transformations.parties import FLOAT, STOCK, Measured, SystemRun, run
from experiments.studies.transformations.tables_report import (
    CRYPTEN,
    ENGINE,
    FLOATS,
    INFER,
    PLAIN,
    RTAS,
    RTAS_FAST,
    SPU,
    TENSEAL,
    TRAIN,
)
from mpc_appraisal.marketplace.encryption.convolution import patches
from mpc_appraisal.models.networks import Conv, Dense, batches
from mpc_appraisal.mpc.backends.rtas import NAME
from mpc_appraisal.mpc.backends.rtas_notice import warn
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.transformations.rtas_layers import CNN, LOGISTIC, RELU, SIGMOID, Model, halves, initial
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training, warn_fast

KEYS = {"kind", "system"}
BATCH, LR, SEED = 32, 0.1, 0
IMAGES = 3  # that TenSEAL infers
PRECISION = 0.1  # of TenSEAL's logits, relative to the largest; its scale is that of its tutorial's network
ENGINES = {CRYPTEN: STOCK, ENGINE: "fast", RTAS: NAME, RTAS_FAST: "fast", FLOATS: FLOAT}


def jobs(size: SimpleNamespace, spu_python: str | None = None) -> list[Job]:
    """Return a job for each part. A job is known by its arguments: another interpreter is not another job."""
    parts: dict[str, Callable] = {"cost": costs, "training": trainings, "rivals": rivals}
    found = [Job(f"table-{name}", part, (size,)) for name, part in parts.items()]
    if spu_python:
        asked = {"side": size.image[-1], "hidden": size.hidden, "batch": BATCH, "inferred": size.smaller, "lr": LR}
        found.append(Job("table-spu", partial(spu.measure, spu_python), (asked,)))
    return found


def models_of(size: SimpleNamespace) -> tuple[Model, Model]:
    """Return logistic regression and the CNN for images of that size."""
    layers = ((Conv(4, 4, stride=2), RELU), (Dense(size.hidden), SIGMOID), (Dense(10), SIGMOID))
    return Model(LOGISTIC.name, size.image, LOGISTIC.layers), Model(CNN.name, size.image, layers)


@dataclass(frozen=True, eq=False)
class Data:
    """x is (rows, d), pixels x 1/256 as in the paper; y is (rows, outputs)."""

    x: Tensor
    y: Tensor
    test: Tensor
    truth: Tensor

    @staticmethod
    def of(size: SimpleNamespace, model: Model) -> Data:
        train, test = source_of(size.data).load()
        x, y = (torch.cat([getattr(part, k) for part in (train, test)])[: size.rows + size.tested] for k in ("x", "y"))
        x = x.to(torch.float64) * (255 / 256)
        one_hot = (y == 0)[:, None] if model.outputs == 1 else functional.one_hot(y, model.outputs)
        one_hot = one_hot.to(torch.float64)
        return Data(x[: size.rows], one_hot[: size.rows], x[size.rows :], one_hot[size.rows :])


def system_run(model: Model, operation: str, system: str, plan: TrainingPlan, data: Data, test: Tensor | None,
               turns: int, warm: bool = True) -> SystemRun:  # fmt: skip
    """Return what the parties of one system bring and do."""
    rows = max((max(batch) + 1 for batch in plan.batches), default=0)
    x, y, layers = data.x[:rows], data.y[:rows], initial(model, SEED)
    sides = DataSide(x, y, test), ModelSide(layers)
    if plan.fast:
        part, rest = halves(layers, SEED)
        sides = DataSide(x, None, test, rest), ModelSide(part, y)
    return SystemRun(model.name, operation, system, ENGINES[system], plan, *sides, turns, warm)


# -- one batch -----------------------------------------------------------------------------------------------------
def costs(size: SimpleNamespace) -> list[Row]:
    warn(NAME)
    warn_fast()
    runs, found = [], []
    for model in models_of(size):
        data = Data.of(size, model)
        for operation in (TRAIN, INFER):
            large = model.name == CNN.name and operation == INFER
            sizes = sorted({size.inferred, size.smaller}) if large else [BATCH]
            test = data.x[torch.arange(sizes[-1]) % len(data.x)]
            found += [_plain(model, operation, batch, data, test, size.turns) for batch in sizes]
            for system in ENGINES:
                if system == FLOATS and model.name == CNN.name:
                    continue
                for count in sizes:
                    plan = _plan(model, operation, count, system == RTAS_FAST)
                    given = None if operation == TRAIN else test[:count]
                    runs.append(system_run(model, operation, system, plan, data, given, size.turns))
    return found + [_cost(one.model, one.operation, one.system, one.plan.predicted or BATCH, measured)
                    for one, measured in zip(runs, run(runs), strict=True)]  # fmt: skip


def _plan(model: Model, operation: str, count: int, fast: bool) -> TrainingPlan:
    if operation == TRAIN:
        return TrainingPlan(model, (tuple(range(count)),), LR, 0, fast)
    return TrainingPlan(model, (), LR, count, fast)


def _cost(model: str, operation: str, system: str, batch: int, one: Measured) -> Row:
    return {
        "part": "table", "kind": "cost", "model": model, "operation": operation, "system": system, "batch": batch,
        "seconds": [round(s, 6) for s in one.seconds], "bytes": one.sent, "rounds": one.rounds,
    }  # fmt: skip


def _plain(model: Model, operation: str, batch: int, data: Data, test: Tensor, turns: int) -> Row:
    plan = _plan(model, operation, batch, False)
    seconds = [_in_the_clear(plan, data, test).seconds[0] for _ in range(turns + 1)]
    return _cost(model.name, operation, PLAIN, batch, Measured(seconds[1:]))


def _in_the_clear(plan: TrainingPlan, data: Data, test: Tensor) -> Measured:
    start, side = time.perf_counter(), ModelSide(initial(plan.model, SEED))
    predicted = run_training(PlainSession(), plan, DataSide(data.x, data.y, test), side).predicted
    return Measured([time.perf_counter() - start], predicted=predicted)


# -- training to accuracy ------------------------------------------------------------------------------------------
def trainings(size: SimpleNamespace) -> list[Row]:
    """Train to accuracy, each with a launch of its own, so that what one holds is let go before the next."""
    found = []
    for model in models_of(size):
        data = Data.of(size, model)
        wanted = [(system, steps) for name, system, steps in size.trained if name == model.name]
        wanted += [(PLAIN, steps) for steps in sorted({steps for _, steps in wanted})]
        for system, steps in wanted:
            order = tuple(tuple(index.tolist()) for index in batches(size.rows, BATCH, steps, SEED))
            plan = TrainingPlan(model, order, LR, size.tested, system == RTAS_FAST)
            if system == PLAIN:
                one = _in_the_clear(plan, data, data.test)
            else:
                (one,) = run([system_run(model, TRAIN, system, plan, data, data.test, 1, False)])
            found.append(_training(model.name, system, steps, one, data.truth))
    return found


def _training(model: str, system: str, steps: int, one: Measured, truth: Tensor) -> Row:
    p, single = one.predicted.to(torch.float64), truth.shape[1] == 1
    right = (p > 0.5) == (truth > 0.5) if single else p.argmax(1) == truth.argmax(1)
    return {
        "part": "table", "kind": "training", "model": model, "system": system, "steps": steps, "tested": len(truth),
        "accuracy": right.double().mean().item(),
        "recall": right[truth > 0.5].double().mean().item() if single else None,
        "always": max(1 - truth.mean().item(), 0.5) if single else truth.mean(0).max().item(),
        "seconds": one.seconds[0], "bytes": one.sent, "rounds": one.rounds, "spread": one.spread,
    }  # fmt: skip


# -- rivals --------------------------------------------------------------------------------------------------------
def rivals(size: SimpleNamespace) -> list[Row]:
    """Measure TenSEAL's CKKS on one image of the CNN, with squares in place of relu and sigmoid."""
    absent = {"part": "table", "kind": "absent"}
    found = [absent | {"system": SPU, "why": "no --spu-python was given"}]
    if not tenseal.installed():
        return [*found, absent | {"system": TENSEAL, "why": "not installed"}]
    model = models_of(size)[1]
    data, context, seconds, sent = Data.of(size, model), Tenseal(NETWORK), [], 0
    for turn in range(IMAGES):
        start = time.perf_counter()
        pieces, logits = encrypted(context, model, data.test[turn].numpy())
        seconds.append(time.perf_counter() - start)
        exact = squared(model, data.test[turn])
        error = float(np.abs(logits - exact).max() / np.abs(exact).max())
        if error > PRECISION:
            raise AssertionError(f"TenSEAL's logits are off by {error:.1%}")
        sent = tenseal.bytes_of([piece.vector for piece in pieces])
    return [*found, _cost(model.name, INFER, TENSEAL, 1, Measured(seconds, {"data_owner": sent}, 2))]


def encrypted(context: Tenseal, model: Model, image: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return the ciphertexts of an image's patches, and logits.

    Positions are padded to a power of 2, and weights with 0.
    """
    conv, (first, *others) = model.layers[0][0], initial(model, SEED)
    found = patches(image[None], model.image, conv.kernel, conv.stride, conv.padding)
    positions = len(found)
    padding = (1 << (positions - 1).bit_length()) - positions
    pieces = context.encrypt_patches(np.pad(found, ((0, padding), (0, 0))))
    weights, biases = [first.weight.numpy()], [first.bias[0].numpy()]
    for place, layer in enumerate(others):
        w = layer.weight.T.numpy()
        if not place:
            w = np.pad(w.reshape(len(w), conv.channels, positions), ((0, 0), (0, 0), (0, padding)))
        weights.append(w.reshape(len(w), -1))
        biases.append(layer.bias[0].numpy())
    return pieces, np.array(tenseal.network(pieces, weights, biases).decrypt())


def squared(model: Model, image: Tensor) -> np.ndarray:
    """Return the same logits in the clear."""
    conv, (first, *others) = model.layers[0][0], initial(model, SEED)
    a = functional.conv2d(image.reshape(1, *model.image), first.weight, first.bias[0], conv.stride, conv.padding)
    for w, bias in others:
        a = a.flatten(1).square() @ w + bias
    return a[0].numpy()
