"""Random values, which every method must beat.

f(D_a) ~ uniform on [0, 1), independent of the data
"""

from __future__ import annotations

import torch

from mpc_appraisal.data import Dataset


class Random:
    """Gives the i-th candidate that it is asked about the i-th number of the seed's sequence."""

    name = "random"

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator().manual_seed(seed)

    def value(self, candidate: Dataset | None = None) -> float:
        """A number that does not depend on the candidate."""
        return torch.rand((), dtype=torch.float64, generator=self._generator).item()
