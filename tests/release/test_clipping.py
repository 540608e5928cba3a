"""Clipping of rows and of the influence direction: lengths as they are shared, what stays as it was, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from test_sensitivity import normal

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import with_bias
from mpc_appraisal.mpc.ring.fixed_point import encode
from mpc_appraisal.release.dp.clipping import clip_direction, clip_rows, clipped_share, radius, spread
from mpc_appraisal.release.dp.sensitivity import Bounds


def test_clipped_rows_are_within_the_norm_as_shared_and_others_untouched():
    x = torch.cat([normal(200, 30, seed=1) * torch.logspace(-3, 6, 200).to(torch.float64)[:, None], torch.zeros(1, 30)])
    out = clip_rows(x, 5.0)
    shared = with_bias(encode(out, "x").to(torch.float64) / 2**16)
    norms = torch.linalg.vector_norm(shared, dim=1)
    assert norms.max() <= 5.0 and norms.max() > 4.999
    short = torch.linalg.vector_norm(x, dim=1) <= radius(5.0, 30)
    assert 0 < short.sum() < len(x)
    assert torch.equal(out[short], x[short])
    cosine = torch.nn.functional.cosine_similarity(out[~short], x[~short])
    assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-12)
    assert clipped_share(x, 5.0) == (~short).double().mean().item()
    assert torch.equal(clip_rows(out, 5.0), out) or (clip_rows(out, 5.0) - out).abs().max() < 1e-14


def test_clipping_takes_float32_and_huge_and_tiny_rows():
    x = torch.tensor([[1e30, -1e30], [1e-30, 0.0]], dtype=torch.float32)
    out = clip_rows(x, 2.0)
    assert out.dtype == torch.float64
    assert torch.linalg.vector_norm(out[0]).item() == pytest.approx(radius(2.0, 2), rel=1e-12)
    assert torch.equal(out[1], x[1].double())
    huge = clip_rows(torch.tensor([[1e308, 1e308, 1e308]], dtype=torch.float64), 2.0)
    assert torch.linalg.vector_norm(huge).item() == pytest.approx(radius(2.0, 3), rel=1e-12)


@pytest.mark.parametrize("norm", [1.0, 0.0, -3.0, math.nan, math.inf, True, "5", None])
def test_a_norm_without_room_for_the_constant_feature_is_refused(norm):
    for make in (lambda: clip_rows(torch.ones(1, 1), norm), lambda: Bounds(norm)):
        with pytest.raises(InputError, match="release.row_norm: got .*; expected a finite norm above 1"):
            make()


def test_a_norm_of_no_more_than_rounding_is_refused():
    with pytest.raises(InputError, match="leaves 1000000 features more than"):
        radius(1.00001, 1_000_000)


@pytest.mark.parametrize("x", [torch.ones(3), torch.ones(3, 2, dtype=torch.int64), torch.tensor([[math.nan, 1.0]])])
def test_what_is_no_matrix_of_finite_numbers_is_not_clipped(x):
    with pytest.raises(InputError, match="^x: "):
        clip_rows(x, 3.0)
    with pytest.raises(InputError, match="^direction: "):
        clip_direction(x, 3.0)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_a_clipped_direction_keeps_its_spread_and_its_values(size):
    v = size * normal(20, 5, seed=2) + 7.0
    out = clip_direction(v, 2.0)
    brute = max((v[:, i] - v[:, j]).norm().item() for i in range(5) for j in range(5))
    assert spread(v) == pytest.approx(brute, rel=1e-12)
    assert spread(encode(out, "v").to(torch.float64) / 2**16) <= 2.0
    assert out.sum(1).abs().max() < 1e-10
    factor = min(1.0, 2.0 / brute)
    assert spread(out) == pytest.approx(factor * brute, rel=1e-3)
    gradient = normal(20, 5, seed=3)
    gradient -= gradient.mean(1, keepdim=True)  # as every sum of x (p - y)' is
    assert (out * gradient).sum() == pytest.approx(factor * (v * gradient).sum().item(), rel=1e-3)
    with pytest.raises(InputError, match="release.spread: got 0"):
        clip_direction(v, 0)
