"""Matrices over the ring of integers modulo 2^64, and their products with thin matrices.

In go int64 matrices; out come their products, which wrap modulo 2^64 as the ring does. A matrix whose elements fit 32
or 8 bits may be int32 or uint8, which takes less memory. Where the thin matrix is int32, its numbers are those of the
ring mod 2^32, and the products are right modulo 2^32 alone. Large products run in the loops of `compiled`, which read
X (n, d) by rows for both X W and X' R (' marks a transpose). Where these are not used (see `kernels`), torch computes.
X W then takes less than half the time as W' (k, d) times X' (d, n) stored by rows, so that a `Matrix` keeps a
transposed copy.
The layouts may change; the products have to stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch

from mpc_appraisal.mpc.ring.buffers import empty
from mpc_appraisal.mpc.ring.kernels import loops

SMALL = (torch.uint8, torch.int32)  # the types of a matrix beside int64


class Matrix:
    """A matrix (n, d) of int64, int32 or uint8, with the products that the protocols need."""

    def __init__(self, values: torch.Tensor):
        self.values = values
        self._transposed: torch.Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """Return values @ right, int64: (n, d) (d, k) -> (n, k)."""
        if has_form(self.values, right):
            return torch.matmul(self.values, right)
        compiled = self._compiled(right, self.shape[1])
        if compiled is not None:
            x, w, shape = _by_rows(self.values), _by_rows(right.t()), (self.shape[0], right.shape[1])
            out = np.empty(shape, w.dtype)
            if w.dtype == x.dtype or w.dtype == np.int32:
                compiled.times(x, w, out)
            else:
                compiled.narrow_times(x, *_halves(w), out)
            return _wide(torch.from_numpy(out))
        if self._transposed is None:
            self._transposed = _transpose(self.values)
        return (_wide(right.t()).contiguous() @ self._transposed).t()

    def transposed_times(self, right: torch.Tensor) -> torch.Tensor:
        """Return values' @ right, int64: (d, n) (n, k) -> (d, k)."""
        if has_form(self.values, right):
            return torch.matmul(self.values.t(), right)
        compiled = self._compiled(right, self.shape[0])
        if compiled is not None:
            x, r, shape = _by_rows(self.values), _by_rows(right.t()), (right.shape[1], self.shape[1])
            out = np.zeros(shape, r.dtype)
            if r.dtype == x.dtype or r.dtype == np.int32:
                compiled.transposed_times(x, r, out)
            else:
                upper = np.zeros(shape, np.int32)
                compiled.narrow_transposed_times(x, *_halves(r), out, upper)
                out += upper.astype(np.int64) << 32
            return _wide(torch.from_numpy(out)).t()
        return (_wide(right.t()).contiguous() @ _wide(self.values)).t()

    def product(self, right: torch.Tensor, transposed: bool) -> torch.Tensor:
        """Return `transposed_times(right)` if `transposed`, else `times(right)`."""
        return self.transposed_times(right) if transposed else self.times(right)

    def rows(self, indices: Sequence[int]) -> Matrix:
        """Return the matrix of the rows with these indices."""
        if self.values.is_meta:
            return Matrix(self.values.new_empty((len(indices), self.values.shape[1])))
        return Matrix(self.values[torch.as_tensor(indices, dtype=torch.int64)])

    def _compiled(self, right: torch.Tensor, inner: int) -> ModuleType | None:
        """Return the compiled loops if they are to compute a product with `right` (inner, k), else None.

        The loops check no index, so that only what fits is given to them; torch refuses the rest.
        """
        if right.is_meta or right.dim() != 2 or right.shape[0] != inner or not self._loops_take(right):
            return None
        return loops(self.shape.numel() * right.shape[1])

    def _loops_take(self, right: torch.Tensor) -> bool:
        """Return whether there are compiled loops for numbers of these types, which lie here as they read them."""
        kinds, unread = (self.values.dtype, right.dtype), self.values.is_meta or self._transposed is not None
        whole = kinds[0] in (*SMALL, torch.int64) and kinds[1] == torch.int64
        return self.values.dim() == 2 and not unread and (whole or kinds[0] in SMALL and kinds[1] == torch.int32)


def ring_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return left @ right of two int64 matrices of any layout: by compiled loops where they are used, else by torch."""
    if left.dim() != 2 or left.is_meta:
        return left.matmul(right)
    turned = not left.is_contiguous() and left.t().is_contiguous()
    matrix = Matrix(left.t() if turned else left)
    if matrix._compiled(right, left.shape[1]) is None:
        return left.matmul(right)
    return matrix.product(right, transposed=turned)


def has_form(*factors: torch.Tensor) -> bool:
    """Return whether a factor is no tensor but a linear form of `mpc.integrity`, whose product torch hands to it."""
    return not all(isinstance(factor, torch.Tensor) for factor in factors)


def _by_rows(values: torch.Tensor) -> np.ndarray:
    return values.contiguous().numpy()


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.int64) if values.dtype in SMALL else values


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two int32 arrays, low and high, with values = low + 2^32 high mod 2^64."""
    low = values.astype(np.int32)
    return low, ((values - low) >> 32).astype(np.int32)


def _transpose(values: torch.Tensor) -> torch.Tensor:
    if values.is_meta:
        return values.t()
    out = empty((values.shape[1], values.shape[0]))
    for start in range(0, len(values), 256):  # these blocks stay in the processor's cache
        out[:, start : start + 256] = values[start : start + 256].t()
    return out
