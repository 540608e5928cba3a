"""Exact products of integer matrices modulo 2^64, by float64 GEMM.

`product`: both factors use all 64 bits. x = x0 + 2^22 x1 + 2^44 x2 with balanced limbs |x0|, |x1| <= 2^21,
|x2| <= 2^19; over 2048 terms a product of limbs stays within 2^53, where float64 is exact, and
x y = sum_{i+j<3} 2^(22(i+j)) x_i y_j modulo 2^64.

`small_product`: one factor has rows of |w|_1 <= 2^20: two halves of 32 bits do.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

_LIMB = 22
_LIMBS = 3
_DEPTH = 2048
_FEW = 4  # rows below which splitting costs more than plain integer products
_DENSITY = 0.08  # share of non-zero weights below which a sparse product is the faster


class Residues:
    """A matrix modulo 2^64 (int64), with its limbs kept from the first product that needs them."""

    def __init__(self, values: np.ndarray):
        self.values = values

    @cached_property
    def limbs(self) -> tuple[np.ndarray, ...]:
        return tuple(_limbs(self.values))


def product(left: np.ndarray, right: Residues) -> np.ndarray:
    """left @ right' modulo 2^64: int64 (m, n), (k, n) -> (m, k)."""
    if len(left) <= _FEW:
        return left @ right.values.T
    parts = list(_limbs(left))
    out = np.zeros((len(left), len(right.values)), dtype=np.int64)
    for start in range(0, left.shape[1], _DEPTH):
        run = slice(start, start + _DEPTH)
        for i in range(_LIMBS):
            for j in range(_LIMBS - i):
                exact = parts[i][:, run] @ right.limbs[j][:, run].T
                out += exact.astype(np.int64) << (_LIMB * (i + j))
    return out


class Small:
    """A matrix w (k, d) int64 with |w|_1 <= 2^20 in every row, with what its products need kept from the first."""

    def __init__(self, values: np.ndarray):
        self.values = values

    @cached_property
    def sparse(self) -> csr_array | None:
        few = np.count_nonzero(self.values) <= _DENSITY * self.values.size
        return csr_array(self.values.view(np.uint64)) if few else None

    @cached_property
    def floats(self) -> np.ndarray:
        return self.values.astype(np.float64)


def small_product(w: Small, right: np.ndarray) -> np.ndarray:
    """w @ right modulo 2^64: int64 (k, d), (d, m) -> (k, m)."""
    if w.sparse is not None:
        return (w.sparse @ np.ascontiguousarray(right).view(np.uint64)).view(np.int64)
    if right.shape[1] <= _FEW:
        return w.values @ right
    low, high = (right & 0xFFFFFFFF).astype(np.float64), (right >> 32).astype(np.float64)
    return (w.floats @ low).astype(np.int64) + ((w.floats @ high).astype(np.int64) << 32)


def _limbs(values: np.ndarray):
    for bits in (_LIMB, _LIMB, 64 - 2 * _LIMB):
        half = 1 << (bits - 1)
        low = ((values + half) & ((1 << bits) - 1)) - half
        yield low.astype(np.float64)
        values = (values - low) >> bits
