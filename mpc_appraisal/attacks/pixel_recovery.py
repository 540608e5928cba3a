"""The attack that recovers pixels from first-layer outputs, by a party that sees them beside the first layer.

    given             z = W x,  with W (k, d) and z (k,) known and 0 <= x <= 255 integers
    rank W = d        least squares: x = W^+ z, rounded
    rank W < d        linear program: minimise sum_i x_i subject to W x = z and 0 <= x <= 255, rounded

x is an image of d pixels, W the first layer's matrix and z its k outputs; W^+ is the pseudo-inverse. In go W and the
outputs of n images; out come images, and the shares of pixels that are right. Inner-product functional encryption
discloses <w_j, x> to the cloud by design and does not hide w_j; masking W changes neither what W x = z determines nor
that the cloud knows W. Digits are sparse and saturated, so fewer equations than pixels can do: the true image is the
program's vertex while the pixels that are neither 0 nor 255 are few beside the equations. The attack finds nearly all
or nothing. For an image short of equations it has only blank pixels right, which a guess of all 0 has too; so success
is counted on ink and on whole images, and `pixel_share` has to be compared with that guess.

The attack fails on an image where outputs are too few for its ink, as for nearly all behind 100 dense units or 256
outputs of a coarse convolution, thin digits excepted. It stops where nobody sees outputs: in the protocol `ife_shares`
they are secret shares, and the cloud has k = 0 equations. The solver may change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from mpc_appraisal.common.errors import InputError

HIGHEST = 255


@dataclass(frozen=True, eq=False)
class RecoveredPixels:
    """What the attacker recovered.

    Attributes:
        pixels: (n, d) int64, the attacker's answer.
        equations: k, the number of outputs for each image.
        rank: The rank of W.
    """

    pixels: np.ndarray
    equations: int
    rank: int

    def pixel_share(self, truth: np.ndarray) -> float:
        """Return the share of all pixels that are exactly right, for the true images (n, d)."""
        return float((self.pixels == truth).mean())

    def ink_share(self, truth: np.ndarray) -> float:
        """Return the share of exactly right pixels among those not 0 in the images; a guess of all 0 has 0."""
        return float((self.pixels == truth)[truth > 0].mean())

    def image_share(self, truth: np.ndarray) -> float:
        """Return the share of images with every pixel right."""
        return float((self.pixels == truth).all(axis=1).mean())


def blank_share(truth: np.ndarray) -> float:
    """Return the share of pixels that a guess of all 0 has right, with which `pixel_share` must be compared."""
    return float((truth == 0).mean())


def recover(w: np.ndarray, z: np.ndarray, highest: int = HIGHEST) -> RecoveredPixels:
    """Recover images (n, d) from a first layer and its outputs.

    Args:
        w: the first-layer matrix (k, d), as it is evaluated; k may be 0.
        z: its outputs (n, k) without bias.
        highest: the largest value of a pixel.

    Where no x in range has these outputs, the answer is all 0. Raises InputError for other shapes.
    """
    w, z = np.asarray(w, np.float64), np.asarray(z, np.float64)
    if w.ndim != 2 or z.ndim != 2 or z.shape[1] != len(w) or w.shape[1] == 0:
        raise InputError("z", z.shape, f"one output for each of the rows of w, {w.shape}")
    rows, width = len(w), w.shape[1]
    rank = int(np.linalg.matrix_rank(w)) if rows else 0
    if rank == width:
        found = np.linalg.lstsq(w, z.T, rcond=None)[0].T
    elif rank == 0:
        found = np.zeros((len(z), width))
    else:
        size = np.abs(w).max(axis=1).clip(np.finfo(np.float64).tiny)  # rows of one scale, for the solver's tolerances
        equations = sparse.csr_matrix(w / size[:, None])
        found = np.array([_sparsest(equations, one / size, highest) for one in z]).reshape(len(z), width)
    return RecoveredPixels(np.rint(found).clip(0, highest).astype(np.int64), rows, rank)


def _sparsest(equations: sparse.csr_matrix, z: np.ndarray, highest: int) -> np.ndarray:
    """Return the x (d,) of least sum, by HiGHS; all 0 where no x fits."""
    width = equations.shape[1]
    solved = linprog(np.ones(width), A_eq=equations, b_eq=z, bounds=(0, highest), method="highs")
    return np.zeros(width) if solved.x is None else solved.x
