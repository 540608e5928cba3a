"""Logistic regression for two classes, with one column of weights.

    p(y = 1 | x) = sigmoid(theta' [x, 1]),   theta = arg min  mean over D of L(x, y; theta) + l2 ||theta||^2

x are the d features of a row of the training set D, y is its label 0 or 1, and L is the log loss. theta (d + 1, 1) are
the weights; its last row is the bias, which is penalised like the others. Softmax regression of two classes is the same
model with theta in two columns, [-theta / 2, theta / 2], and with 2 l2 in place of l2. With rows that hold the constant
feature, scikit-learn's `LogisticRegression(C=1 / (2 * l2 * n), fit_intercept=False)` has the same minimum. A data set
of two classes goes in, and a model comes out. The solver may change; the objective has to stay, because the methods
differentiate it. `fit` is also the `_target_` of conf/model, and its name there is part of stored digests.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import LOGISTIC
from mpc_appraisal.models.objective import minimised


@dataclass(frozen=True, eq=False)
class LogisticRegression(LinearModel):
    """Hold the weights of logistic regression, (d + 1, 1), for the class 1 of two classes."""

    name = "logistic_regression"
    link = LOGISTIC
    target = "two"

    @property
    def classes(self) -> int:
        return 2


def fit(train: Dataset, l2: float, tolerance: float = 1e-7, iterations: int = 20_000) -> LogisticRegression:
    """Return the minimiser of the objective on `train`, a data set of two classes.

    The arguments and errors are those of `training.fit`. Raises InputError for any other number of classes.
    """
    if train.classes != 2:
        found = "a numeric target" if train.numeric else f"{train.classes} classes"
        raise InputError(train.name, found, "two classes, for logistic_regression")
    return LogisticRegression(minimised(train, l2, 1, LOGISTIC, tolerance, iterations), float(l2))
