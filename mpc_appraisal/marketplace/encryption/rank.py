"""The rank of integer rows that arrive one after the other, modulo a secret random prime p.

    B (r, d): the rows so far in reduced echelon form modulo p, with pivot columns P
    N (k, d): new rows; N - N[:, P] B is what is new in them

In go rows of integers; out comes whether each is independent of the rows before it. `Echelon` holds B. It brings
what is new in a block of rows to echelon form, and clears the new pivot columns in B.

The rank modulo p is never greater than the rank over the rationals. It is smaller only if p divides one fixed minor.
This minor has at most log2(minor) / 30 prime divisors of 31 bits, which is about 420 of 5e7 such primes for 784 rows of
norm below 2^16. The authority takes the larger rank of two independent primes, which is wrong with a probability below
2^-32. The elimination may change, as long as products stay exact. The primes must stay secret, random and of 31 bits:
whoever knew p could make rows that look dependent modulo p and are not, and the authority would not count them.
"""

from __future__ import annotations

import secrets

import numpy as np

_HALF = 16
_BLOCK = 32


def draw_prime() -> int:
    """Draw a uniform random prime of 31 bits, from the operating system's randomness."""
    while True:
        candidate = (1 << 30) | secrets.randbits(30) | 1
        if _is_prime(candidate):
            return candidate


class Echelon:
    """The span of integer rows of length `dimension`, modulo `prime` (31 bits)."""

    def __init__(self, dimension: int, prime: int):
        self.prime = prime
        self._rows = np.zeros((0, dimension), dtype=np.int64)
        self._pivots: list[int] = []

    @property
    def rank(self) -> int:
        """Return the number of independent rows."""
        return len(self._pivots)

    def copy(self) -> Echelon:
        """Return a span of the same rows, to which rows can be added without changing this span."""
        other = Echelon(self._rows.shape[1], self.prime)
        other._rows, other._pivots = self._rows, list(self._pivots)  # `add` replaces the rows and never alters them.
        return other

    def add(self, rows: np.ndarray) -> np.ndarray:
        """Add rows (k, d) int64. Returns (k,) bool: whether each row is independent of all rows before it."""
        new = np.zeros(len(rows), dtype=bool)
        for start in range(0, len(rows), _BLOCK):
            new[start : start + _BLOCK] = self._add_block(rows[start : start + _BLOCK])
        return new

    def _add_block(self, rows: np.ndarray) -> np.ndarray:
        prime = self.prime
        left = rows % prime
        if self._pivots:
            left = (left - self._times(left[:, self._pivots], self._rows)) % prime
        pivots, kept = [], []
        for index in range(len(left)):
            columns = np.flatnonzero(left[index])
            if not len(columns):
                continue
            pivot = int(columns[0])
            left[index] = left[index] * pow(int(left[index, pivot]), -1, prime) % prime
            factors = left[:, pivot].copy()
            factors[index] = 0
            others = np.flatnonzero(factors)
            left[others] = (left[others] - factors[others, None] * left[index]) % prime
            pivots.append(pivot)
            kept.append(index)
        if kept:
            fresh = left[kept]
            cleared = (self._rows - self._times(self._rows[:, pivots], fresh)) % prime
            self._rows = np.concatenate([cleared, fresh])
            self._pivots = self._pivots + pivots
        return np.isin(np.arange(len(rows)), kept)

    def _times(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return left @ right modulo the prime, by halves of 16 bits.

        Sums of up to 2^20 products below 2^32 are exact in float64, so rows may be no longer than that.
        """
        high_l, low_l = (left >> _HALF).astype(np.float64), (left & 0xFFFF).astype(np.float64)
        high_r, low_r = (right >> _HALF).astype(np.float64), (right & 0xFFFF).astype(np.float64)
        total = (high_l @ high_r).astype(np.int64) % self.prime
        total = ((total << _HALF) + (high_l @ low_r + low_l @ high_r).astype(np.int64)) % self.prime
        return ((total << _HALF) + (low_l @ low_r).astype(np.int64)) % self.prime


def _is_prime(number: int) -> bool:
    """Say whether a number is prime, by Miller and Rabin with bases 2, 3, 5 and 7; exact below 3,215,031,751."""
    twos = (number - 1 & 1 - number).bit_length() - 1
    for base in (2, 3, 5, 7):
        power = pow(base, (number - 1) >> twos, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
