"""Softmax regression, the model that appraisals value data for, as a frozen record with its file.

    p(y | x) = softmax(theta' [x, 1])

x are the d features of a row, y is its class out of C, and theta (d + 1, C) are the weights. The last row of theta is
the bias, which is the weight of a constant feature 1 (Xu, van der Maaten and Hannun 2022, section 4: L2-regularised
logistic regressors). Rows go in, logits come out. `load` and `save` define the file that a model owner may bring; its
format must not change. Training is in `models.training`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from mpc_appraisal.models.base import LinearModel, check_l2
from mpc_appraisal.models.links import SOFTMAX

__all__ = ["ARRAYS", "SoftmaxRegression", "check_l2"]

ARRAYS = "a .npz file with the arrays 'theta' (features + 1, classes) and 'l2' (one number)"


@dataclass(frozen=True, eq=False)
class SoftmaxRegression(LinearModel):
    """Hold the weights of softmax regression, (d + 1, C) for C classes, of which there are two or more."""

    name = "softmax_regression"
    link = SOFTMAX
    target = "classes"
    shape = "shape (features + 1, classes), two classes or more"
    columns = (2, sys.maxsize)
    arrays = ARRAYS

    @classmethod
    def from_coefficients(cls, arrays: dict[str, np.ndarray]) -> np.ndarray:
        theta = super().from_coefficients(arrays)
        # Two classes in one column [0, w] predict as [-w/2, w/2] does, which is the minimum with a penalty on both.
        return theta if theta.shape[1] > 1 else np.hstack([-theta / 2, theta / 2])
