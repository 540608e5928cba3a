"""Exact products of integer matrices modulo 2^64, by matrix products of float64.

    x = x_0 + 2^22 x_1 + 2^44 x_2,  |x_0|, |x_1| <= 2^21,  |x_2| <= 2^19
    x y = sum of 2^(22 (i + j)) x_i y_j over i + j < 3, modulo 2^64                                    (`product`)

x and y are numbers of two int64 matrices, and x_i and y_j their limbs. `product` takes any two matrices of 64-bit
integers. Over 2048 terms a product of limbs stays within 2^53, where float64 is exact. `small_product` takes one factor
whose rows satisfy `|w|_1 <= 2^20`, for which two halves of 32 bits suffice. Callers have to keep this bound, which is
not checked here. Thresholds of speed (_FEW, _DENSITY) may change; the sizes of limbs and _DEPTH may change only
together, so that all sums stay within 2^53.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

_LIMB = 22
_LIMBS = 3
_DEPTH = 2048
_FEW = 4  # For at most so many rows, integer products are faster than splitting into limbs.
_DENSITY = 0.08  # Below this share of non-zero weights a sparse product is faster.


class Residues:
    """A matrix modulo 2^64 (int64). Its limbs are computed for the first product that needs them, and cached."""

    def __init__(self, values: np.ndarray):
        self.values = values

    @cached_property
    def limbs(self) -> tuple[np.ndarray, ...]:
        """Return the three limbs of the matrix as float64, the lowest first."""
        return tuple(_limbs(self.values))


def product(left: np.ndarray, right: Residues) -> np.ndarray:
    """Return left @ right' modulo 2^64, for int64 matrices: (m, n), (k, n) -> (m, k)."""
    if len(left) <= _FEW:
        return left @ right.values.T
    limbs = list(_limbs(left))
    out = np.zeros((len(left), len(right.values)), dtype=np.int64)
    for start in range(0, left.shape[1], _DEPTH):
        run = slice(start, start + _DEPTH)
        for i in range(_LIMBS):
            for j in range(_LIMBS - i):
                exact = limbs[i][:, run] @ right.limbs[j][:, run].T
                out += exact.astype(np.int64) << (_LIMB * (i + j))
    return out


class Small:
    """A matrix w (k, d) int64 with |w|_1 <= 2^20 in every row.

    The sparse form and the floats are computed for the first product that needs them, and cached.
    """

    def __init__(self, values: np.ndarray):
        self.values = values

    @cached_property
    def sparse(self) -> csr_array | None:
        """Return the matrix in sparse form, or None if it has too many non-zero weights for that."""
        few = np.count_nonzero(self.values) <= _DENSITY * self.values.size
        return csr_array(self.values.view(np.uint64)) if few else None

    @cached_property
    def floats(self) -> np.ndarray:
        """Return the matrix in float64."""
        return self.values.astype(np.float64)


def small_product(w: Small, right: np.ndarray) -> np.ndarray:
    """Return w @ right modulo 2^64, for int64 matrices: (k, d), (d, m) -> (k, m)."""
    if w.sparse is not None:
        return (w.sparse @ np.ascontiguousarray(right).view(np.uint64)).view(np.int64)
    if right.shape[1] <= _FEW:
        return w.values @ right
    low, high = (right & 0xFFFFFFFF).astype(np.float64), (right >> 32).astype(np.float64)
    return (w.floats @ low).astype(np.int64) + ((w.floats @ high).astype(np.int64) << 32)


def _limbs(values: np.ndarray):
    """Yield the three balanced limbs of int64 numbers as float64 arrays, the lowest first."""
    for bits in (_LIMB, _LIMB, 64 - 2 * _LIMB):
        half = 1 << (bits - 1)
        low = ((values + half) & ((1 << bits) - 1)) - half
        yield low.astype(np.float64)
        values = (values - low) >> bits
