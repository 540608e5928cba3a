"""Linear and logistic regression with noise, on shares of two owners in one process.

Neighbours go through the clipped and private program with the same masks and without noise: what is opened differs by
no more than the stated sensitivity. A model owner that shares a longer column than it announced is found.
"""

from __future__ import annotations

import itertools
import math

import pytest
import three
import torch
from regressions import LINEAR, LOGISTIC
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from test_release_circuits import session_of
from test_rounding import Silent
from three import run

from mpc_appraisal.appraisal.plan import MethodInput, Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.errors import BoundError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Facts, GradientNorm, Influence
from mpc_appraisal.release.dp.clipping import clipped

torch.set_num_threads(1)
R, T, W, D, FEATURES = 8.0, 4.0, 0.5, 3.0, 4
METHODS = pytest.mark.parametrize("method", [GradientNorm(), Influence()], ids=lambda m: m.name)
MODELS = pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda m: m.name)


def column(norm: float, *entries: float) -> torch.Tensor:
    v = torch.zeros(FEATURES + 1, 1, dtype=torch.float64)
    v[: len(entries), 0] = torch.tensor(entries, dtype=torch.float64)
    return v * norm / v.norm()


def neighbours(model, method, rows: int) -> list[Dataset]:
    """Equal rows of the largest gradient, longer than R and with targets beyond T, and the same with one turned."""
    x = torch.zeros(rows, FEATURES, dtype=torch.float64)
    x[:, 0] = 30.0
    other = x.clone()
    if model is LOGISTIC:  # the model is sure of class 1, so that every row of class 0 has the largest gradient
        y = torch.zeros(rows, dtype=torch.int64)
        other[0], changed = -other[0], y
    else:
        y = torch.full((rows,), -2.5 * T, dtype=torch.float64)
        changed = y.clone()
        other[0], changed[0] = x[0] * 0.01, 3 * T  # short, so that it has most of the opposite gradient
    return [Dataset(a, b, 1 if model is LINEAR else 2, "one") for a, b in ((x, y), (other, changed))]


def facts_of(model, rows: int, bound: float, spread: float) -> Facts:
    target = T if model is LINEAR else 0.0
    return Facts(
        FEATURES, 1 if model is LINEAR else 2, 20, 20, rows, 1e-2, R, R, bound, spread, model.link.name, target
    )


def opened(model, method, data: Dataset, weights: torch.Tensor, facts: Facts, release) -> float:
    """What both owners' program opens, with the model owner's `weights` and a direction along the rows."""
    owned = {"weights": weights, "direction": column(D * 0.99, 1)}
    owned = {k: v for k, v in owned.items() if k == "weights" or isinstance(method, Influence)}
    plan = Plan((method,), 1e-2, 0, "", None, release=release, model=model)
    own = {"one": clipped(data, release.row_norm, facts.classes, release.target_norm)}
    inputs = {method.name: MethodInput(release.announce({method.name: owned})[0][method.name])}

    def appraised(engine):
        mine = ({}, {}) if engine.dry else (own, inputs)
        return program(session_of(engine), plan, *mine, {"one": facts}, facts.logit_bound, lambda event: None)

    (result,) = run(appraised).results[0]
    exact = method.score(owned, with_bias(own["one"].x), own["one"].targets(1), facts).item()
    assert result.failure == 0.0 and result.outcome.opened == pytest.approx(exact, rel=2e-3, abs=1e-2)
    return result.outcome.opened


def release_of(model) -> Silent:
    return Silent(sigma=1.0, row_norm=R, spread=D, target_norm=T if model is LINEAR else None)


@MODELS
@METHODS
@pytest.mark.parametrize("rows", [3, 40], ids=["rows", "triangle"])
def test_neighbours_differ_by_no_more_than_the_sensitivity_and_come_near(model, method, rows, monkeypatch):
    keys = itertools.cycle([bytes([k]) * len(three.new_key()) for k in (1, 2, 3)])
    monkeypatch.setattr(three, "new_key", lambda: next(keys))
    weights = column(W * 0.99, 1) if model is LINEAR else column(14.0, 0, 0, 0, 0, 1)
    bound = R * W if model is LINEAR else R * 7.5
    facts, release = facts_of(model, rows, bound, D), release_of(model)
    first, second = (opened(model, method, data, weights, facts, release) for data in neighbours(model, method, rows))
    stated = release.sensitivity(method, facts)
    assert 0.6 * stated <= abs(first - second) <= stated


@MODELS
@METHODS
def test_a_column_that_is_longer_than_announced_is_found(model, method):
    facts, release = facts_of(model, 3, R * W, D), release_of(model)
    data = neighbours(model, method, 3)[0]
    longest = W if model is LINEAR else 2 * W  # the bound is that of halves
    opened(model, method, data, column(longest - 2.0**-12, 1), facts, release)
    with pytest.raises(BoundError, match="model_owner has shared weights whose norm is above"):
        opened(model, method, data, column(longest + 2.0**-12, 1), facts, release)


def test_targets_are_shared_as_clipped_and_the_guarantee_rests_on_that():
    """The same without the clipping of targets: the number moves by more than the noise covers."""
    facts, release = facts_of(LINEAR, 1, R * W, D), release_of(LINEAR)
    x = torch.zeros(1, FEATURES, dtype=torch.float64)
    x[0, 0] = math.sqrt(R**2 - 1) * 0.99
    ends = [Dataset(x, torch.tensor([y], dtype=torch.float64), 1, "one") for y in (-4 * T, 4 * T)]
    weights = column(W * 0.9, 1)
    found = [opened(LINEAR, Influence(), data, weights, facts, release) for data in ends]
    assert abs(found[0] - found[1]) <= release.sensitivity(Influence(), facts)
    exact = [2 * (x[0, 0] * W * 0.9 - data.y[0]) * x[0, 0] * D * 0.99 for data in ends]
    assert abs(exact[0] - exact[1]) > release.sensitivity(Influence(), facts)
