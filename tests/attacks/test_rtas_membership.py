"""Membership by exact logits on real digits: who can test it, and how often a hit is chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from logits import one_logit
from sklearn.metrics import roc_auc_score

from mpc_appraisal.attacks.rtas import membership
from mpc_appraisal.attacks.rtas.view import HIDDEN, seen
from mpc_appraisal.common.errors import InputError


@pytest.mark.parametrize("hidden", HIDDEN)
def test_members_are_told_by_who_knows_the_model(models, private, hidden):
    inside, outside = private.x[:400], private.x[400:800]
    view = seen(models[0].logits(inside), hidden, 0)
    near, far = (membership.members(view, models[0].logits(x)) for x in (inside, outside))
    assert membership.accuracy(near, far) > (0.99 if hidden == "entries" else 1 - 1e-12)
    foreign = [membership.distances(view, models[1].logits(x)) for x in (inside, outside)]
    assert membership.accuracy(*(d < membership.TOLERANCE for d in foreign)) == pytest.approx(0.5, abs=0.01)
    assert membership.ranked(*foreign) < 0.85  # the model unknown: similar rows at most


def test_chance_hits_of_one_logit_are_as_many_as_the_formula_says(models, private):
    inside, outside = one_logit(models[2], private.x[:500]), one_logit(models[2], private.x[500:])
    view, tolerance = seen(inside, "entries", 0), 2.0**-9
    hits = membership.members(view, outside, tolerance)
    wide = 2.0**-3  # n p(v) from a window around v that holds many values
    around = ((outside - inside.reshape(-1)).abs() < wide).double().sum(dim=1) / (2 * wide)
    expected = float((1 - (-2 * tolerance * around).exp()).mean())
    assert 0 < float(hits.double().mean()) == pytest.approx(expected, abs=4 * (expected / len(outside)) ** 0.5)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_distances_are_those_of_a_search_one_by_one(hidden):
    draw = torch.Generator().manual_seed(1)
    z, others = (torch.randn(n, 3, generator=draw, dtype=torch.float64) for n in (6, 4))
    view = seen(z, hidden, 2)
    slow = []
    for row in others.tolist():
        if hidden == "entries":
            slow.append(max(min(abs(v - c) for v in view.values.tolist()) for c in row))
        else:
            key = sorted if hidden == "columns" else list
            slow.append(min(max(map(abs, np.subtract(key(v), key(row)))) for v in view.values.tolist()))
    assert membership.distances(view, others).tolist() == pytest.approx(slow, abs=1e-12)


def test_ranks_are_the_area_under_the_curve():
    near, far = torch.tensor([0.1, 0.4, 0.4, 0.7]), torch.tensor([0.4, 0.5, 0.9])
    area = roc_auc_score([1] * 4 + [0] * 3, (-torch.cat([near, far])).tolist())
    assert membership.ranked(near, far) == pytest.approx(area)


def test_membership_refuses_rows_of_another_width(models, private):
    view = seen(models[0].logits(private.x), "rows", 0)
    for wrong in (
        lambda: membership.distances(view, view.values[:, :9]),
        lambda: membership.members(view, view.values, 0),
    ):
        with pytest.raises(InputError):
            wrong()
