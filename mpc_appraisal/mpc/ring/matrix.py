"""Matrices over the ring of integers modulo 2^64, in the layouts in which torch's int64 product is fast.

In go int64 matrices; out come their products, which wrap modulo 2^64 as the ring does. For tall X (n, d) and thin
W (d, k), torch takes 2.5 times as long for X W as for W' (k, d) times X' (d, n) stored by rows, which is worth a
transposition (' marks a transpose). X' R, for R (n, k), is fast as (R' X)'. So a `Matrix` keeps both layouts. The
layouts may change with torch; the products have to stay exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mpc_appraisal.mpc.ring.buffers import empty


class Matrix:
    """An int64 matrix (n, d) with the products that the protocols need. It is transposed once, at the first use."""

    def __init__(self, values: torch.Tensor):
        self.values = values
        self._transposed: torch.Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    def times(self, right: torch.Tensor) -> torch.Tensor:
        """Return values @ right: (n, d) (d, k) -> (n, k)."""
        if self._transposed is None:
            self._transposed = _transpose(self.values)
        return (right.t().contiguous() @ self._transposed).t()

    def transposed_times(self, right: torch.Tensor) -> torch.Tensor:
        """Return values' @ right: (d, n) (n, k) -> (d, k)."""
        return (right.t().contiguous() @ self.values).t()

    def product(self, right: torch.Tensor, transposed: bool) -> torch.Tensor:
        """Return `transposed_times(right)` if `transposed`, else `times(right)`."""
        return self.transposed_times(right) if transposed else self.times(right)

    def rows(self, indices: Sequence[int]) -> Matrix:
        """Return the matrix of the rows with these indices."""
        if self.values.is_meta:
            return Matrix(self.values.new_empty((len(indices), self.values.shape[1])))
        return Matrix(self.values[torch.as_tensor(indices, dtype=torch.int64)])


def _transpose(values: torch.Tensor) -> torch.Tensor:
    if values.is_meta:
        return values.t()
    out = empty((values.shape[1], values.shape[0]))
    for start in range(0, len(values), 256):  # these blocks stay in the processor's cache
        out[:, start : start + 256] = values[start : start + 256].t()
    return out
