"""RTAS-fast with known rows: the layer and the inputs that outputs give away, on digits and MNIST."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from mpc_appraisal.attacks.rtas import known_rows
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import ENVIRONMENT, Mnist
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

ROOT = Path(os.environ.get(ENVIRONMENT) or Path(__file__).resolve().parents[3] / "shared" / "data")
ULP = 2.0**-PRECISION_BITS


def rounded(z: np.ndarray) -> np.ndarray:
    return np.rint(z / ULP) * ULP


def test_filters_and_their_matrix_are_those_of_a_convolution(digits):
    x = digits[1].x[:30]
    f = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = conv2d(x.reshape(-1, 1, 8, 8), f, stride=2)
    assert np.allclose(known_rows.filters(x.reshape(-1, 8, 8).numpy(), z.numpy(), 3, 2), f[:, 0].numpy(), atol=1e-10)
    assert np.allclose(x.numpy() @ known_rows.matrix(f[:, 0].numpy(), 8, 2), z.reshape(30, -1).numpy(), atol=1e-12)


def test_one_known_image_behind_a_convolution_opens_all_others(digits, private):
    """Digits, 3 x 3 filters; every pixel of every image, from outputs in fixed point."""
    secret = np.random.default_rng(0).normal(size=(4, 3, 3))
    layer = known_rows.matrix(secret, 8, 1)
    one, truth = private.x[:1].numpy(), np.rint(digits[1].x[:10].numpy() * 16)
    found = known_rows.filters(one.reshape(1, 8, 8), rounded(one @ layer).reshape(1, 4, 6, 6), 3, 1)
    assert np.abs(found - secret).max() < 1e-3
    w = known_rows.matrix(found, 8, 1)
    assert np.array_equal(known_rows.pixels(w / 16, rounded(truth / 16 @ layer), 2.0**-10, 16), truth)
    blind = known_rows.matrix(np.random.default_rng(1).normal(size=(4, 3, 3)), 8, 1)  # no known image
    assert not known_rows.pixels(blind / 16, rounded(truth / 16 @ layer), 2.0**-10, 16).any()


def test_676_outputs_of_784_pixels_give_every_pixel():
    """MNIST and the paper's first layer: 4 filters 4 x 4, stride 2."""
    if not (ROOT / "mnist").is_dir():
        pytest.skip(f"no folder mnist under {ROOT}: set {ENVIRONMENT} to a folder with mnist/")
    train, test = Mnist(str(ROOT / "mnist")).load()
    layer = known_rows.matrix(np.random.default_rng(0).normal(size=(4, 4, 4)), 28, 2)
    one, truth = train.x[:1].double().numpy(), np.rint(test.x[:5].double().numpy() * 255)
    found = known_rows.filters(one.reshape(1, 28, 28), rounded(one @ layer).reshape(1, 4, 13, 13), 4, 2)
    w = known_rows.matrix(found, 28, 2)
    assert np.linalg.matrix_rank(w) == 676
    assert np.array_equal(known_rows.pixels(w / 255, rounded(truth / 255 @ layer), 2.0**-13), truth)


def test_of_normal_rows_m_outputs_tell_m_dimensions_and_of_digits_much_more(digits, private):
    draw = np.random.default_rng(0)
    pool, x = private.x.double().numpy(), digits[1].x[:200].double().numpy()
    share = {}
    for outputs in (1, 10, 30):
        layer = draw.normal(size=(64, outputs))
        w = known_rows.dense(pool[:300], rounded(pool[:300] @ layer))
        share[outputs] = known_rows.explained(known_rows.rows(w, rounded(x @ layer), pool), x, pool.mean(axis=0))
        normal = draw.normal(size=(4000, 64))
        w = known_rows.dense(normal[:300], normal[:300] @ layer)
        assert np.allclose(w, layer)
        answer = known_rows.rows(w, normal[2000:] @ layer, normal[:2000])
        theory = known_rows.explained(answer, normal[2000:], np.zeros(64))
        assert theory == pytest.approx(outputs / 64, abs=0.04)  # theorem 3.3: n - m dimensions are left
    assert share[1] < 0.15 and share[10] > 2 * 10 / 64 and share[30] > 0.8 > 30 / 64


def test_a_layer_known_in_part_tells_in_part(digits, private):
    draw = np.random.default_rng(1)
    pool, x, layer = private.x.double().numpy(), digits[1].x[:200].double().numpy(), draw.normal(size=(64, 30))
    z, mean, share = x @ layer, pool.mean(axis=0), []
    for known in (2, 10, 30, 100):
        w = known_rows.dense(pool[:known], pool[:known] @ layer)
        answer = known_rows.rows(w, z, pool, known_rows.noise(w, pool[:known], pool))
        share.append(known_rows.explained(answer, x, mean))
    assert share == sorted(share) and share[0] < 0.3 and share[-1] > 0.8
    blind = known_rows.rows(draw.normal(size=(64, 30)), z, pool)
    assert known_rows.explained(blind, x, mean) == 0  # no known row: worse than the mean image
    full = draw.normal(size=(64, 64))  # as many outputs as pixels: all of it
    assert np.allclose(known_rows.rows(full, x @ full, pool), x, atol=1e-3)


def test_known_rows_refuse_what_does_not_fit():
    x = np.ones((3, 64))
    for wrong in (
        lambda: known_rows.dense(x, np.ones((2, 5))),
        lambda: known_rows.filters(x.reshape(3, 8, 8), np.ones((3, 2, 5, 5)), 3, 1),
        lambda: known_rows.pixels(x.T, np.ones((1, 4)), 0.1),
    ):
        with pytest.raises(InputError):
            wrong()
