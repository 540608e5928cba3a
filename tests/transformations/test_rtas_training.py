"""RTAS and RTAS-fast training: plain tensors against torch's autograd, three real processes against plain tensors."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from three import QueueChannel
from torch.nn import functional

from mpc_appraisal.attacks.rtas import known_rows
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.models.networks import Conv, Dense
from mpc_appraisal.mpc.backends.registry import deal, dry_session, open_session
from mpc_appraisal.mpc.backends.rtas import LEAKAGE
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import PlainSession
from mpc_appraisal.transformations import rtas_training
from mpc_appraisal.transformations.float_shares import FittedModel, FloatPlan, Floats, logistic
from mpc_appraisal.transformations.rtas_layers import CNN, LOGISTIC, RATE_BITS, Layer, Model, halves, initial, rate
from mpc_appraisal.transformations.rtas_training import (
    LEAKAGE_FAST,
    DataSide,
    LabelOwner,
    ModelSide,
    TrainedModel,
    TrainingPlan,
    run_training,
)

torch.set_num_threads(1)
ROWS, TESTED, LR = 24, 5, 0.3
SMALL = Model("small", (1, 8, 8), ((Conv(3, 4, stride=2), "relu"), (Dense(6), "sigmoid"), (Dense(4), "sigmoid")))
PADDED = Model("padded", (2, 5, 6), ((Conv(2, 3, stride=2, padding=1), "sigmoid"), (Dense(2), "sigmoid")))
DEEP = Model("dense", (1, 4, 4), ((Dense(6), "relu"), (Dense(5), "relu"), (Dense(3), "sigmoid")))
ONE = Model("one output", (1, 8, 8), ((Dense(1), "sigmoid"),))
MODELS = {model.name: model for model in (SMALL, PADDED, DEEP, ONE)}
BATCHES = ((0, 1, 2, 3, 4, 5, 6, 7), (9, 8, 11, 10, 13, 12, 15, 14), (16, 17, 18, 19, 20, 21, 22, 23))
# A step rounds weights to 2^-18, from gradients of activations and weights of 16 and 18 bits: the largest error that
# was measured is 1.1e-5 after three steps, the last of which moves weights by .03 and more.
BOUND = 5e-5
ENGINES_SIGMOID = 5e-4  # a softmax of two classes: 6e-5 measured


def plan_of(name: str, fast: bool) -> TrainingPlan:
    return TrainingPlan(MODELS[name], BATCHES, LR, TESTED, fast)


def sides(name: str, fast: bool) -> tuple[DataSide, ModelSide]:
    model, generator = MODELS[name], torch.Generator().manual_seed(4)
    x = torch.rand(ROWS + TESTED, np.prod(model.image), generator=generator, dtype=torch.float64)
    y = torch.randint(0, 2, (ROWS, model.outputs), generator=generator).to(torch.float64)
    layers = initial(model, 1)
    layers = [Layer(w, 0.3 * torch.randn(b.shape, generator=generator, dtype=torch.float64)) for w, b in layers]
    if not fast:
        return DataSide(x[:ROWS], y, x[ROWS:]), ModelSide(layers)
    part, rest = halves(layers, 2)
    return DataSide(x[:ROWS], None, x[ROWS:], rest), ModelSide(part, y)


def by_autograd(name: str, lr: float, steps: int = len(BATCHES)) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Weights and biases, and the predictions, of torch's layers and gradients."""
    model, (data, side) = MODELS[name], sides(name, False)
    leaves = [p.clone().requires_grad_() for layer in side.layers for p in layer]

    def network(x: torch.Tensor) -> torch.Tensor:
        a = x.reshape(len(x), *model.image)
        for (kind, name), w, b in zip(model.layers, leaves[::2], leaves[1::2], strict=True):
            if isinstance(kind, Conv):
                z = functional.conv2d(a, w, b[0], kind.stride, kind.padding)
            else:
                z = functional.linear(a.flatten(1), w.T, b[0])
            a = torch.relu(z) if name == "relu" else torch.sigmoid(z)
        return a

    for batch in BATCHES[:steps]:
        loss = functional.mse_loss(network(data.x[list(batch)]), data.y[list(batch)]) * model.outputs
        with torch.no_grad():
            for p, g in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                p -= lr * g
    return [p.detach() for p in leaves], network(data.test).detach()


