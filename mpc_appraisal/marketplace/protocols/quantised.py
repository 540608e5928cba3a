"""A first-layer matrix in small integers, as precise as an exact inner product of the scheme allows.

In goes a real matrix W (k, d); out come integers w (k, d) with a step for each row. The real input lies in [0, 1] and
is x / pixel for whole pixels x in 0 .. pixel; z_i is the integer product of x and row i, and z_real_i the real product:

    w_ij = round(W_ij / step_i),    pixel * sum_j |w_ij| < bound,    z_real_i = z_i step_i / pixel

Then `|<x, w_i>| < bound` for every row i and all such x. How the step is found may change. BOUND and PIXEL have to
agree with those of `encryption.scheme`, and the bound has to hold for every row, because the authority refuses a key
for any other row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError

BOUND = 2**24
PIXEL = 255


@dataclass(frozen=True, eq=False)
class Quantised:
    """A quantised matrix.

    Attributes:
        w: the integers, (k, d) int64.
        step: the step of each row, (k,) float64, positive.
        error: the largest |real z - exact z| of each row over all inputs in [0, 1], (k,) float64, not counting the
            rounding of inputs and of floats.
        pixel: the integer that stands for 1.
    """

    w: np.ndarray
    step: np.ndarray
    error: np.ndarray
    pixel: int = PIXEL

    def real(self, z: np.ndarray | Tensor) -> Tensor:
        """Turn integer inner products z (n, k) into real ones, (n, k) float64: z * step / pixel."""
        return torch.as_tensor(z).to(torch.float64) * torch.from_numpy(self.step / self.pixel)

    @property
    def matrix(self) -> Tensor:
        """Return the real matrix that the integers stand for, (k, d) float64: w * step."""
        return torch.from_numpy(self.w * self.step[:, None])


def quantise(matrix: np.ndarray | Tensor, bound: int = BOUND, pixel: int = PIXEL) -> Quantised:
    """Quantise a real matrix (k, d) under the bound, with the smallest step of each row up to rounding.

    Args:
        matrix: the real matrix (k, d).
        bound: what pixel * sum_j |w_ij| has to stay below.
        pixel: the integer that stands for 1.

    Rows of zeros stay zero. Raises InputError for a matrix that is not 2-d, finite and non-empty, and for a bound that
    leaves a row less than d units, because rounding could then not be made to fit.
    """
    real = torch.as_tensor(matrix).detach().to(torch.float64).numpy()
    if real.ndim != 2 or real.size == 0 or not np.isfinite(np.abs(real).sum(axis=1)).all():
        raise InputError("matrix", real.shape, "two dimensions, not empty, numbers and sums of rows finite")
    limit = (bound - 1) // pixel
    if pixel < 1 or limit < real.shape[1]:
        raise InputError("bound", bound, f"at least {pixel} * {real.shape[1]}: a unit for every column")
    size = np.abs(real).sum(axis=1)
    step = np.where(size > 0, np.maximum(size / limit, np.finfo(np.float64).tiny), 1.0)
    while True:
        w = np.rint(real / step[:, None])
        total = np.abs(w).sum(axis=1)
        if (total <= limit).all():
            break
        # Rounding exceeded the limit in some rows, which take a slightly coarser step.
        step = np.where(total > limit, step * (total / limit), step)
    gap = real - w * step[:, None]
    error = np.maximum(gap.clip(min=0).sum(axis=1), -gap.clip(max=0).sum(axis=1))
    return Quantised(w.astype(np.int64), step, error, pixel)


def pixels(x: np.ndarray | Tensor, pixel: int = PIXEL) -> np.ndarray:
    """Round real images (n, d) in [0, 1] to int64 in 0 .. pixel.

    Raises InputError for another shape and for numbers outside [0, 1].
    """
    real = torch.as_tensor(x).detach().to(torch.float64).numpy()
    if real.ndim != 2 or not ((real >= 0) & (real <= 1)).all():
        raise InputError("x", real.shape, "images (n, d) with numbers in [0, 1]")
    return np.rint(real * pixel).astype(np.int64)
