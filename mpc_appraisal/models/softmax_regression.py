"""Softmax regression, the model that appraisals value data for, as a frozen record with its file.

    p(y | x) = softmax(theta' [x, 1])

x are the d features of a row, y is its class out of C, and theta (d + 1, C) are the weights. The last row of theta is
the bias, which is the weight of a constant feature 1 (Xu, van der Maaten and Hannun 2022, section 4: L2-regularised
logistic regressors). Rows go in, logits come out. `load` and `save` define the file that a model owner may bring; its
format must not change. Training is in `models.training`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError

ARRAYS = "a .npz file with the arrays 'theta' (features + 1, classes) and 'l2' (one number)"


@dataclass(frozen=True, eq=False)
class SoftmaxRegression:
    """Hold trained parameters, and the regulariser that they were trained with. Raises InputError for bad values.

    Attributes:
        theta: The weights (d + 1, C) in float64, all finite. The bias is the last row.
        l2: The factor of ||theta||^2 beside the mean loss. It is finite and not negative.
    """

    theta: torch.Tensor
    l2: float

    def __post_init__(self) -> None:
        theta = self.theta
        if not isinstance(theta, torch.Tensor) or theta.dtype != torch.float64:
            raise InputError("theta", getattr(theta, "dtype", type(theta).__name__), "a float64 tensor")
        if theta.dim() != 2 or theta.shape[0] < 2 or theta.shape[1] < 2:
            raise InputError("theta", tuple(theta.shape), "shape (features + 1, classes), two classes or more")
        if not torch.isfinite(theta).all():
            raise InputError("theta", "NaN or infinity", "finite numbers")
        check_l2(self.l2)

    @property
    def features(self) -> int:
        """The number d of features, without the bias."""
        return self.theta.shape[0] - 1

    @property
    def classes(self) -> int:
        """The number C of classes."""
        return self.theta.shape[1]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, C) in float64 of rows x (n, d), without the constant feature.

        Raises InputError for another number of features.
        """
        if x.dim() != 2 or x.shape[1] != self.features:
            raise InputError("x", tuple(x.shape), f"shape (rows, {self.features}), as the model was trained on")
        return torch.addmm(self.theta[-1], x.to(torch.float64), self.theta[:-1])

    def save(self, path: str | Path) -> None:
        """Write `theta` and `l2` to a .npz file at exactly this path."""
        with open(path, "wb") as file:
            np.savez(file, theta=self.theta.numpy(), l2=np.float64(self.l2))

    @staticmethod
    def load(path: str | Path, name: str = "party.model") -> SoftmaxRegression:
        """Read what `save` writes. Raises InputError, under `name`, if the file holds no such model."""
        arrays = read_arrays(path, name, ARRAYS)
        try:
            theta, l2 = np.asarray(arrays["theta"], dtype=np.float64), arrays["l2"]
            # A float32 of 0.01 is not 0.01. The shortest decimal that it is the nearest float to is what was meant.
            l2 = np.array([float(str(value)) for value in l2.ravel()]) if l2.dtype.kind == "f" else l2.astype("f8")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(name, f"{path} ({type(error).__name__})", ARRAYS) from error
        if l2.size != 1:
            raise InputError(name, f"l2 of shape {l2.shape} in {path}", ARRAYS)
        try:
            return SoftmaxRegression(torch.from_numpy(theta.copy()), float(l2.item()))
        except InputError as error:
            raise InputError(f"{name} {error.name}", error.value, error.expected) from error


def check_l2(l2: float) -> float:
    """Return l2 as a float. Raises InputError unless it is a finite number that is not negative."""
    return number("model.l2", l2, least=0)
