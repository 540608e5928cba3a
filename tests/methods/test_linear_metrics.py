"""Metrics of linear and logistic regression, against autograd through theta and refits by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import regressions
import torch
from regressions import LINEAR, LOGISTIC, problem
from torch.nn.functional import binary_cross_entropy_with_logits

from mpc_appraisal import appraise
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Coalitions, Influence, InfluenceError, Retraining, plaintext
from mpc_appraisal.methods.metrics import METRICS, Measure, sentences
from mpc_appraisal.models.training import refit
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.report import write_report
from mpc_appraisal.reporting.result import Result

L2 = 0.02


def absolute(predictions, targets):
    """A smooth absolute error of the model owner's own; the predictions (n, 1) are numbers."""
    return ((predictions[:, 0] - targets).square() + 0.01).sqrt().mean()


def certain(predictions, targets):
    """What the model owner's own function sees of two classes: their probabilities (n, 2)."""
    return (1 - predictions[torch.arange(len(targets)), targets]).mean()


def outputs(theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    return (with_bias(data.x) @ theta)[:, 0]


def balanced(theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    losses = binary_cross_entropy_with_logits(outputs(theta, data), data.y.double(), reduction="none")
    return (losses[data.y == 0].mean() + losses[data.y == 1].mean()) / 2


def misordered(theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    z = outputs(theta, data)
    return (1 / (1 + (4 * (z[data.y == 1][:, None] - z[data.y == 0][None, :])).exp())).mean()


def wrong(theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    p = 1 / (1 + (-outputs(theta, data)).exp())
    return torch.where(data.y == 1, 1 - p, p).mean()


ORACLES = {
    (LINEAR, "squared_error"): lambda theta, data: (outputs(theta, data) - data.y).square().mean(),
    (LINEAR, f"{__name__}:absolute"): lambda theta, data: absolute(outputs(theta, data)[:, None], data.y),
    (LOGISTIC, "squared_error"): lambda theta, data: (
        2 * (1 / (1 + (-outputs(theta, data)).exp()) - data.y).square().mean()
    ),
    (LOGISTIC, "class_weighted"): balanced,
    (LOGISTIC, "auroc"): misordered,
    (LOGISTIC, f"{__name__}:certain"): wrong,
}
CASES = pytest.mark.parametrize(("model", "name"), ORACLES, ids=lambda one: getattr(one, "name", one))


def world(model):
    train, test, candidate = (problem(model, n, seed, noise=1.0) for n, seed in ((60, 1), (40, 2), (30, 3)))
    return refit(train, L2, 1e-9, model), train, test, candidate


@CASES
def test_influence_is_the_dense_inverse_times_the_gradient_of_the_metric(model, name):
    fitted, train, test, candidate = world(model)
    leaf = fitted.theta.clone().requires_grad_()
    slope = torch.autograd.grad(ORACLES[model, name](leaf, test), leaf)[0][:, 0]
    hessian = regressions.hessian(model, fitted.theta, train) + 2 * L2 * torch.eye(5, dtype=torch.float64)
    rows = regressions.gradient(model, fitted.theta, candidate)[:, 0]
    value, _ = plaintext(Influence(metric=name), fitted, train, test, candidate)
    assert value == pytest.approx((rows @ torch.linalg.solve(hessian, slope)).item(), rel=1e-6)


@CASES
def test_retraining_and_coalitions_count_the_fall_of_the_metric(model, name):
    fitted, train, test, candidate = world(model)
    both = Dataset(torch.cat([train.x, candidate.x]), torch.cat([train.y, candidate.y]), train.classes, "both")
    after, oracle, measure = refit(both, L2, 1e-9, model), ORACLES[model, name], Measure(name)
    fall = (oracle(fitted.theta, test) - oracle(after.theta, test)).item()
    assert Retraining(train, test, L2, fitted, 1e-9).value(candidate, measure) == pytest.approx(fall, abs=1e-7)
    game = Coalitions(train, test, [candidate], L2, fitted, 1e-9, measure)
    assert game.value([0]) == pytest.approx(fall, abs=1e-7)


def test_the_default_is_the_models_own_loss():
    fitted, train, test, candidate = world(LINEAR)
    own, stated = (plaintext(Influence(metric=m), fitted, train, test, candidate)[0] for m in METRICS[:2])
    assert own == pytest.approx(stated, rel=1e-7)
    assert Measure().value(fitted, test) == pytest.approx(Measure("squared_error").value(fitted, test), rel=1e-12)


@pytest.mark.parametrize("model", [LINEAR, LOGISTIC])
def test_the_squared_error_of_numbers_is_no_brier_score(model, tmp_path):
    _, train, test, candidate = world(model)
    methods, numbers = [Influence(metric="squared_error"), InfluenceError(metric="squared_error")], model is LINEAR
    plan = Plan(tuple(methods), L2, 0, "", fit=None, model=model)
    assert plan.methods == tuple(methods)
    result = appraise(candidate, train=train, test=test, method=methods, model=model.name, l2=L2, session="plain")
    private = Result(replace(record, session="spawn") for record in result)  # cards are those of private sessions
    files = [
        path for path in (*write_report(result, tmp_path), *write_cards(private, tmp_path)) if path.suffix == ".md"
    ]
    assert len(files) == 2
    texts = [*(method.opens for method in plan.methods), *sentences(plan.methods, numbers)]
    for text in [*texts, *(" ".join(path.read_text().split()) for path in files)]:
        assert "mean squared error" in text and ("Brier" not in text) == numbers, text


@pytest.mark.parametrize("name", ["class_weighted", "worst_group", "auroc"])
def test_metrics_of_classes_are_refused_for_numbers(name):
    fitted, train, test, candidate = world(LINEAR)
    with pytest.raises(InputError, match=f"appraisal.metric.*{name}.*squared_error"):
        plaintext(Influence(metric=name), fitted, train, test, candidate)