def effective() -> float:
    """The rate that RATE_BITS bits leave of LR."""
    mantissa, exponent = rate(LR, len(BATCHES[0]))
    return mantissa * 2.0 ** (exponent - RATE_BITS) * len(BATCHES[0]) / 2


def parameters(trained: TrainedModel) -> list[torch.Tensor]:
    return [p for layer in (*trained.layers, *trained.rest) for p in layer]


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.parametrize("fast", [False, True])
def test_on_plain_tensors_it_is_gradient_descent(name, fast):
    trained = run_training(PlainSession(), plan_of(name, fast), *sides(name, fast))
    expected, predictions = by_autograd(name, effective())
    for found, exact in zip(parameters(trained), expected, strict=True):
        assert torch.allclose(found, exact, rtol=0, atol=1e-12)
    assert torch.allclose(trained.predicted, predictions, rtol=0, atol=1e-12)
    assert abs(effective() / LR - 1) < 2.0**-RATE_BITS


# ---- three processes

JOBS = (
    [("rtas", name, False) for name in MODELS] + [("fast", name, True) for name in MODELS] + [("fast", "small", False)]
)


def shares(trained: TrainedModel) -> list[tuple[torch.Tensor, int]]:
    return [(p.share, p.bits) for layer in trained.layers for p in layer]


def party(role, address, emit, folder, given):
    """One process, one session a job: its own shares, and the rest."""
    rendezvous, found = Rendezvous(role, address, 60.0, hosted=True), []
    rendezvous.announce()
    for job in JOBS:
        engine, name, fast = job
        if role == DEALER:
            deal(engine, rendezvous, 60.0)
            continue
        session, plan = open_session(engine, rendezvous, 60.0), plan_of(name, fast)
        session.prepare(lambda dry, plan=plan: run_training(dry, plan))
        before = session.meter.cost()
        mine = {"data" if role == DATA_OWNER else "model": given[job]}
        trained = run_training(session, plan, **mine)
        cost = session.meter.cost() - before
        session.close()
        opened = [(entry.what, entry.to, entry.numbers) for entry in session.ledger]
        found.append((shares(trained), trained.rest, trained.predicted, opened, (cost.rounds, cost.bytes_sent)))
    rendezvous.exchange("done", {})
    rendezvous.close(1.0)
    return found


@pytest.fixture(scope="module")
def results():
    given = {
        role: {job: sides(*job[1:])[place] for job in JOBS} for place, role in enumerate((DATA_OWNER, MODEL_OWNER))
    }
    jobs = {role: {"given": given.get(role, {})} for role in (MODEL_OWNER, DATA_OWNER, DEALER)}
    return launch(party, jobs, lambda event: None)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: "-".join(map(str, job)))
def test_training_on_shares_is_training_in_the_clear(results, job):
    mine, theirs = (results[role][JOBS.index(job)] for role in (MODEL_OWNER, DATA_OWNER))
    found = [(a + b).double() / 2.0**bits for (a, bits), (b, _) in zip(mine[0], theirs[0], strict=True)]
    found += [p for layer in mine[1] for p in layer]
    expected, predictions = by_autograd(job[1], effective())
    assert max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)) < BOUND
    bound = BOUND if job[0] == "rtas" or job[2] else ENGINES_SIGMOID
    assert (mine[2] - predictions).abs().max() < bound and theirs[1:3] == ([], None)
    before, _ = by_autograd(job[1], effective(), len(BATCHES) - 1)
    assert max(float((a - b).abs().max()) for a, b in zip(before, expected, strict=True)) > 20 * BOUND


@pytest.mark.parametrize("job", JOBS, ids=lambda job: "-".join(map(str, job)))
def test_what_is_opened_is_in_the_ledger_and_goes_to_the_model_owner(results, job):
    _, name, fast = job
    mine, theirs = (results[role][JOBS.index(job)][3] for role in (MODEL_OWNER, DATA_OWNER))
    outputs = int(np.prod(MODELS[name].first_shape()))
    if fast:
        counts = [*(len(batch) * outputs for batch in BATCHES), TESTED * outputs]
        expected = [("first layer's outputs", (MODEL_OWNER,), count) for count in counts]
    else:
        expected = [("predictions", (MODEL_OWNER,), TESTED * MODELS[name].outputs)]
    assert mine == theirs == expected


