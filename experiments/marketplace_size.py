"""Sizes of `marketplace.py`, the market of one seed, and jobs that are kept once they are finished.

`full`: MNIST, the sizes of the slides. `small`: scikit-learn's digits, which shows that all of it runs.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.data import DataSource, Digits, Mnist
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Conv, Dense, Network, initial, train

Row = dict[str, Any]
Plan = tuple[tuple[int, float], ...]  # (epochs, learning rate), one after the other
DIGITS = Architecture("digits", (1, 8, 8), (Conv(8, 3, padding=1), Dense(32), Dense(10)))


@dataclass(frozen=True)
class Shop:
    """A shopper with `own` training rows. borrowed: rows of the test data that sellers get, for the training data do
    not suffice. first, again: training of its model, and retraining of that model on own and bought rows. rounds: the
    last budget is bought in so many rounds too, each with retraining; 1: it is not."""

    own: int
    borrowed: int
    budgets: tuple[int, ...]
    first: Plan
    again: Plan
    rounds: int = 1


@dataclass(frozen=True)
class Trial:
    """Validation at the first shopper: of `selected` rows, `repeats` subsets of each granularity and kind of data."""

    selected: int
    granularities: tuple[int, ...]
    repeats: int
    rows: int  # of validation data
    again: Plan


@dataclass(frozen=True)
class Size:
    name: str
    seeds: int
    sellers: int
    batch: int
    shops: tuple[Shop, ...]
    trial: Trial

    @property
    def source(self) -> DataSource:
        return Mnist() if self.name == "full" else Digits()

    @property
    def architecture(self) -> Architecture:
        return ARCHITECTURES["cnn"] if self.name == "full" else DIGITS


def full(seeds: int) -> Size:
    small_shop = Shop(5500, 0, (550, 1100, 2750, 5500), ((20, 0.05), (5, 0.01)), ((10, 0.05), (5, 0.01)), rounds=10)
    large_shop = Shop(55000, 5000, (500, 1000, 2500, 5000), ((8, 0.05), (3, 0.01)), ((4, 0.05), (2, 0.01)))
    trial = Trial(10000, (10, 30, 100, 300, 1000), 12, 5000, ((10, 0.02), (3, 0.005)))
    return Size("full", seeds, 100, 64, (small_shop, large_shop), trial)


def small(seeds: int) -> Size:
    small_shop = Shop(150, 0, (50, 100, 200), ((30, 0.05), (5, 0.01)), ((15, 0.05), (5, 0.01)), rounds=2)
    large_shop = Shop(1000, 100, (50, 200), ((20, 0.05), (5, 0.01)), ((8, 0.05), (3, 0.01)))
    trial = Trial(300, (10, 30, 100), 3, 200, ((10, 0.05),))
    return Size("small", seeds, 10, 16, (small_shop, large_shop), trial)


@dataclass(frozen=True, eq=False)
class Market:
    """own: the shopper's rows; pool: what is on offer; test: independent of both."""

    own: tuple[Tensor, Tensor]
    pool: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int

    @staticmethod
    def build(size: Size, shop: Shop, seed: int) -> Market:
        """Training rows in a random order: the shopper's first, then the pool, which a part of the test rows joins."""
        known, unseen = size.source.load()
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(known.rows, generator=generator)
        moved = torch.randperm(unseen.rows, generator=generator)
        own, rest = order[: shop.own], order[shop.own :]
        moved, kept = moved[: shop.borrowed], moved[shop.borrowed :].sort().values
        x, y = torch.cat([known.x[rest], unseen.x[moved]]), torch.cat([known.y[rest], unseen.y[moved]])
        parts = ((known.x[own], known.y[own]), (x, y), (unseen.x[kept], unseen.y[kept]))
        return Market(*((x.to(torch.float32), y) for x, y in parts), known.classes)


def fit(size: Size, network: Network, plan: Plan, seed: int, *parts: tuple[Tensor, Tensor]) -> Network:
    """`network` after the plan's epochs on the rows of all parts together."""
    x, y = (torch.cat(each) for each in zip(*parts, strict=True))
    for stage, (epochs, lr) in enumerate(plan):
        network = train(network, x, y, epochs=epochs, lr=lr, batch_size=size.batch, seed=stream(seed, stage))
    return network


def model(size: Size, shop: Shop, market: Market, seed: int) -> Network:
    """The shopper's, trained on its own rows alone."""
    return fit(size, initial(size.architecture, seed), shop.first, stream(seed, 1), market.own)


def stream(*numbers: int) -> int:
    """A seed of its own for each purpose."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@dataclass(frozen=True)
class Job:
    """Rows of one part and seed, made in a process of its own: run(size, *arguments). Kept in WORK/<name>.json.

    turn: jobs of a lower one begin first, so that a run that is stopped has something of every part.
    """

    name: str
    turn: int
    run: Callable[..., list[Row]]
    size: Size
    arguments: tuple[Any, ...]

    def rows(self, work: Path) -> list[Row] | None:
        """None where it is not finished, or was finished with other sizes."""
        path = work / f"{self.name}.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        return kept["rows"] if kept.get("stated") == self._stated() else None

    def keep(self, work: Path) -> None:
        torch.set_num_threads(1)
        rows = self.run(self.size, *self.arguments)
        work.mkdir(parents=True, exist_ok=True)
        half = work / f"{self.name}.part"  # a run that is stopped leaves no half of a file
        half.write_text(json.dumps({"stated": self._stated(), "rows": rows}, allow_nan=False))
        half.replace(work / f"{self.name}.json")

    def _stated(self) -> str:
        return repr((self.size.batch, self.size.sellers, self.size.architecture, *self.arguments))


def run_all(jobs: Sequence[Job], work: Path, workers: int, until: float | None) -> None:
    """Runs what is not finished, `workers` at a time; after `until` (of time.monotonic) begins nothing more."""
    left = sorted((job for job in jobs if job.rows(work) is None), key=lambda job: job.turn)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running = {}
        while left or running:
            while left and len(running) < workers and (until is None or time.monotonic() < until):
                job = left.pop(0)
                running[pool.submit(job.keep, work)] = job.name
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(done)
                done.result()
                print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
