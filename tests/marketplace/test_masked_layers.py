"""Masked layers: the forward pass and the exact backward pass are the plain network's, up to float64's rounding.

Oracles: dense matrices M_l built by hand, and torch.optim.SGD on torch.nn modules of the plain weights.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.protocols.masked_layers import (
    LEAKAGE,
    CloudSide,
    Masks,
    ShopperSide,
    mask,
    masked_gradient,
    unmask,
    unmask_logits,
)
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Conv, Dense, Network, first_bias, initial

TOLERANCE = 1e-9  # masks of spread 4 over six layers cost float64 a few of its sixteen digits
KEY = bytes(range(32))
SMALL = {
    "dense": Architecture("dense", (1, 4, 4), (Dense(7), Dense(6), Dense(3))),
    "convs": Architecture(
        "convs", (2, 10, 10), (Conv(3, 3, padding=1, pool=2), Conv(4, 2, pool=2), Dense(5), Dense(4))
    ),
}
EVERY = [*ARCHITECTURES.values(), *SMALL.values()]


def network_of(architecture: Architecture, seed: int = 0) -> Network:
    """Draw random weights and, unlike `initial`, random biases."""
    drawn = initial(architecture, seed, torch.float64)
    generator = torch.Generator().manual_seed(seed + 1)
    biases = tuple(torch.randn(len(b), generator=generator, dtype=torch.float64) / 4 for b in drawn.biases)
    return replace(drawn, biases=biases)


def images(architecture: Architecture, rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, architecture.features, generator=generator, dtype=torch.float64)
    return x, torch.randint(architecture.classes, (rows,), generator=generator)


def module(network: Network) -> nn.Sequential:
    """Build the plain network of torch.nn modules."""
    parts: list[nn.Module] = [nn.Unflatten(1, network.architecture.image)]
    flat = False
    for layer, weight, bias in zip(network.architecture.layers, network.weights, network.biases, strict=True):
        if isinstance(layer, Conv):
            made = nn.Conv2d(weight.shape[1], layer.channels, layer.kernel, layer.stride, layer.padding)
            parts += [made, nn.ReLU(), nn.AvgPool2d(layer.pool)]
        else:
            parts += [] if flat else [nn.Flatten()]
            flat, made = True, nn.Linear(weight.shape[1], layer.units)
            parts += [made, nn.ReLU()]
        made.weight, made.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return nn.Sequential(*parts[:-1]).to(torch.float64)


def layers_of(model: nn.Sequential) -> list[nn.Module]:
    return [part for part in model if isinstance(part, (nn.Conv2d, nn.Linear))]


def products(masked: Network, x: torch.Tensor) -> torch.Tensor:
    """Compute what the scheme gives the cloud, first-layer inner products without bias."""
    return masked.hidden(x) - first_bias(masked)


def far(one: Network, other: Network) -> float:
    pairs = zip((*one.weights, *one.biases), (*other.weights, *other.biases), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def matrices(masks: Masks) -> list[torch.Tensor]:
    """Build M_l as dense matrices from their definition: row i has scale_i in column order_i."""
    found = []
    for scale, order in zip(masks.scales, masks.orders, strict=True):
        matrix = torch.zeros(len(scale), len(scale), dtype=torch.float64)
        for i in range(len(scale)):
            matrix[i, order[i]] = scale[i]
        found.append(matrix)
    return [*found, masks.output]


@pytest.mark.parametrize("architecture", EVERY, ids=lambda a: a.name)
def test_the_masked_forward_pass_is_the_plain_one(architecture):
    network, (x, _) = network_of(architecture), images(architecture, 5)
    masks = Masks.draw(architecture, KEY)
    masked = mask(network, masks)
    with torch.no_grad():
        expected = module(network)(x)
    z = CloudSide(masked, lr=1.0).forward(products(masked, x))
    assert (z - expected).abs().max() > 0.01  # the cloud's outputs are not the shopper's
    assert (ShopperSide(masks).logits(z) - expected).abs().max() < TOLERANCE
    assert (ShopperSide(masks).probabilities(z) - expected.softmax(1)).abs().max() < TOLERANCE
    assert (unmask_logits(masked.logits(x), masks) - expected).abs().max() < TOLERANCE
    assert far(unmask(masked, masks), network) < TOLERANCE and far(masked, network) > 0.01


def test_masked_weights_are_products_of_matrices():
    network, masks = network_of(SMALL["dense"]), Masks.draw(SMALL["dense"], KEY)
    before, masked = torch.eye(16, dtype=torch.float64), mask(network, masks)
    for level, matrix in enumerate(matrices(masks)):
        assert torch.allclose(masked.weights[level], matrix @ network.weights[level] @ torch.linalg.inv(before))
        assert torch.allclose(masked.biases[level], matrix @ network.biases[level])
        before = matrix


def test_float32_networks_stay_float32_and_agree():
    architecture = ARCHITECTURES["cnn"]
    network, (x, _) = network_of(architecture).to(torch.float32), images(architecture, 20)
    masks = Masks.draw(architecture, KEY)
    masked = mask(network, masks)
    assert masked.dtype == unmask(masked, masks).dtype == torch.float32
    assert (unmask_logits(masked.logits(x), masks) - network.logits(x)).abs().max() < 1e-4


@pytest.mark.parametrize("architecture", EVERY, ids=lambda a: a.name)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.01)])
def test_exact_updates_are_plain_sgd(architecture, momentum, decay):
    """Several steps, each on its own batch, agree with torch.optim.SGD with the first layer frozen."""
    network, masks = network_of(architecture), Masks.draw(architecture, KEY)
    model, options = module(network), {"lr": 0.02, "momentum": momentum, "weight_decay": decay}
    trained = [p for layer in layers_of(model)[1:] for p in layer.parameters()]
    optimiser = torch.optim.SGD(trained, **options)
    shopper, masked = ShopperSide(masks), mask(network, masks)
    cloud = CloudSide(masked, shopper.squares(), **options)
    for step in range(4):
        x, y = images(architecture, 6, seed=step)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
        cloud.backward(shopper.gradient(cloud.forward(products(masked, x)), y))
        plain = unmask(cloud.network, masks)
        for level, layer in enumerate(layers_of(model)):
            assert (plain.weights[level] - layer.weight).abs().max() < TOLERANCE
            assert (plain.biases[level] - layer.bias).abs().max() < TOLERANCE
    assert torch.equal(cloud.network.weights[0], masked.weights[0])
    assert torch.equal(cloud.network.biases[0], masked.biases[0])
    assert all((plain.weights[i] - network.weights[i]).abs().max() > 1e-4 for i in range(1, len(network.weights)))


def test_preconditioned_updates_are_the_stated_ones():
    """The step is W_l -= lr (M_l' M_l)^-1 grad W_l (M_{l-1}' M_{l-1}), by autograd and with M_l as matrices."""
    network, masks = network_of(SMALL["dense"]), Masks.draw(SMALL["dense"], KEY)
    x, y = images(SMALL["dense"], 6)
    model, rate = module(network), 1e-3
    nn.functional.cross_entropy(model(x), y).backward()
    shopper, masked = ShopperSide(masks), mask(network, masks)
    cloud = CloudSide(masked, lr=rate)
    cloud.backward(shopper.gradient(cloud.forward(products(masked, x)), y))
    plain, m = unmask(cloud.network, masks), matrices(masks)
    for level, layer in list(enumerate(layers_of(model)))[1:]:
        left, right = torch.linalg.inv(m[level].T @ m[level]), m[level - 1].T @ m[level - 1]
        expected = network.weights[level] - rate * left @ layer.weight.grad @ right
        assert (plain.weights[level] - expected).abs().max() < TOLERANCE
        assert (plain.biases[level] - network.biases[level] + rate * left @ layer.bias.grad).abs().max() < TOLERANCE
        plainly = network.weights[level] - rate * layer.weight.grad
        assert (plain.weights[level] - plainly).abs().max() > rate * layer.weight.grad.abs().max() / 10


def test_without_scales_preconditioned_updates_are_plain_sgd():
    architecture = SMALL["convs"]
    network, masks = network_of(architecture), Masks.draw(architecture, KEY, spread=1.0)
    x, y = images(architecture, 6)
    found = []
    shopper, masked = ShopperSide(masks), mask(network, masks)
    for squares in (None, shopper.squares()):
        cloud = CloudSide(masked, squares, lr=0.05)
        cloud.backward(shopper.gradient(cloud.forward(products(masked, x)), y))
        found.append(cloud.network)
    assert far(*found) < TOLERANCE and far(found[0], masked) > 1e-4


def test_the_masked_gradient_is_the_derivative_by_the_masked_logits():
    """The oracle is autograd of the loss as a function of z~."""
    masks, y = Masks.draw(ARCHITECTURES["mlp"], KEY), torch.tensor([3, 1, 4])
    z = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(z @ masks.output, y), z)
    assert (ShopperSide(masks).gradient(z.detach(), y) - expected).abs().max() < TOLERANCE
    error = (z.detach() @ masks.output).softmax(1) - nn.functional.one_hot(y, 10)
    assert (masked_gradient(error / 3, masks) - expected).abs().max() < TOLERANCE


def test_masks_are_permutations_scales_and_an_orthogonal_matrix():
    masks = Masks.draw(ARCHITECTURES["mlp"])
    assert (masks.output @ masks.output.T - torch.eye(10, dtype=torch.float64)).abs().max() < TOLERANCE
    (scale,), (order,) = masks.scales, masks.orders
    assert torch.equal(order.sort().values, torch.arange(100)) and not torch.equal(order, torch.arange(100))
    assert scale.min() >= 0.25 and scale.max() <= 4


def test_scales_are_log_uniform_and_outputs_have_both_determinants():
    wide = Architecture("wide", (1, 1, 1), (Dense(20_000), Dense(2)))
    logs = Masks.draw(wide, KEY).scales[0].log() / math.log(4)
    # the mean of n uniforms on [-1, 1] has deviation 1 / sqrt(3 n) = 0.0041; 5 of them
    assert abs(float(logs.mean())) < 0.0205 and abs(float((logs < 0.5).double().mean()) - 0.75) < 0.0155
    keys = [bytes([i]) * 32 for i in range(20)]
    signs = {round(float(torch.linalg.det(Masks.draw(SMALL["dense"], key).output))) for key in keys}
    assert signs == {-1, 1}


def test_keys_decide_masks():
    one, same, other = (Masks.draw(ARCHITECTURES["cnn"], key) for key in (KEY, KEY, bytes(32)))
    assert torch.equal(one.output, same.output) and torch.equal(one.orders[1], same.orders[1])
    assert not torch.equal(one.output, other.output) and not torch.equal(one.scales[1], other.scales[1])
    assert not torch.equal(Masks.draw(ARCHITECTURES["cnn"]).output, Masks.draw(ARCHITECTURES["cnn"]).output)


def test_what_is_said_of_it():
    assert "obfuscation, not encryption" in LEAKAGE and "pixels can be recovered" in LEAKAGE


def test_bad_input_is_refused():
    architecture = SMALL["dense"]
    network, masks, (x, y) = network_of(architecture), Masks.draw(architecture, KEY), images(architecture, 4)
    masked, shopper = mask(network, masks), ShopperSide(masks)
    cloud = CloudSide(masked, shopper.squares(), lr=0.1)
    z = cloud.forward(products(masked, x))
    cloud.backward(shopper.gradient(z, y))
    for bad in (
        lambda: Masks.draw(architecture, b"short"),
        lambda: Masks.draw(architecture, spread=0.5),
        lambda: mask(network_of(SMALL["convs"]), masks),
        lambda: unmask(network_of(SMALL["convs"]), masks),
        lambda: shopper.gradient(z, y[:-1]),
        lambda: shopper.gradient(z, y + 3),
        lambda: cloud.backward(shopper.gradient(z, y)),  # a second update after one forward pass
        lambda: CloudSide(masked, shopper.squares()[:1], lr=0.1),
        lambda: CloudSide(masked, [-square for square in shopper.squares()], lr=0.1),
        lambda: CloudSide(masked, lr=0.0),
        lambda: (cloud.forward(products(masked, x)), cloud.backward(z[:2])),
        lambda: cloud.forward(x),
    ):
        with pytest.raises(InputError):
            bad()
