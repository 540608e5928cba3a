"""RTAS's tables 1 to 4: logistic regression and the CNN, one batch trained and one inferred, and training to accuracy.

A full run takes MNIST and the paper's models and batches, a small one digits. All rows are of the part "table". Kind
"cost": model, operation (train, infer), system, batch, seconds (a list), bytes by party, rounds. Kind "training":
model, system, steps, accuracy and, of a single output, recall; bytes, seconds, rounds of the whole. Kind "absent": a
rival that was not measured, and why.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.harness.records import Row, select
from experiments.harness.size import source_of
from experiments.rivals import spu_rival, tenseal
from experiments.rivals.tenseal import NETWORK, Tenseal
from experiments.studies.transformations.parties import FLOAT, STOCK, Measured, SystemRun, run
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.marketplace.encryption.convolution import patches
from mpc_appraisal.models.networks import Conv, Dense, batches
from mpc_appraisal.mpc.backends.cost_model import WAN
from mpc_appraisal.mpc.backends.registry import warn
from mpc_appraisal.mpc.backends.rtas import NAME
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.reporting.table import number
from mpc_appraisal.transformations import rtas_layers
from mpc_appraisal.transformations.rtas_layers import RELU, SIGMOID, Model, halves, initial
from mpc_appraisal.transformations.rtas_training import DataSide, ModelSide, TrainingPlan, run_training, warn_fast

BATCH, LR, SEED = 32, 0.1, 0
IMAGES = 3  # that TenSEAL infers
PRECISION = 0.1  # of TenSEAL's logits, relative to the largest; its scale is that of its tutorial's network
SPU_TURNS = 3
TRAIN, INFER = OPERATIONS = ("train", "infer")
PUBLISHED_BATCH = {TRAIN: 32, INFER: 8192}
ORDER = PLAIN, CRYPTEN, SPU, ENGINE, RTAS, RTAS_FAST, FLOATS, TENSEAL = (
    "in the clear", "CrypTen as shipped", "SPU", "the engine, no helper", "RTAS", "RTAS-fast", "RTAS, float shares",
    "TenSEAL's CKKS",
)  # fmt: skip
ENGINES = {CRYPTEN: STOCK, ENGINE: "fast", RTAS: NAME, RTAS_FAST: "fast", FLOATS: FLOAT}
MODELS = LOGISTIC, CNN = ("logistic regression", "CNN")
PUBLISHED = {  # of the CNN: seconds on LAN (train, infer) and WAN, and Mb; None: blank or a dash in the paper
    "published: CryptoNets": ((None, 55.21), (None, 155.21), (None, 294.0)),
    "published: SecureNN": ((0.38, 122.61), (31.64, 6981.0), (22632.0, 1052.33)),
    "published: RTAS": ((0.54, 10.61), (3.25, 212.15), (333.6, 10.23)),
}


def jobs(size: SimpleNamespace, spu_python: str | None = None) -> list[Job]:
    """Return a job for each part. A job is known by its arguments: another interpreter is not another job."""
    parts: dict[str, Callable] = {"cost": costs, "training": trainings, "rivals": rivals}
    found = [Job(f"table-{name}", part, (size,)) for name, part in parts.items()]
    if spu_python:
        asked = {"side": size.image[-1], "hidden": size.hidden, "batch": BATCH, "inferred": size.smaller, "lr": LR}
        found.append(Job("table-spu", partial(spu, spu_python), (asked,)))
    return found


def models_of(size: SimpleNamespace) -> tuple[Model, Model]:
    """Return logistic regression and the CNN for images of that size."""
    layers = ((Conv(4, 4, stride=2), RELU), (Dense(size.hidden), SIGMOID), (Dense(10), SIGMOID))
    return Model(LOGISTIC, size.image, rtas_layers.LOGISTIC.layers), Model(CNN, size.image, layers)


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
            large = model.name == CNN and operation == INFER
            sizes = sorted({size.inferred, size.smaller}) if large else [BATCH]
            test = data.x[torch.arange(sizes[-1]) % len(data.x)]
            found += [_plain(model, operation, batch, data, test, size.turns) for batch in sizes]
            for system in ENGINES:
                if system == FLOATS and model.name == CNN:
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


def spu(python: str, asked: dict[str, Any]) -> list[Row]:
    """Return SPU's rows, by the interpreter that has spu; the CNN infers the smaller batch alone.

    InputError tells that `python` cannot run the rival, or that its results are wrong.
    """
    command = [python, spu_rival.__file__, json.dumps(asked | {"turns": SPU_TURNS})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    except OSError as error:
        raise _refused(python, error.strerror) from None
    if done.returncode:
        raise _refused(python, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    rows = [_of_spu(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise _refused(python, "no row")
    return rows


def _of_spu(told: dict[str, Any]) -> Row:
    """Give each owner its bytes; SPU has no dealer."""
    sent = dict(zip(OWNERS, told["bytes"] or (), strict=False))
    return {"part": "table", "kind": "cost", **told, "system": SPU, "bytes": sent, "rounds": told["rounds"] or 0}


def _refused(python: str, reason: str) -> InputError:
    runner = Path(spu_rival.__file__).name
    return InputError("--spu-python", Path(python).name, f"an interpreter that runs {runner} ({reason})")


# -- for the report ------------------------------------------------------------------------------------------------
def wan(row: Row) -> float:
    """Return the seconds of a cost row on the WAN: measured ones, rounds, and the bytes of the busiest party."""
    busiest = max(row["bytes"].values(), default=0)
    return median(row["seconds"]) + row["rounds"] * WAN.latency + 8 * busiest / WAN.bandwidth


def context(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the template needs."""
    costs = sorted(select(rows, kind="cost"), key=lambda row: (
        OPERATIONS.index(row["operation"]), -row["batch"], ORDER.index(row["system"])
    ))  # fmt: skip
    measured, trained = {row["system"] for row in costs}, select(rows, kind="training")
    return {
        "costs": {model: select(costs, model=model) for model in MODELS}, "spu": SPU in measured,
        "absent": [row for row in select(rows, kind="absent") if row["system"] not in measured],
        "published": PUBLISHED, "scaling": scaling(select(costs, model=CNN, operation=INFER)),
        "batch": PUBLISHED_BATCH, "wan": wan, "WAN": WAN, "PLAIN": PLAIN, "median": median,
        "places": {LOGISTIC: (1, 2), CNN: (3, 4)},
        "clear": {(row["model"], row["steps"]): row["accuracy"] for row in select(trained, system=PLAIN)},
        "always": {row["model"]: row["always"] for row in trained},
        "trained": sorted(trained, key=lambda r: (MODELS.index(r["model"]), r["steps"], ORDER.index(r["system"]))),
        "tested": trained[0]["tested"] if trained else 0,
    }  # fmt: skip


