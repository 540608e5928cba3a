"""A product of matrices of whole numbers, kept exactly, of which residues modulo many primes are then cheap.

    left @ right = sum over s of 2^(w s) G_s,     G_s = sum over i + j = s of left_i @ right_j
    left = sum of 2^(w i) left_i,   right = sum of 2^(w j) right_j       digits of w bits; those of int64 are signed

In go a dealt matrix, uint64 or in pieces, and a public one, int64 with signed numbers or in pieces, in any order; out
come the products mod p. Each left_i @ right_j is computed in float64, where its sums are below 2^53 and so exact. A
product of 64-bit numbers takes nine products in float64, once, and a prime then takes a few operations an element of
the result. Any way may take its place that is exact.
"""

from __future__ import annotations

import numpy as np

from mpc_appraisal.mpc.integrity.residues import compiled_for, residues
from mpc_appraisal.mpc.ring.pieces import Pieces

EXACT = 53  # float64 holds whole numbers of so many bits.
CARRIES = 60  # The sums of a few such products are below 2^62.
ROWS = 256  # So many rows of the larger matrix are split into digits at once, and summed before a carry.


class ExactProduct:
    """left @ right over the integers, (n, d) (d, k) -> (n, k): one is uint64, and the other one int64 or in pieces."""

    def __init__(self, left: np.ndarray | Pieces, right: np.ndarray | Pieces):
        kinds, pieces = {left.dtype, right.dtype}, isinstance(left, Pieces) or isinstance(right, Pieces)
        signed = np.dtype(np.int64) in kinds
        if not (signed or pieces) or kinds - {np.dtype(np.int64)} != {np.dtype(np.uint64)}:
            raise ValueError(f"left, right: got {left.dtype}, {right.dtype}; expected uint64 and int64, in any order")
        self.shape = (left.shape[0], right.shape[1])
        turned = left.size < right.size
        large, thin = (right.T, left.T) if turned else (left, right)
        thin = thin[:]  # an array, whichever it was
        along = large.T.flags.c_contiguous and not large.flags.c_contiguous  # its rows lie along the sums
        inner = min(ROWS, large.shape[1]) if along else large.shape[1]
        room = min(EXACT, CARRIES - (max(large.shape[1], 1) - 1).bit_length() + (max(inner, 1) - 1).bit_length())
        self._width = (room + signed - (max(inner, 1) - 1).bit_length()) // 2
        found = (self._along if along else self._across)(large, self._digits(thin, _count(thin, self._width)))
        self._sums = [each.T for each in found] if turned else found

    def modulo(self, p: int) -> np.ndarray:
        """Return the product mod p, uint64 (n, k), for a prime p below 2^31."""
        total, step = np.zeros(self.shape, np.int64), np.int64(1 << self._width)
        for each in reversed(self._sums):  # below 2^54 + 2^62
            total = residues(total * step + each, p).view(np.int64)
        return total.view(np.uint64)

    def _digits(self, values: np.ndarray, count: int) -> list[np.ndarray]:
        """Return the digits of a matrix in float64, the lowest first: from 0 to 2^w - 1, or of int64 within 2^(w-1)."""
        found, rest, w = [], values, self._width
        if compiled_for(values.size, 1) is not None:
            from mpc_appraisal.mpc.ring import compiled_rows

            out = np.empty((count, *values.shape))
            compiled_rows.digits(values, w, values.dtype == np.int64, out)
            return list(out)
        for _ in range(count):
            digit = rest & rest.dtype.type((1 << w) - 1)
            rest = rest >> rest.dtype.type(w)
            if values.dtype == np.int64:
                carry = digit >> np.int64(w - 1)
                digit -= carry << np.int64(w)
                rest += carry
            found.append(digit.view(np.int64).astype(np.float64))
        return found

    def _across(self, large: np.ndarray | Pieces, thin: list[np.ndarray]) -> list[np.ndarray]:
        """Return G_s from blocks of rows of the larger matrix, each of which gives as many rows of the result."""
        columns, beside = thin[0].shape[1], np.concatenate(thin, axis=1)
        count = _count(large, self._width)
        sums = [np.zeros((len(large), columns), np.int64) for _ in range(count + len(thin) - 1)]
        for start in range(0, len(large), ROWS):
            rows = slice(start, start + ROWS)
            for i, digit in enumerate(self._digits(large[rows], count)):
                found = digit @ beside
                for j in range(len(thin)):
                    sums[i + j][rows] += found[:, j * columns : (j + 1) * columns].astype(np.int64)
        return sums

    def _along(self, large: np.ndarray | Pieces, thin: list[np.ndarray]) -> list[np.ndarray]:
        """Return G_s from blocks of columns of the larger matrix, which lie in memory as rows, and are summed."""
        columns, beside = thin[0].shape[1], np.concatenate(thin, axis=1)
        count = _count(large, self._width)
        sums = [np.zeros((columns, len(large)), np.int64) for _ in range(count + len(thin) - 1)]
        for start in range(0, large.shape[1], ROWS):
            rows = slice(start, start + ROWS)
            turned = np.ascontiguousarray(beside[rows].T)
            for i, digit in enumerate(self._digits(large.T[rows], count)):
                found = turned @ digit
                for j in range(len(thin)):
                    sums[i + j] += found[j * columns : (j + 1) * columns].astype(np.int64)
        return [each.T for each in sums]


def _count(values: np.ndarray | Pieces, w: int) -> int:
    """Return how many digits the largest number of a matrix has, at least 1."""
    if not values.size:
        return 1
    if values.dtype == np.uint64:
        return max(1, -(-int(values.max()).bit_length() // w))
    size = max(int(values.max()), -int(values.min()))
    return max(1, -(-(size.bit_length() + 1) // w))
