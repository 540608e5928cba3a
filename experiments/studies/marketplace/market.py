"""The market of one seed: who has which rows, and how the shopper's networks are trained.

The `settings` are those of the part "market" in sizes.yaml, `shop` is one of its shops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from experiments.harness.size import source_of
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Conv, Dense, Network, initial, train

Pair = tuple[Tensor, Tensor]  # x (n, d) and y (n,)
DIGITS = Architecture("digits", (1, 8, 8), (Conv(8, 3, padding=1), Dense(32), Dense(10)))


def architecture_of(settings: SimpleNamespace) -> Architecture:
    return DIGITS if settings.network == "digits" else ARCHITECTURES[settings.network]


@dataclass(frozen=True, eq=False)
class MarketPlan:
    """`own` are the shopper's rows, `pool` is what is on offer, and `test` is independent of both."""

    own: Pair
    pool: Pair
    test: Pair
    classes: int

    @staticmethod
    def build(settings: SimpleNamespace, shop: SimpleNamespace, seed: int) -> MarketPlan:
        """Put the training rows in a random order: the shopper's, then the pool, which some of the test rows join."""
        known, unseen = source_of(settings.data).load()
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(known.rows, generator=generator)
        moved = torch.randperm(unseen.rows, generator=generator)
        own, rest = order[: shop.own], order[shop.own :]
        moved, kept = moved[: shop.borrowed], moved[shop.borrowed :].sort().values
        x, y = torch.cat([known.x[rest], unseen.x[moved]]), torch.cat([known.y[rest], unseen.y[moved]])
        parts = ((known.x[own], known.y[own]), (x, y), (unseen.x[kept], unseen.y[kept]))
        return MarketPlan(*((x.to(torch.float32), y) for x, y in parts), known.classes)


def fit(settings: SimpleNamespace, network: Network, plan: Sequence, seed: int, *parts: Pair) -> Network:
    """Train `network` by the plan's (epochs, learning rate) on the rows of all parts together."""
    x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    for stage, (epochs, lr) in enumerate(plan):
        chosen = {"epochs": epochs, "lr": lr, "batch_size": settings.batch, "seed": stream(seed, stage)}
        network = train(network, x, y, **chosen)
    return network


def shopper_model(settings: SimpleNamespace, shop: SimpleNamespace, market: MarketPlan, seed: int) -> Network:
    """Train the shopper's network on its own rows alone."""
    return fit(settings, initial(architecture_of(settings), seed), shop.first, stream(seed, 1), market.own)


def stream(*numbers: int) -> int:
    """Return a seed of its own for each purpose."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream(*numbers))
