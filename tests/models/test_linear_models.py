"""Linear and logistic regression: fits against scikit-learn, losses and gradients against autograd, files of models."""

from __future__ import annotations

import numpy as np
import pytest
import regressions
import torch
from regressions import LINEAR, LOGISTIC, problem
from sklearn import linear_model

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models import linear_regression, logistic_regression
from mpc_appraisal.models.links import LINKS
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import accuracy, fit, mean_loss, model_of, objective, refit, utility

BOTH = pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda model: model.name)


def test_linear_regression_is_scikit_learns_ridge():
    train, l2 = problem(LINEAR, 50, 1), 0.03
    theirs = linear_model.Ridge(alpha=50 * l2, fit_intercept=False).fit(with_bias(train.x), train.y)
    assert np.abs(linear_regression.fit(train, l2).theta[:, 0].numpy() - theirs.coef_).max() < 1e-10


def test_logistic_regression_is_scikit_learns():
    train, l2 = problem(LOGISTIC, 60, 2), 0.03
    theirs = linear_model.LogisticRegression(C=1 / (2 * l2 * 60), fit_intercept=False, tol=1e-10, max_iter=10_000)
    theirs.fit(with_bias(train.x).numpy(), train.y.numpy())
    assert np.abs(logistic_regression.fit(train, l2).theta[:, 0].numpy() - theirs.coef_[0]).max() < 1e-4


def test_logistic_regression_is_softmax_regression_in_one_column():
    train = problem(LOGISTIC, 60, 3)
    one, two = logistic_regression.fit(train, 0.01, 1e-9).theta, fit(train, 0.02, 1e-9).theta
    assert (two - torch.cat([-one / 2, one / 2], 1)).abs().max() < 1e-6


@BOTH
def test_loss_and_gradient_are_autograds(model):
    data, theta = problem(model, 20, 4), torch.randn(5, 1, dtype=torch.float64)
    assert mean_loss(model(theta, 0.0), data) == pytest.approx(regressions.loss(model, theta, data).item(), abs=1e-12)
    value, slope = objective(theta, with_bias(data.x), data.y, 0.3, model.link)
    theirs = regressions.gradient(model, theta, data) + 0.6 * theta
    assert (slope - theirs).abs().max() < 1e-12
    assert value.item() == pytest.approx(
        regressions.loss(model, theta, data).item() + 0.3 * theta.square().sum().item()
    )


@pytest.mark.parametrize("name", LINKS)
def test_second_derivatives_and_the_rise_of_the_loss_are_autograds(name):
    link, k = LINKS[name], 3 if name == "softmax" else 1
    generator = torch.Generator().manual_seed(5)
    z, after, s = (torch.randn(6, k, dtype=torch.float64, generator=generator) for _ in range(3))
    y = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2]] if k == 3 else torch.tensor([[0.0, 1.0] * 3]).double().t()
    product = torch.autograd.functional.hvp(lambda v: link.loss(v, y).sum(), z, s)[1]
    assert (link.curved(z, s) - product).abs().max() < 1e-12
    diagonal = torch.autograd.functional.hessian(lambda v: link.loss(v, y).sum(), z).reshape(6 * k, 6 * k).diagonal()
    assert (link.curvature(z).reshape(-1) - diagonal).abs().max() < 1e-12
    rise = (link.loss(after, y) - link.loss(z, y)).sum()
    assert (link.rise(z, after, y) - rise).abs() < 1e-12


@pytest.mark.parametrize("name", ["softmax", "logistic"])
def test_higher_derivatives_along_a_direction_are_autograds(name):
    link, k = LINKS[name], 3 if name == "softmax" else 1
    z, d = torch.randn(2, 6, k, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    y = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1, 2]] if k == 3 else torch.ones(6, 1, dtype=torch.float64)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    value, expected = link.loss(z + t * d, y).sum(), []
    for _ in range(4):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
        expected.append(value.item())
    assert [each.item() for each in link.along(z, d)] == pytest.approx(expected[1:], rel=1e-9)


def test_columns_that_depend_on_one_another_are_named():
    data = problem(LINEAR, 30, 6)
    double = Dataset(torch.cat([data.x, data.x[:, :1]], 1), data.y, 1, "double")
    with pytest.raises(AppraisalError, match="double.*model.l2"):
        linear_regression.fit(double, 0.0)
    assert linear_regression.fit(double, 1e-3).theta.isfinite().all()


def test_each_fit_takes_its_own_target_alone():
    numbers, two = problem(LINEAR, 20, 7), problem(LOGISTIC, 20, 7)
    three = Dataset(two.x, torch.arange(20) % 3, 3, "three")
    for trains, data in ((fit, numbers), (linear_regression.fit, two), (logistic_regression.fit, three)):
        with pytest.raises(InputError, match=data.name):
            trains(data, 0.01)
    assert model_of(fit) is SoftmaxRegression and model_of(linear_regression.fit) is LINEAR


@BOTH
def test_the_utility_is_the_fall_of_the_test_loss(model):
    train, test, candidate = (problem(model, n, seed) for n, seed in ((30, 8), (25, 9), (20, 10)))
    before = refit(train, 0.01, 1e-8, model)
    rows = torch.cat([train.x, candidate.x]), torch.cat([train.y, candidate.y])
    after = refit(Dataset(*rows, train.classes, "both"), 0.01, 1e-8, model)
    fall = regressions.loss(model, before.theta, test) - regressions.loss(model, after.theta, test)
    assert utility(train, test, candidate, 0.01, before, 1e-8) == pytest.approx(fall.item(), abs=1e-9)


@BOTH
def test_a_model_is_saved_and_loaded(model, tmp_path):
    theta = torch.arange(1.0, 6.0, dtype=torch.float64).reshape(5, 1)
    model(theta, 0.02).save(tmp_path / "model.npz")
    again = model.load(tmp_path / "model.npz")
    assert torch.equal(again.theta, theta) and again.l2 == 0.02 and again.features == 4
    np.savez(tmp_path / "theirs.npz", coef=np.array([[1.0, 2, 3, 4]]), intercept=np.array([5.0]), l2=0.02)
    assert torch.equal(model.load(tmp_path / "theirs.npz").theta, theta)
    with pytest.raises(InputError, match="one column"):
        model(torch.zeros(5, 2, dtype=torch.float64), 0.1)
    np.savez(tmp_path / "bad.npz", coef=np.zeros((1, 4)), intercept=np.zeros(3), l2=0.02)
    with pytest.raises(InputError, match="party.model"):
        model.load(tmp_path / "bad.npz")


def test_accuracy_of_two_classes_in_one_column():
    data = problem(LOGISTIC, 40, 11)
    model = logistic_regression.fit(data, 1e-3)
    found = (model.logits(data.x)[:, 0].sigmoid() > 0.5).long()
    assert accuracy(model, data) == (found == data.y).double().mean().item() > 0.8
