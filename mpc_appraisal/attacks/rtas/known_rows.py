"""The attack on RTAS-fast with known rows: who sees the first layer's outputs solves for the layer, then for inputs.

    given      Z = X W0 (n, m), rows in order, at the label owner or a third party; k rows x of X that it knows
    dense      W0 = X_k^+ Z_k: exact on the span of the known rows, all of W0 from k = d independent ones
    filters    F = U_k^+ Z_k, U_k the patches of the known images: one image has more patches than a filter has weights
    rows       x = mu + S W0 (W0' S W0 + v)^+ (z - W0' mu): mu, S mean and covariance of public rows of the same kind,
               v the variance of what W0 leaves unexplained where fewer than d rows are known
    pixels     minimise sum x subject to |x W0 - z| <= tolerance, 0 <= x <= highest, rounded

X (n, d) are the data owner's rows, W0 (d, m) is the first layer, and ^+ a pseudo-inverse. In go outputs and known rows;
out come W0, and with W0 the other rows. "A random transformation" is the paper's name for X W0 with W0 unknown (section
4.2.2). Its theorem 3.3 then leaves n - m dimensions unknown, 684 of 784 with 100 outputs, but for normal, independent
pixels. `explained` measures what stays unknown of real ones.

The attack stops with no known rows (W0 is then unknown up to any change of basis). It weakens with fewer outputs (one
logit discloses next to nothing), and with fewer known rows than a dense layer has outputs. A W0 that changes at each
step must be solved anew in that step, for which one image suffices behind a convolution. The solvers may change; the
order of columns in `matrix` has to stay that of a convolution's outputs.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import sparse
from scipy.optimize import linprog

from mpc_appraisal.common.errors import InputError


def dense(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return W0 (d, m) of least norm, from known rows x (k, d) and outputs z (k, m).

    Raises InputError for other shapes.
    """
    if x.ndim != 2 or z.ndim != 2 or len(x) != len(z) or not len(x):
        found = f"rows {np.shape(x)} and outputs {np.shape(z)}"
        raise InputError("z", found, "as many rows of outputs as known rows, one or more")
    return np.linalg.lstsq(x, z, rcond=None)[0]


def filters(images: np.ndarray, z: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """Return the filters (f, kernel, kernel) of a convolution without bias or padding.

    Args:
        images: the known images (k, h, w).
        z: their outputs (k, f, h', w').
        kernel, stride: those of the convolution, in pixels.

    Raises InputError for shapes that do not fit.
    """
    windows = sliding_window_view(images, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    if windows.shape[:3] != (len(z), *z.shape[2:]):
        raise InputError("z", z.shape, f"outputs of shape {windows.shape[:3]} and filters")
    patches, outputs = windows.reshape(-1, kernel * kernel), z.transpose(0, 2, 3, 1).reshape(-1, z.shape[1])
    return dense(patches, outputs).T.reshape(-1, kernel, kernel)


def matrix(found: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Return W0 (side^2, f h' w') of filters (f, kernel, kernel) on side x side images.

    The columns go by filter, then by place.
    """
    kernel = found.shape[1]
    unit = np.eye(side * side).reshape(-1, side, side)
    windows = sliding_window_view(unit, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("dhwij,fij->dfhw", windows, found).reshape(side * side, -1)


def noise(w: np.ndarray, x: np.ndarray, kind: np.ndarray) -> float:
    """Return the variance of an output that w (d, m), found from known rows x (k, d), cannot account for.

    The variance is the part of rows of the same `kind` (n, d) outside the span of x, times the mean square of the
    weights there, which is assumed to be that of the weights found. It is 0 once x spans `kind`.
    """
    _, sizes, directions = np.linalg.svd(x, full_matrices=False)
    span = directions[sizes > 1e-9 * sizes[0]]
    outside = np.square(kind - kind @ span.T @ span).sum(axis=1).mean()
    return float(outside * np.square(w).sum() / w.shape[1] / len(span))


def rows(w: np.ndarray, z: np.ndarray, kind: np.ndarray, variance: float = 0.0) -> np.ndarray:
    """Estimate inputs (n, d) by the best linear estimate, which is exact where w has rank d.

    Args:
        w: the first layer (d, m).
        z: its outputs (n, m).
        kind: rows (k, d) of the same kind of data, which give mean and covariance.
        variance: the variance of the noise in each output.
    """
    mean = kind.mean(axis=0)
    # With a little white noise, directions in which these rows do not vary are still found where w determines them.
    covariance = np.cov(kind.T) + 1e-9 * np.eye(kind.shape[1])
    gram = w.T @ covariance @ w + variance * np.eye(w.shape[1])
    gain = np.linalg.lstsq(gram, w.T @ covariance, rcond=1e-12)[0]
    return mean + (z - mean @ w) @ gain


def pixels(w: np.ndarray, z: np.ndarray, tolerance: float, highest: int = 255) -> np.ndarray:
    """Find whole-numbered inputs (n, d) in 0 .. highest, of least sum, that explain the outputs z (n, m).

    The outputs of such an input under w (d, m) are within `tolerance` of z.

    An input is all 0 where none fits. `pixel_recovery` is the same for exact outputs. Raises InputError for other
    shapes.
    """
    if w.ndim != 2 or z.ndim != 2 or z.shape[1] != w.shape[1]:
        raise InputError("z", z.shape, f"one output for each of the columns of w, {w.shape}")
    bounds = sparse.csr_matrix(np.concatenate([w.T, -w.T]))
    found = np.zeros((len(z), len(w)))
    for place, one in enumerate(z):
        limits = np.concatenate([one + tolerance, tolerance - one])
        solved = linprog(np.ones(len(w)), A_ub=bounds, b_ub=limits, bounds=(0, highest), method="highs")
        found[place] = 0 if solved.x is None else solved.x
    return np.rint(found).clip(0, highest)


def explained(found: np.ndarray, truth: np.ndarray, mean: np.ndarray) -> float:
    """Return 1 less squared error over squared distance of the truth from `mean` (d,), at least 0.

    The mean itself has 0, and the truth has 1.
    """
    return max(0.0, 1 - float(np.square(found - truth).sum() / np.square(truth - mean).sum()))
