"""The methods for linear and logistic regression in the clear, against autograd, closed forms and retraining."""

from __future__ import annotations

from functools import partial

import pytest
import regressions
import torch
from regressions import LINEAR, LOGISTIC, problem

from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import (
    Coalitions,
    Facts,
    Finetuning,
    GradientNorm,
    Influence,
    InfluenceError,
    LeaveOneOut,
    Retraining,
    Shapley,
    plaintext,
)
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.models import linear_regression, logistic_regression
from mpc_appraisal.models.training import refit

BOTH = pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda model: model.name)
L2 = 0.02


def world(model):
    train, test, candidate = (problem(model, n, seed) for n, seed in ((60, 1), (40, 2), (30, 3)))
    return refit(train, L2, 1e-9, model), train, test, candidate


def rows_gradients(model, theta, data):
    """The gradient of each row's loss, (n, d + 1), by autograd."""
    found = [regressions.gradient(model, theta, data.subset([k]))[:, 0] for k in range(data.rows)]
    return torch.stack(found)


@BOTH
def test_gradient_norm_is_autograds(model):
    fitted, _, _, candidate = world(model)
    value, paper = plaintext(GradientNorm(), fitted, None, None, candidate)
    expected = rows_gradients(model, fitted.theta, candidate).sum(0).norm().item()
    assert paper == pytest.approx(expected, rel=1e-9) and value == -paper


@BOTH
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_influence_and_its_error_are_autograds(model, damping):
    fitted, train, test, candidate = world(model)
    theta = fitted.theta
    hessian = regressions.hessian(model, theta, train) + (2 * L2 + damping) * torch.eye(5, dtype=torch.float64)
    direction = torch.linalg.solve(hessian, regressions.gradient(model, theta, test)[:, 0])
    rows = rows_gradients(model, theta, candidate) @ direction
    value, _ = plaintext(Influence(damping), fitted, train, test, candidate)
    assert value == pytest.approx(rows.mean().item(), rel=1e-6)
    error, _ = plaintext(InfluenceError(damping), fitted, train, test, candidate)
    assert -error == pytest.approx((rows.std(correction=0) / 30**0.5).item(), rel=1e-6)


@BOTH
@pytest.mark.parametrize("batch", [None, 20])
def test_finetuning_is_gradient_descent_by_autograd(model, batch):
    fitted, train, test, candidate = world(model)
    method = Finetuning(steps=5, lr=0.1, batch_size=batch)
    theta = fitted.theta.clone()
    for own, theirs in method.schedule(Facts.of(fitted, train, test, candidate)):
        x, y = torch.cat([train.x[own], candidate.x[theirs]]), torch.cat([train.y[own], candidate.y[theirs]])
        slope = regressions.gradient(model, theta, Dataset(x, y, train.classes, "step"))
        theta = theta - 0.1 * (slope + 2 * L2 * theta)
    fall = regressions.loss(model, fitted.theta, test) - regressions.loss(model, theta, test)
    assert plaintext(method, fitted, train, test, candidate)[0] == pytest.approx(fall.item(), rel=1e-8)


def test_influence_of_linear_regression_has_its_closed_form():
    fitted, train, test, candidate = world(LINEAR)
    x, a, t = (with_bias(data.x) for data in (train, candidate, test))
    hessian = 2 * x.T @ x / 60 + 2 * L2 * torch.eye(5, dtype=torch.float64)
    slope = [2 * m.T @ (m @ fitted.theta[:, 0] - data.y) / data.rows for m, data in ((t, test), (a, candidate))]
    value, _ = plaintext(Influence(), fitted, train, test, candidate)
    assert value == pytest.approx((slope[0] @ torch.linalg.solve(hessian, slope[1])).item(), rel=1e-8)


@BOTH
def test_influence_orders_candidates_as_retraining_does(model):
    fitted, train, test, _ = world(model)
    retraining, found = Retraining(train, test, L2, fitted), []
    for seed in range(4, 12):
        clean = problem(model, 40, seed)
        noise = torch.rand(40, generator=torch.Generator().manual_seed(seed)) < (seed - 4) / 8
        wrong = -clean.y if model is LINEAR else 1 - clean.y
        candidate = Dataset(clean.x, torch.where(noise, wrong, clean.y), clean.classes, clean.name)
        found.append((plaintext(Influence(), fitted, train, test, candidate)[0], retraining.value(candidate)))
    ranks = torch.tensor(found).argsort(0).argsort(0).double()
    assert torch.corrcoef(ranks.T)[0, 1] > 0.8


@BOTH
def test_values_of_coalitions_are_those_of_refits(model):
    fitted, train, test, _ = world(model)
    players = [problem(model, 20, seed, name=f"p{seed}") for seed in (5, 6, 7)]
    given = None if model is LINEAR else fitted  # a numeric target says by itself which model it is for
    game = Coalitions(train, test, players, L2, given, 1e-9)
    retraining = Retraining(train, test, L2, given, 1e-9)
    for k, player in enumerate(players):
        assert game.value([k]) == pytest.approx(retraining.value(player), abs=1e-7)
    alone = LeaveOneOut().values(game).values
    assert alone["p5"] == pytest.approx(game.value([0, 1, 2]) - game.value([1, 2]), abs=1e-9)
    assert sum(Shapley().values(game).values.values()) == pytest.approx(game.value([0, 1, 2]), abs=1e-9)


@BOTH
def test_the_preflight_trusts_influence(model):
    train, test = (problem(model, rows, seed, 30, 1.0) for rows, seed in ((100, 1), (200, 2)))
    trains = {LINEAR: linear_regression.fit, LOGISTIC: logistic_regression.fit}[model]
    found = preflight(train, test, "influence", 0.1, partial(trains, l2=0.1), seeds=2, parts=6, search=True)
    (check,) = found.checks
    assert check.rank.mean > 0.8 and check.verdict == "trusted"
    assert check.pairs == (0 if model is LINEAR else 2)
    assert len(found.trials) > 1  # other l2 are tried with the same kind of model
