"""Values of linear and logistic regression, relevance and diversity are within their stated errors, and not by far."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from regressions import LINEAR, LOGISTIC, problem
from three import private, run

from mpc_appraisal import Dataset
from mpc_appraisal.appraisal.norms import published_norms, shared_rows, with_norms, with_spread
from mpc_appraisal.appraisal.plan import DataOwnerInput, MethodInput, ModelOwnerInput, Plan
from mpc_appraisal.appraisal.program import mixed_rows
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.methods import (
    Diversity,
    Facts,
    Finetuning,
    GradientNorm,
    Influence,
    InfluenceError,
    Relevance,
    plaintext,
)
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import refit
from mpc_appraisal.release.accuracy import NO_NORMS, OTHER_MODEL, error_bound, grid

L2 = 0.02
METHODS = (GradientNorm(), Influence(), InfluenceError())


def announced(method, model, train, test, own) -> tuple[Facts, dict[str, torch.Tensor]]:
    """The facts as both owners announce them, and the model owner's tensors."""
    owned, plan = method.prepare(model, train, test), Plan((method,), model.l2, 0, "", fit=None, model=type(model))
    buyer, seller = ModelOwnerInput(train, test), DataOwnerInput((own,))
    norms = {
        MODEL_OWNER: published_norms(MODEL_OWNER, buyer, model.theta, {method.name: MethodInput(owned)}, plan),
        DATA_OWNER: published_norms(DATA_OWNER, seller, None, {}, plan),
    }
    bound = max(norms[role]["row_norm"] for role in norms) * norms[MODEL_OWNER]["weight_norm"]
    facts = {"own": Facts.of(model, train, test, own)}
    return with_spread(with_norms(facts, norms, bound), norms)["own"], owned


def ratio(method, model, train, test, own, repeats: int = 2) -> float:
    """The largest error of the value on shares in parts of the stated one."""
    facts, owned = announced(method, model, train, test, own)
    bound, bits = max(facts.logit_bound, 1.0) * method.logit_growth, []
    x, y = with_bias(own.x.double()), own.targets(facts.outputs)
    if shared_rows((method,), facts) < own.rows:
        triangle = mixed_rows(own)
        x, y = triangle[:, :-1], triangle[:, -1:]

    def program(engine):
        tensors = {key: private(engine, 0, value, bound) for key, value in owned.items()}
        rows = [private(engine, 1, part, bound) for part in (x, y)]
        score = method.score(tensors, *rows, facts).to_bits(grid(method, facts))
        bits.append(score.bits)
        return score.reshape(1).share

    right, stated = plaintext(method, model, train, test, own)[0], error_bound(method, facts, "fast")
    found = []
    for _ in range(repeats):
        done = run(program)
        opened = (done.results[0] + done.results[1]).item() / 2.0 ** bits[-1]
        found.append(abs(method.value(opened, facts) - right))
    print(f"{method.name} {own.name}: off by {max(found):.1e}, stated {stated.value:.1e}, value {right:.3g}")
    return max(found) / stated.value


def coarse(model, rows: int, seed: int) -> Dataset:
    """Rows of one repeated value, whose rounding has one sign in all of them."""
    x = (problem(model, rows, seed, 6).x > 0).double() * 0.1
    y = x.sum(1) * 1.7 - 0.4
    name = f"coarse {seed}"
    return Dataset(x, (y > 0.1).long(), 2, name) if model is LOGISTIC else Dataset(x, y, 1, name)


@pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda model: model.name)
def test_values_of_both_models_are_within_their_errors(model):
    ratios = {method: [] for method in METHODS}
    for make in (problem, coarse):
        train, test, large, small = (make(model, n, seed) for n, seed in ((60, 1), (40, 2), (150, 3), (3, 4)))
        fitted = refit(train, L2, 1e-7, model)
        for method in METHODS:
            ratios[method] += [ratio(method, fitted, train, test, own, 1) for own in (large, small)]
    for method, found in ratios.items():
        assert max(found) <= 1.0, method
        assert max(found) > 1e-3, method  # the stated error is no more than a thousand times the largest that was seen


@pytest.mark.parametrize("kind", [Relevance, Diversity])
def test_relevance_and_diversity_are_within_their_errors(kind):
    learn, _ = Digits().load()
    train, r = learn.subset(range(200)), np.random.default_rng(0)
    model = SoftmaxRegression(torch.zeros(65, 10, dtype=torch.float64), L2)
    sets = [learn.subset(range(200, 500)), learn.subset(range(500, 503)), train]
    found = [ratio(kind(k), model, train, None, own, 1) for own in sets for k in (1, 5)]
    flat = [Dataset(torch.from_numpy(np.round(r.random((n, 6)), 1)), torch.zeros(n).long(), 2) for n in (80, 400)]
    bare = SoftmaxRegression(torch.zeros(7, 2, dtype=torch.float64), L2)
    found += [ratio(kind(k), bare, flat[0], None, flat[1], 1) for k in (2, 6)]
    assert max(found) <= 1.0 and max(found) > 1e-3


def test_without_announced_norms_there_is_no_bound():
    facts = Facts(4, 1, 60, 40, 50, L2, 3.0, 3.0, 5.0, link="identity", target=4.0)
    assert error_bound(Influence(), facts, "fast").note == NO_NORMS
    assert error_bound(GradientNorm(), facts, "fast").value > 0
    for method in (GradientNorm(), Relevance()):
        assert error_bound(method, Facts(4, 2, 60, 40, 50, L2), "fast").note == NO_NORMS
    assert error_bound(Finetuning(), facts, "fast").note == OTHER_MODEL