@pytest.mark.parametrize("job", JOBS, ids=lambda job: "-".join(map(str, job)))
def test_a_dry_run_tells_what_it_costs(results, job):
    engine, name, fast = job
    for role in (MODEL_OWNER, DATA_OWNER):
        dry = dry_session(engine, role)
        run_training(dry, plan_of(name, fast))
        assert (dry.meter.rounds, dry.meter.bytes_sent) == results[role][JOBS.index(job)][4]


def test_the_helper_is_asked_for_functions_of_rtas_and_for_none_of_rtas_fast():
    for name, fast, expected in (("small", False, ["relu", "step"]), ("small", True, None)):
        dry = dry_session("rtas", MODEL_OWNER)
        run_training(dry, plan_of(name, fast))
        asked = [request[1:] for request in dry.script if request[0] == "apply"]
        if fast:
            assert not asked
            continue
        rows, hidden = len(BATCHES[0]), int(np.prod(SMALL.first_shape()))
        assert [names for names, *_ in asked[:3]] == [expected, ["sigmoid"], ["sigmoid"]]
        assert [shape for _, shape, _ in asked[:3]] == [[rows * hidden], [rows * 6], [rows * 4]]
        assert len(asked) == 3 * len(BATCHES) + 3


def test_a_share_alone_says_nothing_of_weights(results):
    """Shares of small weights fill the ring: their top bits are even."""
    for role in (MODEL_OWNER, DATA_OWNER):
        top = torch.cat([share.reshape(-1) for share, _ in results[role][0][0]]).sign().double()
        assert abs(float(top.mean())) < 5 / len(top) ** 0.5


# ---- what the label owner learns