def scaling(rows: Sequence[Row]) -> tuple[int, int, list[str]] | None:
    """Return the smaller and the larger batch of images, and by how much seconds grow from one to the other."""
    seconds = {(row["system"], row["batch"]): median(row["seconds"]) for row in rows if row["batch"] > 1}
    counts = sorted({batch for _, batch in seconds})
    if len(counts) < 2:
        return None
    few, many = counts[0], counts[-1]
    both = [system for system in ORDER[1:] if {(system, few), (system, many)} <= seconds.keys()]
    found = [f"{system} {number(seconds[system, many] / seconds[system, few], 3)} x" for system in both]
    return (few, many, found) if found else None


def drawing(rows: Sequence[Row]) -> Figure:
    """Draw the seconds of one training batch, LAN and WAN."""
    figure = blank(9.0, 3.2)
    for axis, model in zip(figure.subplots(1, 2), MODELS, strict=True):
        lines = select(rows, kind="cost", model=model, operation=TRAIN)
        lines.sort(key=lambda row: -ORDER.index(row["system"]))
        for place, row in enumerate(lines):
            near, far = median(row["seconds"]), wan(row)
            axis.plot([near, far], [place, place], color=GREY, linewidth=1, zorder=1)
            axis.scatter([near], [place], color=BLUE, zorder=2, label="LAN, measured" if not place else None)
            if row["system"] != PLAIN:
                axis.scatter([far], [place], color=ORANGE, zorder=2).set_label("WAN, model" if not place else None)
        axis.set_yticks(range(len(lines)), [row["system"] for row in lines])
        axis.set_xscale("log")
        axis.set_xlabel("seconds for a batch of 32")
        axis.set_title(model, fontsize=10)
        plain(axis, grid="x")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure
