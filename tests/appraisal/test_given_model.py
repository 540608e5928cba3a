"""A model that its owner brings: is it the minimum on its training rows that the methods take it for?"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.appraisal.given_model import examine
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import GradientNorm, Influence
from mpc_appraisal.methods.preflight.check import glance, preflight
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit

torch.set_num_threads(1)
L2 = 1e-2


def data(classes: int, n: int = 120, seed: int = 1) -> Dataset:
    return Dataset(*oracles.problem(n, 4, classes, seed, 0.1), classes, f"seed {seed}")


def sklearn(train: Dataset, strength: float, intercept: bool, l2: float = L2) -> SoftmaxRegression:
    """Its coefficients as they come: one column for two classes, the intercept appended."""
    x = train.x.numpy() if intercept else np.hstack([train.x.numpy(), np.ones((train.rows, 1))])
    model = LogisticRegression(C=strength / (l2 * train.rows), fit_intercept=intercept, tol=1e-10, max_iter=9999)
    model.fit(x, train.y.numpy())
    theta = np.vstack([model.coef_.T, model.intercept_[None]]) if intercept else model.coef_.T
    if theta.shape[1] == 1:
        theta = np.hstack([0 * theta, theta])
    return SoftmaxRegression(torch.from_numpy(np.ascontiguousarray(theta, dtype=np.float64)), l2)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_fit_is_a_minimum_and_so_is_scikit_learns_where_it_is_the_same_problem(classes):
    train = data(classes)
    assert examine(fit(train, L2), train) is None
    if classes > 2:
        assert examine(SoftmaxRegression(oracles.fitted(train.x, train.y, classes, L2), L2), train) is None
    else:
        w = sklearn(train, 1.0, intercept=False).theta[:, 1:]
        assert examine(SoftmaxRegression(torch.hstack([-w / 2, w / 2]), L2), train) is None


INTERCEPT, COLUMN, ANOTHER = "intercept is not penalised", r"one column, \[0, w\]", "an l2 of"
WRONG = {
    "two classes as they come": (2, 0.5, True, INTERCEPT + ".*" + COLUMN),
    "two classes, penalised intercept": (2, 0.5, False, COLUMN),
    "three classes as they come": (3, 0.5, True, INTERCEPT),
    "three classes, another strength": (3, 0.05, False, ANOTHER + " 0.1 "),
    "both": (3, 0.05, True, INTERCEPT + ".*" + ANOTHER + " 0.1 "),
}


@pytest.mark.parametrize(("classes", "strength", "intercept", "words"), WRONG.values(), ids=WRONG)
def test_the_usual_conventions_are_named_and_refused(classes, strength, intercept, words):
    import re

    train, test, own = data(classes), data(classes, 60, 2), data(classes, 30, 3)
    model = sklearn(train, strength, intercept)
    found = examine(model, train)
    assert found.gradient > 3e-3 and re.search(words, found.reason), found
    assert (ANOTHER in found.reason) == (ANOTHER in words)
    with pytest.raises(InputError, match="^model: .*no minimum on train") as refused:
        appraise(own, train=train, test=test, model=model, method="influence", l2=L2, session="plain")
    assert "fit_intercept=False" in str(refused.value)


def test_a_method_that_does_not_depend_on_it_runs_with_a_warning(capfd):
    train, own = data(3), data(3, 30, 3)
    model = sklearn(train, 0.5, intercept=True)
    (record,) = appraise(own, train=train, model=model, method=GradientNorm(), l2=L2, session="plain")
    assert record.value < 0
    said = capfd.readouterr().err
    assert "party.model is no minimum on party.train" in said and "do not depend on it" in said


def test_a_model_of_other_rows_is_no_known_mistake_and_warned_of(capfd):
    train, test, own = data(3), data(3, 60, 2), data(3, 30, 3)
    model = fit(data(3, 200, 9), L2)
    found = examine(model, train)
    assert found is not None and found.reason is None
    appraise(own, train=train, test=test, model=model, method="influence", l2=L2, session="plain")
    assert "other rows" in capfd.readouterr().err
    appraise(own, train=train, test=test, model=fit(train, L2), method="influence", l2=L2, session="plain")
    assert "no minimum" not in capfd.readouterr().err


def test_the_preflight_looks_at_the_given_model():
    market = LabelNoise(train_size=300, candidates=1, size=10, test_size=200).build(*Digits().load(), seed=0)
    train, test = market.train, market.test
    good = preflight(train, test, GradientNorm(), L2, quick=True, model=fit(train, L2))
    flipped = SoftmaxRegression(-fit(train, L2).theta, L2)  # for which wrong labels are right
    bad, said = glance(train, test, [GradientNorm()], L2, model=flipped)
    assert good.trusted and bad.checks[0].verdict == "inverted" and said
    with pytest.raises(InputError, match="^model: .*features"):
        preflight(train, test, Influence(), L2, quick=True, model=fit(data(3), L2))
