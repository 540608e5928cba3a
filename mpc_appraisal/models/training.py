"""Training and evaluation of the models that appraisals value data for, in the clear.

    theta = arg min  mean over D of L(x, y; theta)  +  l2 ||theta||^2

D are the training rows, L is the loss of a row (`links`), and theta (d + 1, k) are the weights of d features and the
bias. Data sets go in; models, losses and utilities come out. `fit` trains softmax regression, and `refit` any model by
the objective of `objective`. `utility` is eq. 2 of Xu, van der Maaten and Hannun (2022) with the sign turned: the mean
test loss before retraining with the candidate, a data set on offer, less the loss after retraining.

A model may be added to MODELS with its fit. `fit` is also the `_target_` of conf/model, and its name there is part of
stored digests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.models import linear_regression, logistic_regression
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.linear_regression import LinearRegression
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.models.logistic_regression import LogisticRegression
from mpc_appraisal.models.objective import minimised, objective
from mpc_appraisal.models.softmax_regression import SoftmaxRegression

__all__ = [
    "FITS",
    "MODELS",
    "accuracy",
    "error_rate",
    "fit",
    "mean_loss",
    "model_for",
    "model_of",
    "objective",
    "refit",
    "union",
    "utility",
]


def fit(train: Dataset, l2: float, tolerance: float = 1e-7, iterations: int = 20_000) -> SoftmaxRegression:
    """Return the softmax regression that minimises the objective on `train`.

    Args:
        train: The training rows.
        l2: The factor of ||theta||^2.
        tolerance: The largest entry of the gradient at which the fit counts as converged.
        iterations: The most iterations of one run of L-BFGS, of which there are three at most.

    Raises InputError for a bad l2 or tolerance, or for a numeric target, and AppraisalError if the tolerance is not
    reached. Separable data without a regulariser, for instance, have no minimiser.
    """
    if train.numeric:
        raise InputError(train.name, "a numeric target", "labels of classes, for softmax_regression")
    return SoftmaxRegression(minimised(train, l2, train.classes, SOFTMAX, tolerance, iterations), float(l2))


MODELS: dict[str, type[LinearModel]] = {
    model.name: model for model in (SoftmaxRegression, LinearRegression, LogisticRegression)
}
FITS: dict[str, Callable[..., LinearModel]] = {
    SoftmaxRegression.name: fit,
    LinearRegression.name: linear_regression.fit,
    LogisticRegression.name: logistic_regression.fit,
}


def refit(train: Dataset, l2: float, tolerance: float, model: type[LinearModel]) -> LinearModel:
    """Return a model of the kind `model`, fitted on `train`. The other arguments and the errors are those of `fit`."""
    return fit(train, l2, tolerance) if model is SoftmaxRegression else FITS[model.name](train, l2, tolerance)


def model_of(trains: Any) -> type[LinearModel]:
    """Return the kind of model that a fit of this package trains; for a function of somebody else, softmax regression.

    trains: `fit` of one of the models, or a `partial` of it.
    """
    function = trains.func if isinstance(trains, partial) else trains
    return next((MODELS[name] for name, own in FITS.items() if own is function), SoftmaxRegression)


def model_for(train: Dataset) -> type[LinearModel]:
    """Return the kind of model that is fitted where only the data are known: linear or softmax regression."""
    return LinearRegression if train.numeric else SoftmaxRegression


def mean_loss(model: LinearModel, data: Dataset) -> float:
    """Return the mean loss on `data`, without the regulariser."""
    if getattr(model, "link", SOFTMAX) is SOFTMAX:
        return torch.nn.functional.cross_entropy(model.logits(data.x), data.y).item()
    return model.link.loss(model.logits(data.x), data.targets(model.outputs)).mean().item()


def accuracy(model: LinearModel, data: Dataset) -> float:
    """Return the fraction of rows whose most probable class is the label."""
    logits = model.logits(data.x)
    found = logits.argmax(1) if model.outputs > 1 else (logits[:, 0] > 0).to(torch.int64)
    return (found == data.y).double().mean().item()


def error_rate(model: LinearModel, data: Dataset) -> float:
    """Return the fraction of wrong classes; of a numeric target, the mean squared error in parts of its variance."""
    if not data.numeric:
        return 1 - accuracy(model, data)
    return mean_loss(model, data) / max(data.y.var(correction=0).item(), 1e-300)


def union(first: Dataset, second: Dataset) -> Dataset:
    """Return the rows of both, in order and in float64. Raises InputError if their features or classes differ.

    The names of columns and classes are those of `first`.
    """
    for what in ("features", "classes"):
        expected, got = getattr(first, what), getattr(second, what)
        if got != expected:
            raise InputError(f"{what} of {second.name}", got, f"{expected}, as {first.name}")
    x = torch.cat([first.x.to(torch.float64), second.x.to(torch.float64)])
    y, name = torch.cat([first.y, second.y]), f"{first.name} and {second.name}"
    return Dataset(x, y, first.classes, name, first.columns, first.class_names)


def utility(
    train: Dataset,
    test: Dataset,
    candidate: Dataset,
    l2: float,
    model: LinearModel | None = None,
    tolerance: float = 1e-7,
    measured: Callable[[LinearModel, Dataset], float] = mean_loss,
) -> float:
    """Return how much the mean test loss falls by retraining with the candidate (eq. 2 negated). Higher is better.

    `measured` is the metric of a model on the test rows whose fall is returned, in place of the mean test loss.
    `model` is the fit on `train` alone, if the caller has it already. Otherwise it is fitted here, and is linear
    regression for a numeric target and softmax regression for labels. l2 and tolerance are those of `fit`, whose errors
    are raised.
    """
    before = model if model is not None else refit(train, l2, tolerance, model_for(train))
    after = refit(union(train, candidate), l2, tolerance, type(before))
    return measured(before, test) - measured(after, test)
