"""Networks against torch.nn and torch.optim.SGD; the quantised first layer against Python's integers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.marketplace.protocols.quantised import BOUND, pixels, quantise
from mpc_appraisal.models.networks import (
    ARCHITECTURES,
    Architecture,
    Conv,
    Dense,
    Network,
    batches,
    first_bias,
    first_matrix,
    initial,
    train,
)

DIGITS = Architecture("digits", (1, 8, 8), (Conv(4, 3, padding=1, pool=2), Dense(20), Dense(10)))
STRIDED = Architecture("strided", (2, 9, 7), (Conv(3, 3, stride=2, padding=1), Conv(2, 2), Dense(5), Dense(3)))
EVERY = [*ARCHITECTURES.values(), DIGITS, STRIDED]
NAMES = [architecture.name for architecture in EVERY]


def network_of(architecture: Architecture, dtype: torch.dtype = torch.float64) -> Network:
    """`initial` with random biases, for it has none."""
    drawn = initial(architecture, 0, dtype)
    generator = torch.Generator().manual_seed(1)
    biases = tuple(torch.randn(len(b), generator=generator, dtype=torch.float64).to(dtype) / 4 for b in drawn.biases)
    return replace(drawn, biases=biases)


def images(architecture: Architecture, rows: int, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(rows, architecture.features, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(architecture.classes, (rows,), generator=generator)


MODULES = {  # written out by hand, for the oracle is not to share the library's walk over layers
    "mlp": lambda: [nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 10)],
    "cnn": lambda: [
        *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 4, 5, 2, 1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(676, 100), nn.ReLU(), nn.Linear(100, 10)),
    ],
    "cnn6": lambda: [
        *(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 4, 5), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Conv2d(4, 12, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(192, 100), nn.ReLU(), nn.Linear(100, 10)),
    ],
    "digits": lambda: [
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)),
    ],
    "strided": lambda: [
        *(nn.Unflatten(1, (2, 9, 7)), nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 5), nn.ReLU(), nn.Linear(5, 3)),
    ],
}


def module(network: Network) -> nn.Sequential:
    model = nn.Sequential(*MODULES[network.architecture.name]()).to(network.dtype)
    for layer, weight, bias in zip(trainable(model), network.weights, network.biases, strict=True):
        layer.load_state_dict({"weight": weight, "bias": bias})
    return model


def trainable(model: nn.Sequential) -> list[nn.Module]:
    return [part for part in model if isinstance(part, (nn.Conv2d, nn.Linear))]


@pytest.mark.parametrize("architecture", EVERY, ids=NAMES)
def test_the_forward_pass_is_torch_nn(architecture):
    network, (x, _) = network_of(architecture), images(architecture, 6)
    with torch.no_grad():
        expected = module(network)(x)
    assert torch.allclose(network.logits(x), expected, rtol=0, atol=1e-12)
    assert torch.equal(network.from_hidden(network.hidden(x)), network.logits(x))
    assert torch.allclose(network.probabilities(x), expected.softmax(1), rtol=0, atol=1e-12)
    shapes = architecture.shapes()
    assert network.hidden(x).shape == (6, int(np.prod(shapes[0]))) and shapes[-1] == (architecture.classes,)


@pytest.mark.parametrize("architecture", EVERY, ids=NAMES)
def test_the_first_matrix_is_the_first_layer(architecture):
    network, (x, _) = network_of(architecture), images(architecture, 6)
    by_matrix = x @ first_matrix(network).T + first_bias(network)
    assert torch.allclose(network.hidden(x), by_matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("architecture", EVERY, ids=NAMES)
def test_training_is_torch_optim_sgd(architecture, freeze):
    network, (x, y) = network_of(architecture), images(architecture, 11)
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    trained = train(network, x, y, steps=5, batch_size=4, seed=3, freeze_first=freeze, **options)
    model = module(network)
    layers = trainable(model)
    optimiser = torch.optim.SGD([p for layer in layers[freeze:] for p in layer.parameters()], **options)
    for index in batches(11, 4, 5, seed=3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[index]), y[index]).backward()
        optimiser.step()
    for level, layer in enumerate(layers):
        assert torch.allclose(trained.weights[level], layer.weight, rtol=0, atol=1e-10)
        assert torch.allclose(trained.biases[level], layer.bias, rtol=0, atol=1e-10)
    assert torch.equal(trained.weights[0], network.weights[0]) is freeze
    assert not any(p.requires_grad for p in (*trained.weights, *trained.biases))
    assert all(torch.equal(a, b) for a, b in zip(network.weights, network_of(architecture).weights, strict=True))


def test_batches_cover_every_row_once_an_epoch():
    drawn = list(batches(10, 4, 6, seed=0))
    assert [len(index) for index in drawn] == [4, 4, 2, 4, 4, 2]
    epochs = [torch.cat(drawn[:3]), torch.cat(drawn[3:])]
    assert all(torch.equal(epoch.sort().values, torch.arange(10)) for epoch in epochs)
    assert not torch.equal(*epochs)


def test_training_is_deterministic_by_seed():
    x, y = images(DIGITS, 50, torch.float32)
    one, same, other = (train(initial(DIGITS, 0), x, y, epochs=2, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.weights, same.weights, strict=True))
    assert not torch.equal(one.weights[0], other.weights[0])
    assert not torch.equal(initial(DIGITS, 0).weights[0], initial(DIGITS, 1).weights[0])


def test_digits_are_learnt():
    own, test = Digits().load()
    network = train(initial(DIGITS, 0), own.x, own.y, epochs=20)
    assert network.dtype == torch.float32
    assert float((network.logits(test.x).argmax(1) == test.y).double().mean()) > 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_network_is_the_one_that_is_loaded(tmp_path, dtype):
    network = network_of(STRIDED, dtype)
    network.save(tmp_path / "network.npz")
    found = Network.load(tmp_path / "network.npz")
    assert found.architecture == STRIDED and found.dtype == dtype
    for a, b in zip((*found.weights, *found.biases), (*network.weights, *network.biases), strict=True):
        assert torch.equal(a, b)


def test_a_file_that_is_no_network_is_refused_by_name(tmp_path):
    network = network_of(STRIDED)
    network.save(tmp_path / "whole.npz")
    whole = dict(np.load(tmp_path / "whole.npz"))
    cases = {
        "missing": {name: array for name, array in whole.items() if name != "bias1"},
        "shape": whole | {"weight1": whole["weight1"][:1]},
        "type": whole | {"bias0": whole["bias0"].astype(np.float32)},
        "value": whole | {"bias0": whole["bias0"] * np.nan},
        "layers": whole | {"architecture": str(whole["architecture"]).replace("Conv", "Rnn")},
        "json": whole | {"architecture": "{"},
    }
    for name, arrays in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(InputError, match="party.model"):
            Network.load(tmp_path / f"{name}.npz")
    (tmp_path / "text.npz").write_text("no archive")
    for path in ("text.npz", "absent.npz"):
        with pytest.raises(InputError, match="party.model"):
            Network.load(tmp_path / path)


@pytest.mark.parametrize(
    "layers",
    [
        (Dense(10),),
        (Dense(5), Conv(2, 3), Dense(10)),
        (Dense(5), Conv(2, 3)),
        (Conv(2, 11), Dense(10)),
        (Conv(2, 3, pool=4), Dense(10)),
        (Dense(5), Dense(1)),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers):
    with pytest.raises(InputError):
        Architecture("wrong", (1, 8, 8), layers)


def test_training_refuses_bad_input():
    network, (x, y) = network_of(DIGITS), images(DIGITS, 8)
    for rows, labels, options in (
        (x[:, :-1], y, {}),
        (x, y[:-1], {}),
        (x, y.to(torch.float64), {}),
        (x, y + 10, {}),
        (x[:0], y[:0], {}),
        (x, y, {"epochs": 1, "steps": 1}),
        (x, y, {"epochs": 0}),
        (x, y, {"lr": 0.0}),
        (x, y, {"batch_size": 0}),
        (x, y, {"momentum": 1.0}),
    ):
        with pytest.raises(InputError):
            train(network, rows, labels, **options)
    for call in (lambda: network.logits(x[0]), lambda: network.from_hidden(x)):
        with pytest.raises(InputError):
            call()


# --- the quantised first layer


def matrix_cases() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    dense = generator.normal(size=(20, 784))
    return {
        "dense": dense,
        "scales": dense * np.logspace(-12, 12, 20)[:, None],
        "equal": np.ones((2, 784)),
        "one number": np.eye(3, 50) * -2.5,
        "zeros": np.zeros((2, 5)),
        "toeplitz": first_matrix(initial(ARCHITECTURES["cnn"], 0)).numpy(),
    }


@pytest.mark.parametrize("name", matrix_cases())
def test_no_inner_product_reaches_the_bound_and_precision_is_used_up(name):
    real = matrix_cases()[name]
    found = quantise(real)
    assert found.w.dtype == np.int64 and (found.step > 0).all()
    for row in found.w.tolist():
        total = 255 * sum(abs(weight) for weight in row)  # the worst |<x, w>| over x in 0 .. 255
        assert total < BOUND
        # rounding moves the sum by half a unit a number at most: no more of the range than that is left unused
        assert total > BOUND - 255 * (len(row) + 2) or not any(row)
    assert (np.abs(real - found.matrix.numpy()) <= found.step[:, None] / 2 * (1 + 1e-9)).all()


def test_integers_mean_the_real_first_layer_within_the_stated_error():
    network = network_of(ARCHITECTURES["mlp"])
    found = quantise(first_matrix(network))
    integers = np.random.default_rng(1).integers(0, 256, (5, 784))
    z = np.array([[sum(a * b for a, b in zip(x, w, strict=True)) for w in found.w.tolist()] for x in integers.tolist()])
    exact = network.hidden(torch.from_numpy(integers / 255)) - first_bias(network)
    assert found.real(z).dtype == torch.float64
    gap = (found.real(torch.from_numpy(z)) - exact).abs().numpy()
    assert (gap <= found.error).all() and found.error.max() < 784 / 2 * found.step.max()
    assert gap.max() < 0.01 * exact.abs().max()


def test_the_stated_error_is_reached_by_the_worst_image():
    real = np.random.default_rng(2).normal(size=(1, 30))
    found = quantise(real, bound=255 * 40)
    step = Fraction(found.step[0])
    gaps = [Fraction(weight) - step * i for weight, i in zip(real[0], found.w[0].tolist(), strict=True)]
    worst = max(sum(gap for gap in gaps if gap > 0), -sum(gap for gap in gaps if gap < 0))
    assert found.error[0] == pytest.approx(float(worst), rel=1e-9) and worst > 0


def test_pixels_are_bytes():
    assert np.array_equal(pixels(torch.tensor([[0.0, 0.5, 1.0, 3 / 255]])), [[0, 128, 255, 3]])
    for bad in (np.array([[1.1]]), np.array([[np.nan]]), np.array([0.5])):
        with pytest.raises(InputError):
            pixels(bad)


def test_quantise_refuses_bad_input():
    for matrix, bound in ((np.ones(3), BOUND), (np.array([[np.inf]]), BOUND), (np.ones((1, 0)), BOUND)):
        with pytest.raises(InputError):
            quantise(matrix, bound)
    with pytest.raises(InputError):
        quantise(np.ones((1, 784)), bound=255 * 784)
