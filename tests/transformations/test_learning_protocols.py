"""Private learning as the app runs it: what is learned is what autograd learns, and what does not fit is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import conv2d

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.mpc.backends.settings import PlainSettings, SpawnSettings
from mpc_appraisal.transformations import FloatShares, RtasFast, RtasTraining, SharesTraining
from mpc_appraisal.transformations.network_training import order_of, rightly, targets
from mpc_appraisal.transformations.rtas_layers import initial
from mpc_appraisal.transformations.strategy import LearningData

DATA = LearningData(*Digits().load(), 3)
SMALL = {"rows": 96, "tested": 60, "epochs": 8}
MARGIN = 0.02  # far above the rounding of fixed point, so that other rows cannot change sides
PROTOCOLS = (RtasTraining, RtasFast, SharesTraining, FloatShares)


def run(protocol, session=None, data=DATA):
    return protocol.run(data, session or PlainSettings(), lambda event: None)


def learned(protocol, data: LearningData) -> float:
    """Return the accuracy that torch reaches by autograd, from the same first weights and in the same order."""
    data = data.drawn(protocol.rows, protocol.tested)
    model = protocol.model(data.train.features, data.train.classes)
    layers = [[p.clone().requires_grad_() for p in layer] for layer in initial(model, data.seed)]
    y = targets(data.train.y, data.train.classes)

    def forward(x):
        a = x.double().reshape(model.input_shape(len(x)))
        for (kind, name), (weight, bias) in zip(model.layers, layers, strict=True):
            convolved = weight.dim() == 4
            a = conv2d(a, weight, bias[0], stride=kind.stride) if convolved else a.flatten(1) @ weight + bias
            a = a.relu() if name == "relu" else a.sigmoid()
        return a

    for batch in order_of(data.train.rows, protocol.batch, protocol.epochs, data.seed):
        rows = list(batch)
        loss = (forward(data.train.x[rows]) - y[rows]).square().sum() / len(rows)
        flat = [p for layer in layers for p in layer]
        with torch.no_grad():
            for p, g in zip(flat, torch.autograd.grad(loss, flat), strict=True):
                p -= protocol.rate * g
    with torch.no_grad():
        return rightly(forward(data.test.x), data.test.y)


def near_the_border(found) -> float:
    """Return the share of test rows whose two largest outputs are so near that rounding may exchange them."""
    view = found.views["helper"]
    top = view.logits(view.test.x).sigmoid().topk(2, dim=1).values
    return float((top[:, 0] - top[:, 1] < MARGIN).double().mean())


@pytest.mark.parametrize("network", ["logistic", "perceptron", "cnn"])
def test_the_baseline_is_what_autograd_learns(network):
    longer = {"epochs": 40, "rate": 2.0} if network == "cnn" else {}
    protocol = RtasTraining(network=network, **SMALL | longer)
    found = run(protocol)
    assert abs(found.plain_accuracy - learned(protocol, DATA)) <= near_the_border(found) and found.plain_accuracy > 0.3


@pytest.fixture(scope="module")
def spawned():
    return {protocol: run(protocol(**SMALL), SpawnSettings()) for protocol in PROTOCOLS}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parties_learn_what_is_learned_in_the_clear(protocol, spawned):
    found = spawned[protocol]
    assert found.plain_accuracy == spawned[RtasTraining].plain_accuracy > 2 * found.always
    assert abs(found.accuracy - found.plain_accuracy) <= near_the_border(spawned[RtasTraining]) < 0.2
    assert set(found.cost.bytes_sent) == {"model_owner", "data_owner", "dealer"} and found.cost.rounds > found.steps
    assert all(sent > 0 for sent in found.cost.bytes_sent.values()) and found.cost.seconds > 0
    assert (found.trained, found.tested, found.steps) == (96, 60, 24)
    assert set(found.views) == set(protocol(**SMALL).shows)


@pytest.mark.parametrize("protocol", [RtasTraining, SharesTraining])
def test_predictions_alone_are_opened_and_to_the_model_owner(protocol, spawned):
    assert [(o["what"], o["to"], o["numbers"]) for o in spawned[protocol].openings] == [
        ("predictions", ["model_owner"], 600)
    ]


def test_rtas_fast_opens_the_first_layer_of_every_row_that_is_used(spawned):
    opened = spawned[RtasFast].openings
    assert {o["what"] for o in opened} == {"first layer's outputs"}
    assert sum(o["numbers"] for o in opened) == (8 * 96 + 60) * 10


def test_two_classes_have_one_output_and_the_seed_draws_the_rows():
    two = LearningData(*(Dataset(d.x, (d.y == 0).long(), 2) for d in (DATA.train, DATA.test)), 0)
    found = run(RtasTraining(**SMALL), data=two)
    assert found.plain_accuracy >= found.always - 0.05
    first, again, other = (LearningData(DATA.train, DATA.test, seed).drawn(20, None) for seed in (1, 1, 2))
    assert torch.equal(first.train.x, again.train.x) and not torch.equal(first.train.x, other.train.x)
    assert first.test.rows == DATA.test.rows


@pytest.mark.parametrize(
    ("protocol", "key", "value"),
    [
        (RtasTraining, "network", "transformer"),
        (RtasTraining, "epochs", 0),
        (RtasFast, "rate", -1.0),
        (RtasFast, "rate", math.inf),
        (RtasTraining, "rows", 1),
        (SharesTraining, "tested", 0.5),
        (SharesTraining, "batch", True),
        (FloatShares, "deviation", 0.0),
        (FloatShares, "network", "perceptron"),
    ],
)
def test_a_bad_setting_is_refused_by_its_key(protocol, key, value):
    with pytest.raises(InputError, match=f"^{key}"):
        protocol(**{key: value})


def test_data_and_sessions_that_do_not_fit_are_refused():
    numbers = Dataset(torch.rand(8, 3), torch.rand(8, dtype=torch.float64), 1)
    wide = Dataset(torch.rand(8, 5), torch.zeros(8, dtype=torch.int64), 2)
    narrow = Dataset(torch.rand(8, 3), torch.zeros(8, dtype=torch.int64), 2)
    with pytest.raises(InputError, match="class labels"):
        RtasTraining().check(LearningData(numbers, numbers, 0))
    with pytest.raises(InputError, match="^test: "):
        RtasTraining().check(LearningData(wide, narrow, 0))
    with pytest.raises(InputError, match="square images"):
        RtasTraining(network="cnn").check(LearningData(wide, wide, 0))
    for key, session in (("engine", SpawnSettings(engine="stock")), ("transport", SpawnSettings(transport="tls"))):
        with pytest.raises(InputError, match=f"^{key}: "):
            RtasTraining().check_session(session)
    with pytest.raises(InputError, match="^engine: "):
        RtasFast().check_session(SpawnSettings(engine="rtas"))
