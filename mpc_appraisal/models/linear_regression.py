"""Linear regression with an l2 penalty (ridge), for targets that are numbers.

    z = theta' [x, 1],   theta = arg min  mean over D of (z - y)^2 + l2 ||theta||^2 = (X'X / n + l2 I)^-1 X'y / n

x are the d features of a row of the training set D, y is its target, and X (n, d + 1) are the rows of D with a constant
feature 1. theta (d + 1, 1) are the weights; its last row is the bias, which is penalised like the others. So centre the
features and the target, or keep l2 small: a penalised bias draws predictions to 0. With rows that hold the constant
feature, scikit-learn's `Ridge(alpha=n * l2, fit_intercept=False)` has the same minimum. A data set with a numeric
target goes in, and a model comes out. The solver may change; the objective has to stay, because the methods
differentiate it. `fit` is also the `_target_` of conf/model, and its name there is part of stored digests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.base import LinearModel, check_l2
from mpc_appraisal.models.links import IDENTITY

TOLERANCE = 1e-7  # the largest entry of the gradient that is left, in units of the largest entry of X'y / n


@dataclass(frozen=True, eq=False)
class LinearRegression(LinearModel):
    """Hold the weights of linear regression, (d + 1, 1)."""

    name = "linear_regression"
    link = IDENTITY
    target = "number"


def fit(train: Dataset, l2: float, tolerance: float = TOLERANCE) -> LinearRegression:
    """Return the minimiser of the objective on `train`, in closed form.

    Args:
        train: The training rows, with a numeric target.
        l2: The factor of ||theta||^2.
        tolerance: The largest entry of the gradient that may be left, relative to the largest entry of X'y / n or 1.

    Raises InputError for a bad l2 or for labels, and AppraisalError where the minimum is not unique.
    """
    check_l2(l2)
    if not train.numeric:
        raise InputError(train.name, f"labels of {train.classes} classes", "a numeric target, for linear_regression")
    x, y = with_bias(train.x.to(torch.float64)), train.targets()
    moments, right = x.t().matmul(x) / len(x), x.t().matmul(y) / len(x)
    moments.diagonal().add_(l2)
    theta, info = torch.linalg.solve_ex(moments, right)
    if not info.item():
        theta = theta + torch.linalg.solve_ex(moments, right - moments.matmul(theta))[0]
    left = (right - moments.matmul(theta)).abs().max().item() if not info.item() else float("inf")
    if not left <= tolerance * max(1.0, right.abs().max().item()) or not torch.isfinite(theta).all():
        raise AppraisalError(
            f"the fit on {train.name} ({train.rows} rows) has no unique minimum: columns depend on one another; a "
            f"larger model.l2 (now {l2}) makes it unique"
        )
    return LinearRegression(theta, float(l2))
