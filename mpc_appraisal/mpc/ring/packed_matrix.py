"""Matrices in a ring of 40 or 48 bits that stay in memory as the bytes in which they were drawn or received.

    x = low + 2^32 high mod 2^bits          low is a uint32, and high a uint8 at 40 bits, or a uint16 at 48 bits

In go the bytes that `packing.pack` makes of a matrix (n, d); out come its products with int64 matrices, which are
those of `Matrix(unpack(message, shape, size))` to the last bit. Masked rows of a candidate take 5 bytes an element in
place of 8, and no second copy of them is made. The compiled loops join the two pieces of an element as they read it.
Where these loops are not used (see `kernels`), the first product unpacks the matrix, which is a `Matrix` of int64 from
then on. So does the product after PACKED_PRODUCTS: a block of a large candidate enters no more of them, and a matrix
that is kept for many products is read faster as int64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from mpc_appraisal.mpc.ring.matrix import Matrix, has_form
from mpc_appraisal.mpc.ring.packing import pieces_of, unpack
from mpc_appraisal.mpc.ring.pieces import Pieces

PACKED_PRODUCTS = 2  # so many products read the packed bytes


class PackedMatrix(Matrix):
    """A matrix (n, d) whose elements are `size` bytes, 5 or 6, of a packed message.

    Args:
        message: the bytes (uint8) of `packing.pack`, which are kept and not copied if their address is a multiple of 4.
        shape: the two dimensions.
        size: the number of bytes an element.

    Attributes:
        message: the bytes; None once the matrix has been unpacked.
    """

    def __init__(self, message: torch.Tensor, shape: Sequence[int], size: int):
        self.message: torch.Tensor | None = message if message.data_ptr() % 4 == 0 else message.clone()
        self._shape, self._size = torch.Size(shape), size
        self._wide: Matrix | None = None
        self._products = 0

    @property
    def shape(self) -> torch.Size:
        return self._shape

    @property
    def values(self) -> torch.Tensor:
        """Return the elements as int64, in [0, 2^(8 size))."""
        return unpack(self.message, self._shape, self._size) if self._wide is None else self._wide.values

    @property
    def largest(self) -> int:
        """Return the largest number that an element may be."""
        return (1 << 8 * self._size) - 1

    def pieces(self) -> Pieces | np.ndarray:
        """Return the elements in their two pieces, or as int64 once the matrix has been unpacked."""
        return Pieces(*self._pieces()) if self._wide is None else self._wide.values.numpy()

    def times(self, right: torch.Tensor) -> torch.Tensor:
        if has_form(right):
            return right.from_left(self, False)
        compiled = self._compiled(right, self._shape[1])
        if compiled is None:
            return self._unpacked().times(right)
        self._products += 1
        out = np.empty((self._shape[0], right.shape[1]), np.int64)
        compiled.packed_times(*self._pieces(), right.t().contiguous().numpy(), out)
        return torch.from_numpy(out)

    def transposed_times(self, right: torch.Tensor) -> torch.Tensor:
        if has_form(right):
            return right.from_left(self, True)
        compiled = self._compiled(right, self._shape[0])
        if compiled is None:
            return self._unpacked().transposed_times(right)
        self._products += 1
        out = np.zeros((right.shape[1], self._shape[1]), np.int64)
        compiled.packed_transposed_times(*self._pieces(), right.t().contiguous().numpy(), out)
        return torch.from_numpy(out).t()

    def rows(self, indices: Sequence[int]) -> Matrix:
        if self._wide is not None:
            return self._wide.rows(indices)
        low, high = self._pieces()
        chosen = np.asarray(indices, dtype=np.int64)
        parts = [torch.from_numpy(piece[chosen]).view(torch.uint8).reshape(-1) for piece in (low, high)]
        return PackedMatrix(torch.cat(parts), (len(indices), self._shape[1]), self._size)

    def _pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Return low and high (n, d), unsigned."""
        (low, _), (high, _) = pieces_of(self.message.numpy(), self._shape.numel(), self._size)
        return low.reshape(self._shape), high.reshape(self._shape)

    def _unpacked(self) -> Matrix:
        if self._wide is None:
            self._wide, self.message = Matrix(unpack(self.message, self._shape, self._size)), None
        return self._wide

    def _loops_take(self, right: torch.Tensor) -> bool:
        packed = self._wide is None and self._products < PACKED_PRODUCTS
        return packed and len(self._shape) == 2 and right.dtype == torch.int64
