"""The rows of a pre-flight: how the model owner's training rows are split, and how the held-out ones are corrupted.

    O, H   of each class, three quarters of the rows, drawn at random, and the rest
    H_p    = H corrupted at rate (p / K)^2, p = 0 .. K - 1      labels:   each becomes one of the others at that rate
                                                                missing:  each feature becomes 0 at that rate
    H_ab   = H with all labels a and b exchanged

O are the own rows, on which a model is fitted; H are the held-out rows, which play the candidates. Data sets go in and
data sets come out. Every random number comes from `stream`, so that one seed gives the same parts again: the purposes,
their numbers and the order of drawing have to stay. The sizes may change. Why all parts share their rows, and why the
rates are squares: docs/protocols/preflight.md.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import torch

from mpc_appraisal.data import Dataset
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.training import mean_loss

OWN = 0.75  # share of O: the fewer rows it has, the less theta_s resembles the model that is asked about
TRAIN_ROWS, TEST_ROWS = 1_000, 2_000  # at most so many rows are used
SWAP_ROWS = 3  # rows that each of two classes must have in H for their labels to be exchanged
CORRUPTIONS = ("labels", "missing")
SPLIT, TEST, CORRUPT, SWAP = range(4)  # the purposes of random numbers


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """Return an independent generator for each seed and purpose.

    seed: 0 or more. purpose: one of SPLIT, TEST, CORRUPT and SWAP, and further integers such as the split's number.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int(seed), spawn_key=(977, *purpose))))


def sampled(test: Dataset, seed: int) -> Dataset:
    """Return the test rows, or TEST_ROWS of them drawn at random where there are more."""
    if test.rows <= TEST_ROWS:
        return test
    return test.subset(np.sort(stream(seed, TEST).permutation(test.rows)[:TEST_ROWS]))


def split(train: Dataset, seed: int, s: int) -> tuple[Dataset, Dataset]:
    """Return O and H of the split number s, from at most TRAIN_ROWS rows drawn at random."""
    order = stream(seed, SPLIT, s).permutation(train.rows)[:TRAIN_ROWS]
    labels, own, held = train.y.numpy()[order], [], []
    if train.numeric:
        labels = np.zeros(len(order))  # numbers have no classes to keep the shares of
    for label in range(train.classes):
        rows = order[labels == label]
        cut = math.ceil(OWN * len(rows))
        own.append(rows[:cut])
        held.append(rows[cut:])
    return train.subset(np.concatenate(own)), train.subset(np.concatenate(held)).renamed("held-out rows")


def corrupted(part: Dataset, rate: float, corruption: str, generator: np.random.Generator) -> Dataset:
    """Return `part` with each label, or each feature, corrupted with probability `rate`.

    corruption: one of CORRUPTIONS. A feature becomes 0, a label becomes one of the others, and a target that is a
    number becomes that of another row.
    """
    if corruption == "missing":
        missing = torch.from_numpy(generator.random(tuple(part.x.shape)) < rate)
        return Dataset(part.x.masked_fill(missing, 0.0), part.y, part.classes, part.name)
    if part.numeric:  # a target becomes that of another row, so that the targets' distribution stays
        hit, other = generator.random(part.rows) < rate, part.y[generator.permutation(part.rows)]
        return Dataset(part.x, torch.where(torch.from_numpy(hit), other, part.y), 1, part.name)
    hit, shift = generator.random(part.rows) < rate, generator.integers(1, part.classes, part.rows)
    other = (part.y + torch.from_numpy(shift)) % part.classes
    return Dataset(part.x, torch.where(torch.from_numpy(hit), other, part.y), part.classes, part.name)


def swaps(part: Dataset, model: LinearModel, generator: np.random.Generator, most: int) -> list[Dataset]:
    """Return H_ab for at most `most` pairs of classes, drawn at random where there are more.

    A pair is left out where one of its classes has fewer than SWAP_ROWS rows, or where the model does not distinguish
    the two: the swap must raise the model's loss, or it is no evidence of harm. A numeric target has no classes.
    """
    if part.numeric:
        return []
    pairs = list(combinations(torch.nonzero(torch.bincount(part.y) >= SWAP_ROWS).flatten().tolist(), 2))
    if len(pairs) > most:
        pairs = [pairs[k] for k in sorted(generator.choice(len(pairs), most, replace=False))]
    swapped = [
        Dataset(part.x, torch.where(part.y == a, b, torch.where(part.y == b, a, part.y)), part.classes, part.name)
        for a, b in pairs
    ]
    clean = mean_loss(model, part)
    return [swap for swap in swapped if mean_loss(model, swap) > clean]
