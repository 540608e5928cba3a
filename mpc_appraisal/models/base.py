"""What the methods need of a model: a frozen record of weights, the regulariser, and the link to the targets.

    z = theta' [x, 1]        objective = mean over D of L(z, y) + l2 ||theta||^2

x are the d features of a row, z its outputs, y its target and L the loss of the link (`links`). theta (d + 1, k) are
the weights, with the bias as the last row: the bias is the weight of a constant feature, and is penalised like the
others. Rows go in, and outputs come out. `load` and `save` define the file that a model owner may bring. A new model is
a subclass with a link; the arrays theta and l2 of its file have to stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.links import SOFTMAX, Link


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Hold trained parameters, and the regulariser that they were trained with. Raises InputError for bad values.

    Attributes:
        theta: The weights (d + 1, k) in float64, all finite. The bias is the last row.
        l2: The factor of ||theta||^2 beside the mean loss. It is finite and not negative.
        name: The model's name in configurations.
        link: How outputs become a loss.
        target: What the rows' target holds, one of `data.targets.KINDS`.
        shape: The shape of theta in words, for errors.
        columns: The least and the most columns of theta.
        arrays: What a file must hold, in words, for errors.
    """

    theta: torch.Tensor
    l2: float

    name: ClassVar[str]
    link: ClassVar[Link] = SOFTMAX
    target: ClassVar[str]
    shape: ClassVar[str] = "shape (features + 1, 1), one column of weights"
    columns: ClassVar[tuple[int, int]] = (1, 1)
    arrays: ClassVar[str] = (
        "a .npz file with the arrays 'theta' (features + 1, 1) and 'l2' (one number), or 'coef' (features,), "
        "'intercept' and 'l2'"
    )

    def __post_init__(self) -> None:
        theta, (least, most) = self.theta, self.columns
        if not isinstance(theta, torch.Tensor) or theta.dtype != torch.float64:
            raise InputError("theta", getattr(theta, "dtype", type(theta).__name__), "a float64 tensor")
        if theta.dim() != 2 or theta.shape[0] < 2 or not least <= theta.shape[1] <= most:
            raise InputError("theta", tuple(theta.shape), self.shape)
        if not torch.isfinite(theta).all():
            raise InputError("theta", "NaN or infinity", "finite numbers")
        check_l2(self.l2)

    @property
    def features(self) -> int:
        """The number d of features, without the bias."""
        return self.theta.shape[0] - 1

    @property
    def outputs(self) -> int:
        """The number k of columns of theta."""
        return self.theta.shape[1]

    @property
    def classes(self) -> int:
        """The number of classes; 1 where the target is a number."""
        return self.outputs

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (n, k) in float64 of rows x (n, d), without the constant feature.

        Raises InputError for another number of features.
        """
        if x.dim() != 2 or x.shape[1] != self.features:
            raise InputError("x", tuple(x.shape), f"shape (rows, {self.features}), as the model was trained on")
        return torch.addmm(self.theta[-1], x.to(torch.float64), self.theta[:-1])

    def save(self, path: str | Path) -> None:
        """Write `theta` and `l2` to a .npz file at exactly this path."""
        with open(path, "wb") as file:
            np.savez(file, theta=self.theta.numpy(), l2=np.float64(self.l2))

    @classmethod
    def load(cls, path: str | Path, name: str = "party.model") -> LinearModel:
        """Read what `save` writes, or the arrays coef, intercept and l2 as scikit-learn names them.

        l2 is the factor of ||theta||^2 beside the mean loss, whatever the file's arrays are called. Raises InputError,
        under `name`, if the file holds no such model.
        """
        arrays = read_arrays(path, name, cls.arrays)
        try:
            theta = cls.from_coefficients(arrays) if "coef" in arrays else np.asarray(arrays["theta"], np.float64)
            l2 = arrays["l2"]
            # A float32 of 0.01 is not 0.01. The shortest decimal that it is the nearest float to is what was meant.
            l2 = np.array([float(str(value)) for value in l2.ravel()]) if l2.dtype.kind == "f" else l2.astype("f8")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(name, f"{path} ({type(error).__name__})", cls.arrays) from error
        if l2.size != 1:
            raise InputError(name, f"l2 of shape {l2.shape} in {path}", cls.arrays)
        try:
            return cls(torch.from_numpy(theta.copy()), float(l2.item()))
        except InputError as error:
            raise InputError(f"{name} {error.name}", error.value, error.expected) from error

    @classmethod
    def from_coefficients(cls, arrays: dict[str, np.ndarray]) -> np.ndarray:
        """Return theta (d + 1, k) of scikit-learn's coef (k, d) or (d,) and intercept (k,) or ().

        Raises KeyError or ValueError for arrays that do not fit together.
        """
        coef = np.atleast_2d(np.asarray(arrays["coef"], np.float64))
        intercept = np.atleast_1d(np.asarray(arrays["intercept"], np.float64))
        if coef.ndim != 2 or intercept.shape not in ((1,), (len(coef),)):
            raise ValueError("coef and intercept of other shapes")
        return np.vstack([coef.T, np.broadcast_to(intercept, (1, len(coef)))])


def check_l2(l2: float) -> float:
    """Return l2 as a float. Raises InputError unless it is a finite number that is not negative."""
    return number("model.l2", l2, least=0)
