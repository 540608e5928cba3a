"""Estimators of scikit-learn as models: the conversion of their penalty is exact, and what differs is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import regressions
import sklearn
from regressions import LINEAR, LOGISTIC, problem
from sklearn import linear_model

from mpc_appraisal import Dataset, appraise
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import with_bias
from mpc_appraisal.models import linear_regression, logistic_regression
from mpc_appraisal.models.scikit_learn import from_estimator, kind_of
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit, objective

TRAIN, TWO = problem(LINEAR, 40, 1), problem(LOGISTIC, 40, 1)
THREE = Dataset(TWO.x, (TWO.x[:, 0] > 0).long() + (TWO.x[:, 1] > 0).long(), 3, "three")
EXACT = {"tol": 1e-10, "max_iter": 100_000}


def with_ones(data):
    return with_bias(data.x).numpy()


def estimators():
    """A fitted estimator, its rows, its l2 by our convention, and our own fit at that l2."""
    ridge = linear_model.Ridge(alpha=2.0, fit_intercept=False).fit(with_ones(TRAIN), TRAIN.y.numpy())
    plain = linear_model.LinearRegression().fit(TRAIN.x.numpy(), TRAIN.y.numpy())
    one = linear_model.LogisticRegression(C=0.8, fit_intercept=False, **EXACT).fit(with_ones(TWO), TWO.y.numpy())
    more = linear_model.LogisticRegression(C=0.8, fit_intercept=False, **EXACT).fit(with_ones(THREE), THREE.y.numpy())
    return {
        "ridge": (ridge, TRAIN, 2.0 / 40, linear_regression.fit(TRAIN, 2.0 / 40)),
        "least squares": (plain, TRAIN, 0.0, linear_regression.fit(TRAIN, 0.0)),
        "two classes": (one, TWO, 1 / (2 * 0.8 * 40), logistic_regression.fit(TWO, 1 / (2 * 0.8 * 40), 1e-9)),
        "three classes": (more, THREE, 1 / (2 * 0.8 * 40), fit(THREE, 1 / (2 * 0.8 * 40), 1e-9)),
    }


@pytest.mark.parametrize("case", ["ridge", "least squares", "two classes", "three classes"])
def test_an_estimator_is_a_minimum_of_our_objective(case):
    estimator, train, l2, ours = estimators()[case]
    model = from_estimator(estimator, train, 4, l2)
    assert type(model) is kind_of(estimator) is type(ours) and model.l2 == l2
    assert (model.theta - ours.theta).abs().max() < 1e-4
    slope = objective(model.theta, with_bias(train.x), train.y, l2, model.link)[1]
    assert slope.abs().max() < 1e-5


def test_an_estimator_appraises_as_our_own_fit_does():
    for model, train, estimator in (
        (LINEAR, TRAIN, linear_model.Ridge(alpha=2.0, fit_intercept=False)),
        (LOGISTIC, TWO, linear_model.LogisticRegression(C=0.25, fit_intercept=False, **EXACT)),
    ):
        estimator.fit(with_ones(train), train.y.numpy())
        own = {"train": train, "test": problem(model, 30, 2), "l2": 0.05, "session": "plain"}
        candidate = problem(model, 25, 3)
        (theirs,), (ours,) = (appraise(candidate, **own, model=m) for m in (estimator, model.name))
        assert theirs.value == pytest.approx(ours.value, rel=1e-3)


@pytest.mark.parametrize("case", ["ridge", "least squares", "two classes", "three classes"])
def test_an_estimator_that_was_not_fitted_is_fitted_on_the_training_rows(case):
    fitted, train, l2, _ = estimators()[case]
    estimator = sklearn.base.clone(fitted)
    test = problem(LINEAR, 30, 2) if train is TRAIN else replace(train, x=train.x + 0.1)
    own = {"train": train, "test": test, "l2": l2, "session": "plain"}
    (theirs,), (ours,) = (appraise(replace(test, name="one"), **own, model=m) for m in (fitted, estimator))
    assert ours.value == pytest.approx(theirs.value, rel=1e-9) and not hasattr(estimator, "coef_")


def test_labels_and_frames_decide_what_an_estimator_that_was_not_fitted_becomes():
    pandas = pytest.importorskip("pandas")
    x, y = TWO.x.numpy(), TWO.y.numpy()
    frame = pandas.DataFrame(x, columns=list("abcd")).assign(label=y)
    own = {"method": "gradient_norm", "l2": 1 / (2 * 0.8 * 40), "session": "plain"}
    for labels in (y, 2 * y - 1):
        one = linear_model.LogisticRegression(C=0.8, **EXACT).fit(x, labels)
        expected = appraise((x, labels), train=(x, labels), test=(x, labels), model=one, **own)[0].value
        new = linear_model.LogisticRegression(C=0.8, **EXACT)
        found = appraise((x, labels), train=(x, labels), test=(x, labels), model=new, **own)[0].value
        assert found == pytest.approx(expected, rel=1e-9)
    new = linear_model.LogisticRegression(C=0.8, **EXACT)
    found = appraise(frame, train=frame, test=frame, target="label", model=new, **own)[0].value
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("model", "own", "message"),
    [
        (linear_model.Ridge(alpha=2.0), {"train": TRAIN}, "intercept is not penalised.*influence"),
        (linear_model.Ridge(), {}, r"^model: got a Ridge that was not fitted; expected .*call its fit first.*train="),
        (linear_model.Ridge(alpha=-1.0), {"train": TRAIN}, "^model: got a Ridge that cannot be fitted on train"),
        (linear_model.Ridge(positive=True), {"train": TRAIN}, "^model.positive: "),
        (linear_model.Lasso(), {"train": TRAIN}, "^model: got scikit-learn's Lasso"),
    ],
)
def test_an_estimator_that_cannot_be_fitted_here_is_refused_by_the_argument(model, own, message):
    with pytest.raises(InputError, match=message):
        appraise(problem(LINEAR, 25, 3), test=problem(LINEAR, 30, 2), l2=0.05, session="plain", model=model, **own)


def test_an_intercept_without_a_penalty_is_refused_where_the_minimum_matters():
    estimator = linear_model.Ridge(alpha=2.0).fit(TRAIN.x.numpy(), TRAIN.y.numpy())
    own = {"train": TRAIN, "test": problem(LINEAR, 30, 2), "l2": 0.05, "session": "plain", "model": estimator}
    with pytest.raises(InputError, match="intercept is not penalised.*influence"):
        appraise(problem(LINEAR, 25, 3), **own)
    candidate = problem(LINEAR, 25, 3)
    (record,) = appraise(candidate, **own, method="gradient_norm")
    theta = np.append(estimator.coef_, estimator.intercept_).reshape(-1, 1)
    slope = regressions.gradient(LINEAR, with_bias(candidate.x).new_tensor(theta), candidate) * 25
    assert record.value == pytest.approx(-slope.norm().item(), rel=1e-9)


def refused():
    x, y = TRAIN.x.numpy(), TWO.y.numpy()
    ridge = linear_model.Ridge(alpha=2.0).fit(x, TRAIN.y.numpy())
    return {
        "another l2": (ridge, TRAIN, 4, "l2=0.05"),
        "no rows": (ridge, None, 4, "alpha=2.0.*without its training rows"),
        "features": (ridge, TRAIN, 7, "4 coefficients"),
        "not fitted": (linear_model.Ridge(), None, 4, "not fitted"),
        "another estimator": (linear_model.Lasso().fit(x, TRAIN.y.numpy()), TRAIN, 4, "Lasso"),
        "weights": (linear_model.LogisticRegression(class_weight="balanced").fit(x, y), TWO, 4, "class_weight"),
        "positive": (linear_model.LinearRegression(positive=True).fit(x, TRAIN.y.numpy()), TRAIN, 4, "positive"),
        "classes": (linear_model.LogisticRegression().fit(x, y * 3 + 2), TWO, 4, "classes"),
    }


@pytest.mark.parametrize("case", refused(), ids=str)
def test_another_objective_is_refused_by_name(case):
    estimator, train, features, message = refused()[case]
    with pytest.raises(InputError, match=message):
        from_estimator(estimator, train, features, 0.01)


def test_coefficients_of_two_classes_fit_both_kinds_of_model(tmp_path):
    estimator, train, l2, _ = estimators()["two classes"]
    coef = estimator.coef_[0]
    np.savez(tmp_path / "model.npz", coef=coef[:-1], intercept=coef[-1], l2=l2)
    one = LOGISTIC.load(tmp_path / "model.npz")
    np.savez(tmp_path / "model.npz", coef=coef[:-1], intercept=coef[-1], l2=2 * l2)
    two = SoftmaxRegression.load(tmp_path / "model.npz")
    assert (two.logits(train.x).softmax(1)[:, 1:] - one.logits(train.x).sigmoid()).abs().max() < 1e-12
    for model, outputs in ((one, 1), (two, 2)):
        slope = objective(model.theta, with_bias(train.x), train.y, model.l2, model.link)[1]
        assert model.outputs == outputs and slope.abs().max() < 1e-5
