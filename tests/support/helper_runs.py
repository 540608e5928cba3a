"""Runs in which functions go to a helper, and the functions in numpy as oracles."""

from __future__ import annotations

import numpy as np
import torch
from three import run, sharing

from mpc_appraisal.mpc.protocols.permutation import apply

GENERATOR = torch.Generator().manual_seed(3)
ORACLES = {  # of numpy, on float64
    "relu": lambda z: np.maximum(z, 0),
    "step": lambda z: (z > 0).astype(float),
    "sigmoid": lambda z: np.where(z > 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z)))),
    "tanh": np.tanh,
    "exp": np.exp,
    "softmax": lambda z: np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1)[:, None],
    "log_softmax": lambda z: z - z.max(1, keepdims=True) - np.log(np.exp(z - z.max(1, keepdims=True)).sum(1))[:, None],
}


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def with_helper(engine):
    engine.helper = True
    return engine


def applied(values: torch.Tensor, bits: int, *names: str, times: int = 1):
    """A run in which the functions are applied to shares of `values`; results are shares, by call and name."""
    share = sharing(values, bits)

    def calls(engine):
        return [[each for each, _ in apply(with_helper(engine), share(engine), bits, names)] for _ in range(times)]

    return run(calls)


def opened(done, call: int = 0, place: int = 0) -> torch.Tensor:
    return done.results[0][call][place] + done.results[1][call][place]


def view(done) -> list[torch.Tensor]:
    """What the helper decodes, by call."""
    return [a + b for a, b in zip(done.shown[::2], done.shown[1::2], strict=True)]
