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
need a minimum. In go a fitted estimator and the training rows; out comes a model, or an InputError by name.

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


def kind_of(estimator: Any, name: str = "model") -> type[LinearModel]:
    """Return the kind of model that an estimator becomes. Raises InputError, under `name`, for one that is not known.

    A `LogisticRegression` of two classes becomes a logistic regression in one column.
    """
    kind = type(estimator).__name__
    if kind not in KNOWN:
        raise InputError(name, f"scikit-learn's {kind}", f"one of scikit-learn's {', '.join(KNOWN)}")
    if not hasattr(estimator, "coef_"):
        raise InputError(name, f"a {kind} that was not fitted", f"a fitted {kind}")
    if kind != "LogisticRegression":
        return LinearRegression
    return LogisticRegression if len(estimator.classes_) == 2 else SoftmaxRegression


def stated_model(model: Any) -> tuple[type[LinearModel], Any]:
    """Return the kind of model that the argument `model` states, and the trained model or estimator, or None.

    Raises InputError for anything else.
    """
    if model is None or isinstance(model, str):
        one_of("model", model or SoftmaxRegression.name, tuple(MODELS))
        return MODELS[model or SoftmaxRegression.name], None
    if isinstance(model, LinearModel):
        return type(model), model
    if is_estimator(model):
        return kind_of(model), model
    raise InputError("model", type(model).__name__, f"a trained model, or one of {', '.join(MODELS)}")


def from_estimator(
    estimator: Any, train: Dataset | None, features: int, stated: float, name: str = "model"
) -> LinearModel:
    """Return the model that the fitted estimator is.

    Args:
        estimator: scikit-learn's LogisticRegression, Ridge or LinearRegression.
        train: The rows that it was fitted on, whose number the conversion needs; None where it has no penalty.
        features: d, the number of features of the appraisal's rows.
        stated: The public l2 of the appraisal. The estimator's, converted, must be the same to nine digits.
        name: What errors call the estimator.

    Raises InputError, under `name`, for other settings, sizes or another l2.
    """
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
    if type(estimator).__name__ != "LogisticRegression":
        return
    if len(estimator.classes_) == 2:
        right = as_two(estimator.classes_, f"{name}.classes_").tolist() == [0, 1]
    else:
        right = list(estimator.classes_) == list(range(len(estimator.classes_)))
    if not right:
        raise InputError(f"{name}.classes_", list(estimator.classes_), "classes 0, 1, 2, ..., in that order")
