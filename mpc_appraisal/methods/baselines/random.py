"""Random values, which every method must beat.

    f(D_a) ~ uniform on [0, 1), independent of the data

A candidate D_a goes in and is not looked at; a number comes out. The numbers are those of torch's generator, which
repeats them for the same seed. The name "random" and the sequence have to stay, so that records can be repeated.
"""

from __future__ import annotations

import torch

from mpc_appraisal.data import Dataset


class Random:
    """Give the i-th candidate that is asked about the i-th number of the seed's sequence."""

    name = "random"

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator().manual_seed(seed)

    def value(self, candidate: Dataset | None = None) -> float:
        """Return the next number, which does not depend on the candidate."""
        return torch.rand((), dtype=torch.float64, generator=self._generator).item()
