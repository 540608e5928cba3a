"""A matrix of whole numbers of 40 or 48 bits that stay in the two pieces in which they were drawn.

    x = low + 2^32 high          low is a uint32, and high a uint8 at 40 bits, or a uint16 at 48 bits

The check of messages reads a large mask once or twice. So it is not copied to an array of uint64: the loops of
`prime_field` join the pieces as they read them, and rows are joined where they are asked for. A `Pieces` has what these
readers use of an array, and another way of an array may be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

HALF = 32


@dataclass(frozen=True)
class Pieces:
    """A matrix (n, d) of uint64.

    Attributes:
        low: the lower 32 bits, uint32 (n, d).
        high: the other bits, uint8 or uint16 (n, d).
    """

    low: np.ndarray
    high: np.ndarray

    dtype = np.dtype(np.uint64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape

    @property
    def size(self) -> int:
        return self.low.size

    @property
    def flags(self) -> Any:
        """How the pieces lie in memory."""
        return self.low.flags

    @property
    def T(self) -> Pieces:  # noqa: N802  as numpy calls it
        return Pieces(self.low.T, self.high.T)

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return rows as an array of uint64."""
        found = self.high[rows].astype(np.uint64)
        found <<= np.uint64(HALF)
        found |= self.low[rows]
        return found

    def max(self) -> int:
        """Return a bound on the largest number, which has as many bits."""
        return int(self.high.max()) << HALF | (1 << HALF) - 1
