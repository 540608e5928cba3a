"""Rows linked across epochs: against autograd, an exhaustive search, and chance."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import cross_entropy

from mpc_appraisal.attacks.rtas import linking
from mpc_appraisal.attacks.rtas.view import View, seen
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import with_bias


def test_the_values_of_training_are_those_of_sgd_by_autograd(private):
    x, y = private.x[:64].double(), private.y[:64]
    found = linking.sights(x, y, 10, 2, 64, 0.1, 0)
    weights = torch.zeros(65, 10, dtype=torch.float64, requires_grad=True)
    cross_entropy(with_bias(x) @ weights, y).backward()
    assert float(found[0].abs().max()) == 0
    assert torch.allclose(found[1], with_bias(x) @ (-0.1 * weights.grad), atol=1e-12)


def test_rows_are_linked_across_epochs_better_as_the_model_settles(private):
    x, y = private.x[:300], private.y[:300]
    sights = linking.sights(x, y, 10, 8, 32, 0.1, 0)
    share = {}
    for epoch in (0, 6):
        views = [seen(sights[turn], "rows", turn) for turn in (epoch, epoch + 1)]
        share[epoch] = linking.linked(linking.link(*views), *views)
    assert share[6] > 0.95 > 0.3 > share[0]
    one = linking.sights(x, (y == 0).long(), 2, 8, 32, 0.1, 0)
    views = [seen(one[turn], "rows", turn) for turn in (6, 7)]
    assert linking.linked(linking.link(*views), *views) < 0.3  # one logit a row
    mixed = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert linking.linked(mixed, *views) < 0.05  # what a guess links


def test_one_matching_is_the_nearest_of_all_permutations():
    draw = torch.Generator().manual_seed(4)
    for columns in (1, 3):
        u, v = (torch.randn(6, columns, generator=draw, dtype=torch.float64) for _ in range(2))
        before, after = (View(z, torch.arange(6), "rows") for z in (u, v))
        cost = torch.cdist(u, v, p=1)
        best = min(sum(cost[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(6)))
        found = linking.link(before, after, rounds=1)
        assert sorted(found.tolist()) == list(range(6))
        assert float(cost[torch.arange(6), found].sum()) == pytest.approx(float(best), abs=1e-12)


def test_a_movement_common_to_all_rows_is_followed(models, private):
    """A part of each logit goes over to the next: the nearest rows are then often wrong ones, and following helps."""
    z = models[0].logits(private.x[:300])
    before, after = seen(z, "rows", 0), seen(0.6 * z + 0.6 * z.roll(1, dims=1), "rows", 1)
    first, last = (linking.linked(linking.link(before, after, rounds), before, after) for rounds in (1, 12))
    assert last > first + 0.05
    cost = torch.cdist(before.rows, after.rows, p=1).numpy()
    assert torch.equal(linking.link(before, after, 1), torch.from_numpy(linear_sum_assignment(cost)[1]))


def test_views_of_different_rows_are_not_linked():
    z = torch.randn(5, 3, dtype=torch.float64)
    with pytest.raises(InputError):
        linking.link(seen(z, "rows", 0), seen(z[:4], "rows", 1))
