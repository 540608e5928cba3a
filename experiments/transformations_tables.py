"""RTAS's tables 1 to 4: logistic regression and the CNN, one batch trained and one inferred, and training to accuracy.

`measure(size, work)` gives rows, `tables(rows)` and `drawings(rows)` show them. Full: MNIST, the paper's models and
batches; small: digits. A finished part stays in `work` and is not run again.

Rows, all of part "table". kind "cost": model, operation (train, infer), system, batch, seconds (a list), bytes by
party, rounds. kind "training": model, system, steps, accuracy and, of a single output, recall; bytes, seconds, rounds
of the whole. kind "absent": a rival that was not measured, and why.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tenseal_rival
import torch
from bench_page import Row
from tenseal_rival import NETWORK, Tenseal
from torch import Tensor
from torch.nn import functional
from transformations_parties import FLOAT, STOCK, Job, Measured, run
from transformations_tables_page import (
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
    drawings,
    tables,
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import DataSource, Digits, Mnist
from mpc_appraisal.marketplace.encryption.convolution import patches
from mpc_appraisal.models.networks import Conv, Dense, batches
from mpc_appraisal.mpc.backends.rtas import NAME
from mpc_appraisal.mpc.backends.rtas_notice import warn
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.transformations.rtas_layers import CNN, LOGISTIC, RELU, SIGMOID, Model, halves, initial
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training, warn_fast

__all__ = ["drawings", "measure", "tables"]

BATCH, LR, SEED = 32, 0.1, 0
IMAGES = 3  # that TenSEAL infers
PRECISION = 0.1  # of TenSEAL's logits, relative to the largest; its scale is that of its tutorial's network
ENGINES = {CRYPTEN: STOCK, ENGINE: "fast", RTAS: NAME, RTAS_FAST: "fast", FLOATS: FLOAT}
SYSTEMS = tuple(ENGINES)


@dataclass(frozen=True)
class Size:
    """rows: of training; the rest of the data is tested on. turns: counted ones. inferred: the paper's batch of the
    CNN, and a smaller one. trained: (model, system, steps), with plain beside."""

    name: str
    source: DataSource
    models: tuple[Model, Model]
    rows: int
    tested: int
    turns: int
    inferred: int
    smaller: int
    trained: tuple[tuple[str, str, int], ...]


SMALL_MODELS = (
    Model(LOGISTIC.name, (1, 8, 8), LOGISTIC.layers),
    Model(CNN.name, (1, 8, 8), ((Conv(4, 4, stride=2), RELU), (Dense(20), SIGMOID), (Dense(10), SIGMOID))),
)
SMALL = Size(
    "small", Digits(), SMALL_MODELS, 1000, 200, 1, 128, 64,
    ((LOGISTIC.name, RTAS, 40), (LOGISTIC.name, FLOATS, 40), (CNN.name, RTAS_FAST, 40)),
)  # fmt: skip
FULL = Size(
    "full", Mnist(), (LOGISTIC, CNN), 50_000, 5000, 5, 8192, 1024,
    (
        (LOGISTIC.name, RTAS, 200), (LOGISTIC.name, RTAS, 1562), (LOGISTIC.name, RTAS_FAST, 1562),
        (LOGISTIC.name, FLOATS, 1562), (CNN.name, RTAS, 400), (CNN.name, RTAS, 1562), (CNN.name, RTAS_FAST, 1562),
    ),
)  # fmt: skip
SIZES = {"small": SMALL, "full": FULL}


def measure(size: str, work: Path) -> list[Row]:
    """Raises InputError for another size."""
    if size not in SIZES:
        raise InputError("size", size, f"one of {', '.join(SIZES)}")
    warn(NAME)
    warn_fast()
    stated, found = SIZES[size], []
    parts: dict[str, Callable[[Size], list[Row]]] = {"cost": costs, "training": trainings, "rivals": rivals}
    for name, part in parts.items():
        path = work / f"tables-{size}-{name}.json"
        if not path.is_file():
            work.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(part(stated)))
        found += json.loads(path.read_text())
    return found


@dataclass(frozen=True, eq=False)
class Data:
    """x: (rows, d), pixels x 1/256 as in the paper; y: (rows, outputs)."""

    x: Tensor
    y: Tensor
    test: Tensor
    truth: Tensor

    @staticmethod
    def of(size: Size, model: Model) -> Data:
        train, test = size.source.load()
        x, y = (torch.cat([getattr(part, k) for part in (train, test)]) for k in ("x", "y"))
        x = x[: size.rows + size.tested].to(torch.float64) * (255 / 256)
        y = y[: size.rows + size.tested]
        one_hot = (y == 0)[:, None] if model.outputs == 1 else functional.one_hot(y, model.outputs)
        one_hot = one_hot.to(torch.float64)
        return Data(x[: size.rows], one_hot[: size.rows], x[size.rows :], one_hot[size.rows :])


def job(
    model: Model,
    operation: str,
    system: str,
    plan: TrainingPlan,
    data: Data,
    test: Tensor | None,
    turns: int,
    warm: bool = True,
) -> Job:
    rows = max((max(batch) + 1 for batch in plan.batches), default=0)
    x, y, layers = data.x[:rows], data.y[:rows], initial(model, SEED)
    sides = DataSide(x, y, test), ModelSide(layers)
    if plan.fast:
        part, rest = halves(layers, SEED)
        sides = DataSide(x, None, test, rest), ModelSide(part, y)
    return Job(model.name, operation, system, ENGINES[system], plan, *sides, turns, warm)


# -- one batch -----------------------------------------------------------------------------------------------------
def costs(size: Size) -> list[Row]:
    jobs, found = [], []
    for model in size.models:
        data = Data.of(size, model)
        for operation in (TRAIN, INFER):
            largest = size.inferred if model.name == CNN.name and operation == INFER else BATCH
            test = data.x[torch.arange(largest) % len(data.x)]
            for batch in sorted({largest, size.smaller} if largest > BATCH else {BATCH}):
                found.append(_plain(model, operation, batch, data, test, size.turns))
            for system in SYSTEMS:
                if system == FLOATS and model.name == CNN.name:
                    continue
                sizes = {largest, size.smaller} if largest > BATCH else {largest}
                for count in sorted(sizes):
                    plan = _plan(model, operation, count, system == RTAS_FAST)
                    given = None if operation == TRAIN else test[:count]
                    jobs.append(job(model, operation, system, plan, data, given, size.turns))
    for each, one in zip(jobs, run(jobs), strict=True):
        count = each.plan.predicted or BATCH
        found.append(_cost(each.model, each.operation, each.system, count, one))
    return found


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
    torch.set_num_threads(1)
    plan, seconds = _plan(model, operation, batch, False), []
    for _ in range(turns + 1):
        start = time.perf_counter()
        run_training(PlainSession(), plan, DataSide(data.x, data.y, test), ModelSide(initial(model, SEED)))
        seconds.append(time.perf_counter() - start)
    return _cost(model.name, operation, PLAIN, batch, Measured(seconds[1:], {}, 0))


# -- training to accuracy ------------------------------------------------------------------------------------------
def trainings(size: Size) -> list[Row]:
    """A launch for each, so that what one holds is let go before the next."""
    found = []
    for model in size.models:
        data = Data.of(size, model)
        wanted = [(system, steps) for name, system, steps in size.trained if name == model.name]
        wanted += [(PLAIN, steps) for steps in sorted({steps for _, steps in wanted})]
        for system, steps in wanted:
            order = tuple(tuple(index.tolist()) for index in batches(size.rows, BATCH, steps, SEED))
            plan = TrainingPlan(model, order, LR, size.tested, system == RTAS_FAST)
            if system == PLAIN:
                one = _in_the_clear(plan, data)
            else:
                (one,) = run([job(model, TRAIN, system, plan, data, data.test, 1, False)])
            found.append(_training(model.name, system, steps, one, data.truth))
    return found


def _in_the_clear(plan: TrainingPlan, data: Data) -> Measured:
    start, side = time.perf_counter(), ModelSide(initial(plan.model, SEED))
    predicted = run_training(PlainSession(), plan, DataSide(data.x, data.y, data.test), side).predicted
    return Measured([time.perf_counter() - start], {}, 0, predicted)


def _training(model: str, system: str, steps: int, one: Measured, truth: Tensor) -> Row:
    p = one.predicted.to(torch.float64)
    right = (p > 0.5) == (truth > 0.5) if truth.shape[1] == 1 else p.argmax(1) == truth.argmax(1)
    recall = right[truth > 0.5].double().mean().item() if truth.shape[1] == 1 else None
    always = max(1 - truth.mean().item(), 0.5) if truth.shape[1] == 1 else truth.mean(0).max().item()
    return {
        "part": "table", "kind": "training", "model": model, "system": system, "steps": steps, "tested": len(truth),
        "accuracy": right.double().mean().item(), "recall": recall, "always": always, "seconds": one.seconds[0],
        "bytes": one.sent, "rounds": one.rounds, "spread": one.spread,
    }  # fmt: skip


# -- rivals --------------------------------------------------------------------------------------------------------
def rivals(size: Size) -> list[Row]:
    """TenSEAL's CKKS on one image of the CNN, squares in place of relu and sigmoid."""
    absent = {"part": "table", "kind": "absent"}
    found = [absent | {"system": SPU, "why": "no --spu-python was given"}]
    if not tenseal_rival.installed():
        return [*found, absent | {"system": TENSEAL, "why": "not installed"}]
    model = size.models[1]
    data = Data.of(size, model)
    context, seconds, sent = Tenseal(NETWORK), [], 0
    for turn in range(IMAGES):
        start = time.perf_counter()
        pieces, logits = encrypted(context, model, data.test[turn].numpy())
        seconds.append(time.perf_counter() - start)
        exact = squared(model, data.test[turn])
        error = float(np.abs(logits - exact).max() / np.abs(exact).max())
        if error > PRECISION:
            raise AssertionError(f"TenSEAL's logits are off by {error:.1%}")
        sent = tenseal_rival.bytes_of([piece.vector for piece in pieces])
    one = Measured(seconds, {"data_owner": sent}, 2)
    return [*found, _cost(model.name, INFER, TENSEAL, 1, one)]