def test_the_label_owner_finds_rows_by_rows_that_it_knows(monkeypatch):
    """With 64 outputs of 64 features and as many known rows, all others exactly; its y and layers are not needed."""
    wide, seen, learn = Model("wide", (1, 8, 8), ((Dense(64), "relu"), (Dense(2), "sigmoid"))), [], LabelOwner.learn

    def watched(self, z, batch, lr):
        seen.append(z)
        return learn(self, z, batch, lr)

    monkeypatch.setattr(rtas_training.LabelOwner, "learn", watched)
    x = torch.rand(90, 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    part, rest = halves(initial(wide, 1), 2)
    plan = TrainingPlan(wide, (tuple(range(90)),), fast=True)
    run_training(PlainSession(), plan, DataSide(x, first=rest), ModelSide(part, torch.zeros(90, 2)))
    (z,) = seen
    w = known_rows.dense(x[:70].numpy(), z[:70].numpy())
    found = np.linalg.lstsq(w.T, z[70:].numpy().T, rcond=None)[0].T
    assert np.abs(found - x[70:].numpy()).max() < 1e-6


def test_what_leaks_is_said_before_anything_is_shared(capsys):
    class Stopped(Exception):
        pass

    class Stopping(PlainSession):
        def input(self, *arguments):
            raise Stopped

    for engine, fast, words in (("rtas", False, LEAKAGE), ("fast", True, LEAKAGE_FAST), ("fast", False, "")):
        session = Stopping()
        session.engine = engine
        with pytest.raises(Stopped):
            run_training(session, plan_of("small", fast), *sides("small", fast))
        said = capsys.readouterr().err
        assert words in said and bool(said) == bool(words)


# ---- shares in floating point


def floats(plan: FloatPlan, deviation: float) -> list[FittedModel]:
    """Of both owners and the helper, as threads."""
    data, side = sides("one output", False)
    given = [{"weight": side.layers[0].weight.float()}, {}, {}]
    given[1] = {"x": data.x.float(), "y": data.y.float(), "test": data.test[: plan.predicted].float()}
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    found: list = [None] * 3

    def one(me: int) -> None:
        found[me] = logistic(Floats(me, QueueChannel(me, queues, []), deviation), plan, **given[me])

    threads = [threading.Thread(target=one, args=(me,)) for me in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    return found


@pytest.mark.parametrize("deviation", [1.0, 30.0])
def test_float_shares_train_within_float32_at_the_size_of_the_deviation(deviation):
    """A product of d terms of size s^2 errs by sqrt(d) s^2 2^-24, or four of these at most; 3 a step, 3 steps."""
    found = floats(FloatPlan(ROWS, 64, BATCHES, LR, TESTED), deviation)
    data, side = sides("one output", False)
    w, b = side.layers[0].weight.clone().requires_grad_(), torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    for batch in BATCHES:
        loss = functional.mse_loss(torch.sigmoid(data.x[list(batch)] @ w + b), data.y[list(batch)])
        with torch.no_grad():
            for p, g in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
                p -= LR * g
    bound = 4 * 9 * 8 * deviation**2 * 2.0**-24
    expected = (w, b, torch.sigmoid(data.test @ w + b))
    for owner in found[:2]:
        for got, exact in zip(owner[:3], expected, strict=True):
            assert (got.double() - exact).abs().max() < bound
    drifted = [owner.spread[-1] / owner.spread[0] for owner in found[:2]]
    assert min(drifted) > 1  # both parts of the weight grow, and their sum does not
    assert torch.equal(found[0].weight, found[1].weight)


def test_a_deviation_that_hides_nothing_is_refused():
    with pytest.raises(InputError, match="deviation"):
        Floats(2, QueueChannel(2, {}, []), 0.0)


# ---- models and sides


def test_the_models_are_those_of_the_paper():
    x, y = torch.zeros(2, 784), torch.zeros(2, 10)
    assert CNN.first_shape() == (4, 13, 13) and [w for w, _ in CNN.shapes()] == [(4, 1, 4, 4), (676, 100), (100, 10)]
    assert LOGISTIC.shapes() == [((784, 1), (1, 1))]
    trained = run_training(PlainSession(), TrainingPlan(CNN, ((0, 1),)), DataSide(x, y), ModelSide(initial(CNN, 0)))
    assert [tuple(w.shape) for w, _ in trained.layers] == [w for w, _ in CNN.shapes()]


@pytest.mark.parametrize(
    "layers",
    [
        (),
        ((Dense(3), "relu"),),
        ((Dense(3), "tanh"), (Dense(2), "sigmoid")),
        ((Dense(3), "relu"), (Conv(2, 2), "relu"), (Dense(2), "sigmoid")),
        ((Conv(2, 2, pool=2), "relu"), (Dense(2), "sigmoid")),
        ((Conv(2, 9), "relu"), (Dense(2), "sigmoid")),
        ((Conv(2, 2), "sigmoid"),),
    ],
)
def test_models_that_cannot_be_run_are_refused(layers):
    with pytest.raises(InputError, match=r"model\.layers"):
        Model("wrong", (1, 8, 8), layers)


@pytest.mark.parametrize(
    ("name", "fast", "change"),
    [
        ("x", False, {"data": {"x": torch.zeros(ROWS, 63)}}),
        ("x", True, {"data": {"x": torch.zeros(ROWS - 1, 64)}}),
        ("test", False, {"data": {"test": None}}),
        ("y", False, {"data": {"y": None}}),
        ("y", True, {"model": {"y": torch.zeros(ROWS, 3)}}),
        ("first", True, {"data": {"first": None}}),
        ("layers", False, {"model": {"layers": initial(DEEP, 0)}}),
    ],
)
def test_sides_that_do_not_fit_are_refused_before_anything_is_shared(name, fast, change):
    given = dict(zip(("data", "model"), sides("small", fast), strict=True))
    given = {side: replace(value, **change.get(side, {})) for side, value in given.items()}
    session = PlainSession()
    with pytest.raises(InputError, match=f"^{name}: "):
        run_training(session, plan_of("small", fast), **given)
    assert not session.ledger


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"lr": float("inf")}, {"batches": ((),)}, {"batches": (), "predicted": 0}]
)
def test_plans_that_cannot_be_run_are_refused(wrong):
    with pytest.raises(InputError):
        replace(plan_of("small", False), **wrong)
