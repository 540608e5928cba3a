"""InstaHide: encodings are what their keys say, keys are never used twice, and what signs cannot hide is refused.

Oracles: the formula of one encoding in numpy, exact probabilities of the truncated simplex, binomial bounds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.models.networks import Architecture, Dense, batches, initial
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.transformations import instahide
from mpc_appraisal.transformations.instahide import LEAKAGE, InstaHide, Key, apply, centred, fit, predict

KEY = bytes(range(32))
SETTINGS = [InstaHide(), InstaHide(k=6), InstaHide(mixing="inside"), InstaHide(k=2, mixing="inside")]
SIGMAS = 6.0  # of a binomial count: passed by chance but once in 10^9


def images(rows: int, width: int = 40, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return centred(torch.randn(rows, width, generator=generator, dtype=torch.float64))


def labels(rows: int, classes: int = 3) -> torch.Tensor:
    return functional.one_hot(torch.arange(rows) % classes, classes).to(torch.float64)


def drawn(hide: InstaHide, rows: int = 4000, width: int = 8, public: int = 50, alone: bool = False) -> Key:
    return hide.draw(Stream(KEY, "test"), (rows, width), public, alone=alone)


@pytest.mark.parametrize("hide", SETTINGS, ids=str)
def test_an_encoding_is_the_signed_mixture_that_its_key_names(hide):
    x, y, public = images(30), labels(30), images(50, seed=1)
    key = drawn(hide, 30, 40)
    found = apply(key, x, y, public)
    for row in range(30):
        weights = key.coefficients[row].numpy()
        pool = [x[i].numpy() for i in key.private[row]] + [public[i].numpy() for i in key.public[row]]
        mixture = sum(weight * image for weight, image in zip(weights, pool, strict=True))
        named = sum(weights[place] * y[i].numpy() for place, i in enumerate(key.private[row]))
        np.testing.assert_allclose(found.z[row] * key.signs[row], mixture, atol=1e-12)  # decoded with the key
        np.testing.assert_allclose(found.labels[row], named, atol=1e-12)


@pytest.mark.parametrize("hide", SETTINGS, ids=str)
def test_coefficients_sum_to_one_and_keep_their_bounds(hide):
    key = drawn(hide)
    torch.testing.assert_close(key.coefficients.sum(dim=1), torch.ones(4000, dtype=torch.float64), atol=1e-12, rtol=0)
    assert key.coefficients.min() >= 0 and key.coefficients.max() <= hide.bound
    assert key.coefficients.max() > 0.9 * hide.bound  # the bound is met, not missed by far
    if hide.mixing == "cross":
        assert key.coefficients[:, :2].sum(dim=1).min() >= hide.least


def test_coefficients_are_uniform_under_the_bound():
    """Of four uniform on the simplex P(l_1 > t) = (1 - t)^3, and two above 1/2 exclude each other."""
    key = drawn(InstaHide(mixing="inside"), 20_000)
    outside = 4 * (1 - 0.65) ** 3
    for level in (0.2, 0.4, 0.55):
        # every other coefficient may leave the bound while l_1 > level: only where level <= 0.35
        joint = 3 * max(0.0, 1 - level - 0.65) ** 3
        chance = ((1 - level) ** 3 - (1 - 0.65) ** 3 - joint) / (1 - outside)
        count = int((key.coefficients[:, 0] > level).sum())
        assert abs(count - 20_000 * chance) < SIGMAS * math.sqrt(20_000 * chance * (1 - chance)), level


@pytest.mark.parametrize("hide", SETTINGS, ids=str)
def test_a_mixture_has_no_image_twice_and_every_private_image_first_once(hide):
    key = drawn(hide, 200, public=7)
    assert torch.equal(key.private[:, 0].sort().values, torch.arange(200))
    assert int((key.private[:, 0] == torch.arange(200)).sum()) < 10  # 1 expected in random order
    for index in (key.private, key.public):
        assert all(len(set(row)) == len(row) for row in index.tolist())
    assert key.private.shape[1] + key.public.shape[1] == hide.k


def test_signs_are_fair_and_independent():
    signs = drawn(InstaHide(), 2000, 100).signs.to(torch.float64)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.sum())) < SIGMAS * math.sqrt(signs.numel())
    for one, two in ((signs[:-1], signs[1:]), (signs[:, :-1], signs[:, 1:])):
        assert abs(float((one * two).sum())) < SIGMAS * math.sqrt(one.numel())
    assert (signs.sum(dim=0).abs() < SIGMAS * math.sqrt(2000)).all()


def test_no_key_is_used_twice(monkeypatch):
    keys = []
    monkeypatch.setattr(instahide, "new_key", lambda: keys.append(len(keys)) or (b"%032d" % len(keys)))
    hide, x, y, public = InstaHide(), images(20), labels(20), images(50, seed=1)
    for _ in range(3):
        hide.encrypt(x, y, public)
    hide.infer(x, public, 4)
    assert keys == list(range(7))


def test_all_encodings_of_all_epochs_differ_and_lie_in_no_order():
    hide, x, y, public = InstaHide(), images(40), labels(40, 40), images(50, seed=1)
    epochs = [hide.encrypt(x, y, public) for _ in range(5)]
    z = torch.cat([epoch.z for epoch in epochs])
    assert len(torch.unique(z.abs(), dim=0)) == len(z)
    patterns = torch.sign(z).to(torch.int8)
    assert len(torch.unique(patterns, dim=0)) == len(z)
    in_place = sum(int((epoch.labels[range(40), range(40)] > 0).sum()) for epoch in epochs)
    assert in_place < 60  # of 200, 10 expected: two images of forty a row; unshuffled it would be 200


def test_inference_mixes_the_image_with_public_ones_alone_and_makes_it_the_heaviest():
    for hide in SETTINGS:
        key = drawn(hide, 300, alone=True)
        assert torch.equal(key.private, torch.arange(300)[:, None]) and key.public.shape == (300, hide.k - 1)
        assert torch.equal(key.coefficients.argmax(dim=1), torch.zeros(300, dtype=torch.int64))
        assert hide.infer(images(4), images(50, seed=1), 3).shape == (3, 4, 40)


@pytest.mark.parametrize("x", [torch.rand(5, 40), images(5) + 0.1, torch.zeros(5, 40)], ids=["unit", "off", "constant"])
def test_images_that_signs_do_not_hide_are_refused(x):
    hide, good = InstaHide(), images(5).to(x.dtype)
    public = images(50, seed=1).to(x.dtype)
    with pytest.raises(InputError, match="mean 0"):
        hide.encrypt(x, labels(5), public)
    with pytest.raises(InputError, match="mean 0"):
        hide.infer(x, public)
    with pytest.raises(InputError, match="mean 0"):
        hide.encrypt(good, labels(5), x.repeat(4, 1))


def test_the_signs_of_pixels_in_0_1_hide_nothing():
    """Why they are refused: the absolute value of such an encoding is its mixture."""
    x, public = torch.rand(5, 40), torch.rand(50, 40)
    key = drawn(InstaHide(), 5, 40)
    torch.testing.assert_close(apply(key, x, None, public).z.abs(), apply(key, x, None, public).z * key.signs)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"k": 2}, "k"),
        ({"k": 9}, "k"),
        ({"k": 4.0}, "k"),
        ({"mixing": "outside"}, "mixing"),
        ({"bound": 0.3}, "bound"),
        ({"bound": 1.1}, "bound"),
        ({"least": -0.1}, "least"),
        ({"least": 0.7, "bound": 0.4}, "least"),
    ],
)
def test_settings_that_make_no_mixture_are_refused(wrong, name):
    with pytest.raises(InputError) as caught:
        InstaHide(**wrong)
    assert caught.value.name == name


def test_shapes_that_do_not_fit_are_refused():
    x, y, public = images(10), labels(10), images(50, seed=1)
    wrong = [{"x": x[:1], "y": y[:1]}, {"y": y[:9]}, {"y": y.long()}, {"x": x * torch.inf}]
    for change in [*wrong, *({"public": one} for one in (None, public[:, :39], public[:1]))]:
        with pytest.raises(InputError):
            InstaHide().encrypt(**({"x": x, "y": y, "public": public} | change))
    with pytest.raises(InputError):
        InstaHide(mixing="inside").encrypt(x[:3], y[:3])
    with pytest.raises(InputError):
        InstaHide().infer(x, public, 0)


def test_training_without_hiding_is_sgd_on_the_cross_entropy():
    """Against torch.optim.SGD on torch.nn modules."""
    architecture = Architecture("dense", (1, 4, 10), (Dense(6), Dense(3)))
    start, x, y = initial(architecture, 0, torch.float64), images(20), labels(20)
    found = fit(start, x, y, epochs=1, lr=0.1, batch_size=8, seed=3)
    module = torch.nn.Sequential(torch.nn.Linear(40, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3)).double()
    with torch.no_grad():
        for layer, weight, bias in zip((module[0], module[2]), start.weights, start.biases, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    for index in batches(20, 8, 3, 3):
        optimiser.zero_grad()
        functional.cross_entropy(module(x[index]), y[index]).backward()
        optimiser.step()
    torch.testing.assert_close(found.weights[0], module[0].weight.detach(), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.biases[1], module[2].bias.detach(), atol=1e-9, rtol=0)


def test_a_network_learns_digits_from_encodings_alone():
    """Far above chance, which is 10%, and below the same budget in the clear."""
    train, test = Digits().load()
    architecture = Architecture("dense", (1, 8, 8), (Dense(64), Dense(10)))
    keep = train.x.std(dim=1) > 0
    x, y = centred(train.x[keep][:900]), functional.one_hot(train.y[keep][:900], 10).to(torch.float64)
    public, hide = centred(train.x[keep][900:]), InstaHide()
    start, inputs = initial(architecture, 0, torch.float64), centred(test.x)
    hidden = fit(start, x, y, epochs=25, lr=0.05, hide=hide, public=public)
    plain = fit(start, x, y, epochs=25, lr=0.05)
    rates = [float((p.argmax(dim=1) == test.y).double().mean()) for p in
             (predict(hidden, hide, inputs, public, 5), plain.probabilities(inputs))]  # fmt: skip
    assert 0.4 < rates[0] < rates[1] and rates[1] > 0.9


def test_leakage_says_what_the_attacks_find():
    for word in ("not encryption", "grouped", "candidate", "Labels", "inference is not safe"):
        assert word in LEAKAGE
    assert repr(drawn(InstaHide(), 3)) == "Key(rows=3)"