def encrypted(context: Tenseal, model: Model, image: np.ndarray) -> tuple[Any, np.ndarray]:
    """The ciphertexts of an image's patches, and logits. Positions are padded to a power of 2, and weights with 0."""
    conv, (first, *others) = model.layers[0][0], initial(model, SEED)
    found = patches(image[None], model.image, conv.kernel, conv.stride, conv.padding)
    positions = len(found)
    padded = 1 << (positions - 1).bit_length()
    pieces = context.encrypt_patches(np.pad(found, ((0, padded - positions), (0, 0))))
    weights, biases = [first.weight.numpy()], [first.bias[0].numpy()]
    for place, layer in enumerate(others):
        w = layer.weight.T.numpy()
        if not place:
            w = np.pad(w.reshape(len(w), conv.channels, positions), ((0, 0), (0, 0), (0, padded - positions)))
        weights.append(w.reshape(len(w), -1))
        biases.append(layer.bias[0].numpy())
    return pieces, np.array(tenseal_rival.network(pieces, weights, biases).decrypt())


def squared(model: Model, image: Tensor) -> np.ndarray:
    """The same in the clear."""
    conv, (first, *others) = model.layers[0][0], initial(model, SEED)
    a = functional.conv2d(image.reshape(1, *model.image), first.weight, first.bias[0], conv.stride, conv.padding)
    for w, bias in others:
        a = a.flatten(1).square() @ w + bias
    return a[0].numpy()
