"""Models that scikit-learn has trained, as models of this package, with its regularisation converted exactly.

| scikit-learn | its objective | l2 of ours, for n training rows |
|---|---|---|
| `LogisticRegression(C)` | C times the sum of log losses + ||w||^2 / 2 | 1 / (2 C n) |
| `Ridge(alpha)`          | the sum of squared errors + alpha ||w||^2    | alpha / n |
| `LinearRegression()`    | the sum of squared errors                   | 0 |

w are scikit-learn's coefficients. It never penalises its intercept, and our objective penalises the bias like the other
weights. The two agree where l2 is 0, where the intercept is 0, or where the estimator was fitted with
`fit_intercept=False` on rows with a column of ones appended, whose coefficient is taken for the bias. Otherwise the
model predicts the same but is no minimum of our objective, and `appraisal.given_model` refuses it for the methods that
need a minimum. In go an estimator and the training rows; out comes a model, or an InputError by name. An estimator that
was not fitted is fitted on the training rows, by scikit-learn and with its own settings; see `fitted`.

scikit-learn is not imported. Settings whose objective is another one are refused. A further estimator may be added
with its conversion; the conversions have to stay exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.data.targets import as_two
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.linear_regression import LinearRegression
from mpc_appraisal.models.logistic_regression import LogisticRegression
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import MODELS

KNOWN = ("LogisticRegression", "Ridge", "LinearRegression")
ALIKE = 1e-9  # the relative difference up to which the l2 of an estimator and the stated one are the same


def is_estimator(value: Any) -> bool:
    """Return whether the value is an estimator of scikit-learn."""
    return type(value).__module__.partition(".")[0] == "sklearn"


def is_fitted(estimator: Any) -> bool:
    """Return whether an estimator has been fitted."""
    return hasattr(estimator, "coef_")


def kind_of(estimator: Any, name: str = "model", labels: int | None = None) -> type[LinearModel]:
    """Return the kind of model that an estimator becomes. Raises InputError, under `name`, for one that is not known.

    A `LogisticRegression` of two classes becomes a logistic regression in one column. labels: how many different labels
    the training rows have, which decides where the estimator was not fitted.
    """
    kind = type(estimator).__name__
    if kind not in KNOWN:
        expected = f"one of scikit-learn's {', '.join(KNOWN)}"
        if kind in ("Pipeline", "GridSearchCV", "RandomizedSearchCV"):
            expected += f"; of a {kind} state its last estimator, and rows that its earlier steps have transformed"
        raise InputError(name, f"scikit-learn's {kind}", expected)
    if kind != "LogisticRegression":
        return LinearRegression
    found = len(estimator.classes_) if is_fitted(estimator) else labels
    return LogisticRegression if found == 2 else SoftmaxRegression


def fitted(estimator: Any, train: Dataset | None, name: str = "model") -> Any:
    """Return an estimator as it is, or one that was not fitted as a copy that `fit(x, y)` has fitted on `train`.

    With `fit_intercept=False` a column of ones stands behind the features in x. Its coefficient is the bias, so that
    the copy is a minimum of our objective. Raises InputError, under `name`, where there are no training rows or no
    labels, and where scikit-learn refuses the rows or a setting makes another objective.
    """
    if is_fitted(estimator):
        return estimator
    kind = type(estimator).__name__
    if train is None or not train.labelled:
        expected = f"a fitted {kind} (call its fit first), or train=... with labels beside it, on which it is fitted"
        raise InputError(name, f"a {kind} that was not fitted", expected)
    _refuse_settings(estimator, name)
    x = train.x.numpy().astype(np.float64)
    rows = x if estimator.fit_intercept else np.column_stack([x, np.ones(len(x))])
    try:
        return type(estimator)(**estimator.get_params()).fit(rows, train.y.numpy())
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            name, f"a {kind} that cannot be fitted on train ({reason})", "other settings or rows"
        ) from error


def stated_model(model: Any, labels: int | None = None) -> tuple[type[LinearModel], Any]:
    """Return the kind of model that the argument `model` states, and the trained model or estimator, or None.

    labels: as for `kind_of`. Raises InputError for anything else.
    """
    if model is None or isinstance(model, str):
        one_of("model", model or SoftmaxRegression.name, tuple(MODELS))
        return MODELS[model or SoftmaxRegression.name], None
    if isinstance(model, LinearModel):
        return type(model), model
    if is_estimator(model):
        return kind_of(model, labels=labels), model
    raise InputError("model", type(model).__name__, f"a trained model, or one of {', '.join(MODELS)}")


def from_estimator(
    estimator: Any, train: Dataset | None, features: int, stated: float, name: str = "model"
) -> LinearModel:
    """Return the model that the estimator is, or becomes on the training rows where it was not fitted.

    Args:
        estimator: scikit-learn's LogisticRegression, Ridge or LinearRegression.
        train: The rows that it was or is fitted on, whose number the conversion needs; None where it was fitted and has
            no penalty.
        features: d, the number of features of the appraisal's rows.
        stated: The public l2 of the appraisal. The estimator's, converted, must be the same to nine digits.
        name: What errors call the estimator.

    Raises InputError, under `name`, for other settings, sizes or another l2.
    """
    estimator = fitted(estimator, train, name)
    kind = kind_of(estimator, name)
    _refuse_settings(estimator, name)
    coef = np.atleast_2d(np.asarray(estimator.coef_, np.float64))
    intercept = np.zeros(len(coef)) + np.asarray(estimator.intercept_, np.float64).reshape(-1)
    if coef.shape[1] == features + 1 and not intercept.any():
        theta = coef.T  # the last column of the rows was the constant feature
    elif coef.shape[1] == features:
        theta = np.vstack([coef.T, intercept])
    else:
        expected = f"{features}, or {features + 1} with fit_intercept=False and a last column of ones"
        raise InputError(name, f"{coef.shape[1]} coefficients", expected)
    if kind is LinearRegression and theta.shape[1] != 1:
        raise InputError(name, f"{theta.shape[1]} targets", "one target")
    l2 = _l2(estimator, train, name)
    if not math.isclose(l2, stated, rel_tol=ALIKE, abs_tol=0.0):
        raise InputError(name, f"an estimator whose l2 is {l2!r} by our convention", f"l2={l2!r} (now {stated!r})")
    return kind(torch.from_numpy(theta.copy()), float(stated))


def own_l2(estimator: Any, train: Dataset | None, name: str = "model") -> float:
    """Return the l2 of our objective that is the estimator's own regularisation on these training rows.

    Raises InputError, under `name`, for an estimator or a setting that is not known.
    """
    kind_of(estimator, name)
    _refuse_settings(estimator, name)
    return _l2(estimator, train, name)


def _l2(estimator: Any, train: Dataset | None, name: str) -> float:
    """Return the factor of ||theta||^2 beside the mean loss."""
    if type(estimator).__name__ == "LinearRegression":
        return 0.0
    ridge = type(estimator).__name__ == "Ridge"
    strength = float(estimator.alpha) if ridge else 0.5 / float(estimator.C)
    if not ridge and getattr(estimator, "penalty", None) is None and hasattr(estimator, "penalty"):
        strength = 0.0
    if strength > 0 and train is None:
        what = f"alpha={estimator.alpha}" if ridge else f"C={estimator.C}"
        expected = "train=..., since scikit-learn sums losses over rows and we take their mean"
        raise InputError(name, f"an estimator with {what}, without its training rows", expected)
    return strength / train.rows if strength > 0 else 0.0


def _refuse_settings(estimator: Any, name: str) -> None:
    """Raise InputError for settings by which scikit-learn minimises another objective."""

    def must(key: str, *allowed: Any) -> None:
        found = getattr(estimator, key, None)
        if found is not None and not any(found is each or found == each for each in allowed):
            raise InputError(f"{name}.{key}", found, f"{' or '.join(map(str, allowed)) or None}")

    must("class_weight")
    must("positive", False)
    must("l1_ratio", 0, 0.0)
    must("multi_class", "auto", "multinomial", "deprecated")
    must("penalty", "l2", "deprecated")
    if type(estimator).__name__ == "Ridge" and np.ndim(estimator.alpha):
        raise InputError(f"{name}.alpha", "several numbers", "one number")
    if type(estimator).__name__ != "LogisticRegression" or not is_fitted(estimator):
        return
    if len(estimator.classes_) == 2:
        right = as_two(estimator.classes_, f"{name}.classes_").tolist() == [0, 1]
    else:
        right = list(estimator.classes_) == list(range(len(estimator.classes_)))
    if not right:
        raise InputError(f"{name}.classes_", list(estimator.classes_), "classes 0, 1, 2, ..., in that order")
