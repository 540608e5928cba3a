"""Low-quality data against oracles: wrong labels, shuffled pixels and grey crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.low_quality import evasive, grey_crops, mislabelled, random_labels, shuffled_pixels


def probabilities(n: int = 60, classes: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet([0.4] * classes, n))


def test_mislabelled_is_any_other_class_alike():
    y = torch.arange(8000) % 10
    found = mislabelled(y, 10, 1)
    assert not bool((found == y).any())
    counts = torch.bincount((found - y) % 10, minlength=10)[1:]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    assert torch.equal(found, mislabelled(y, 10, 1)) and not torch.equal(found, mislabelled(y, 10, 2))
    with pytest.raises(InputError, match=r"low_quality\.y"):
        mislabelled(y, 9, 1)


def test_random_labels_do_not_follow_anything():
    counts = torch.bincount(random_labels(5000, 10, 3), minlength=10)
    assert len(counts) == 10 and stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_shuffled_pixels_keep_each_rows_values_and_no_order():
    x = torch.arange(200.0).repeat(5, 1)
    found = shuffled_pixels(x, 0)
    assert torch.equal(found.sort(dim=1).values, x)
    assert len({tuple(row) for row in found.tolist()}) == 5
    assert max(abs(stats.spearmanr(row, x[0]).statistic) for row in found) < 0.4
    assert torch.equal(found, shuffled_pixels(x, 0))


def test_grey_crops_are_the_middle_of_the_luma():
    x = torch.from_numpy(np.random.default_rng(0).random((3, 3 * 8 * 8)))
    found = grey_crops(x, 4)
    planes = x.numpy().reshape(3, 3, 8, 8)
    for image in range(3):
        for row in range(4):
            for column in range(4):
                red, green, blue = planes[image, :, row + 2, column + 2]
                assert float(found[image, 4 * row + column]) == pytest.approx(
                    0.299 * red + 0.587 * green + 0.114 * blue
                )
    for side, shape in ((9, 192), (0, 192), (4, 190)):
        with pytest.raises(InputError, match=r"low_quality\.side"):
            grey_crops(torch.zeros(2, shape), side)


def test_evasive_labels_are_the_models_own_error_or_second_class():
    p, y = probabilities(300, 6), torch.arange(300) % 6
    found = evasive(p, y)
    for row in range(300):
        ranked = sorted(range(6), key=lambda c: -float(p[row, c]))
        assert int(found[row]) == (ranked[0] if ranked[0] != int(y[row]) else ranked[1])
    with pytest.raises(InputError, match=r"low_quality\.p"):
        evasive(p[:-1], y)
