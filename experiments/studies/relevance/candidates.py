"""Candidates with known faults from one data set, their values without labels, and the true utility of each.

The buyer has `own` rows of all classes. Each candidate has rows of its own, drawn from the rest, which has to last for
all of them. Of CIFAR-10 planes and cars are taken.

    clean              as they are
    label noise p      each label is another class with probability p
    missing pixels p   each pixel is 0 with probability p
    noise on pixels s  s times a standard normal is added to each pixel
    c classes          rows of the classes 0 .. c - 1 alone
    shuffled pixels    the pixels of each image in an order of its own
    something else     grey crops of CIFAR-10 in the size of MNIST, beside MNIST alone

The true utility is the fall of the buyer's mean test loss by retraining softmax regression with the candidate.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch

from experiments.harness.records import Row
from mpc_appraisal import Dataset, appraise
from mpc_appraisal.data import Cifar10, Digits, Mnist
from mpc_appraisal.data.low_quality import grey_crops, random_labels, shuffled_pixels
from mpc_appraisal.methods import Diversity, Relevance
from mpc_appraisal.methods.relevance import principal_directions

L2 = 1e-2
SOURCES = {"digits": Digits, "mnist": Mnist, "cifar10": Cifar10}
MOST = 32  # so many times a candidate's rows have to be left beside the buyer's


class Stock:
    """The rows that are left of one data set. No row is given out twice."""

    def __init__(self, data: Dataset, seed: int):
        self.data, self.random = data, np.random.default_rng(seed)
        self.left = self.random.permutation(data.rows)

    def draw(self, rows: int, classes: int | None = None) -> Dataset:
        """Return so many rows, of the first classes alone where `classes` is stated."""
        fits = np.ones(len(self.left), bool) if classes is None else self.data.y.numpy()[self.left] < classes
        places = np.flatnonzero(fits)[:rows]
        drawn, self.left = self.left[places], np.delete(self.left, places)
        return self.data.subset(drawn)


def candidates(stock: Stock, name: str, told: SimpleNamespace, seed: int) -> Iterator[tuple[str, float, Dataset]]:
    """Yield (kind, level, data set) of every candidate."""
    draw, classes = stock.draw, stock.data.classes
    noise = torch.Generator().manual_seed(seed)
    for _ in range(told.clean):
        yield "clean", 0.0, draw(told.rows)
    for level in told.label:
        data = draw(told.rows)
        other = (data.y + torch.randint(1, classes, data.y.shape, generator=noise)) % classes
        wrong = torch.rand(data.rows, generator=noise) < level
        yield "label noise", level, Dataset(data.x, torch.where(wrong, other, data.y), classes)
    for level in told.missing:
        data = draw(told.rows)
        gone = torch.rand(data.x.shape, generator=noise) < level
        yield "missing pixels", level, Dataset(data.x.masked_fill(gone, 0.0), data.y, classes)
    for level in told.noise:
        data = draw(told.rows)
        more = level * torch.randn(data.x.shape, generator=noise)
        yield "noise on pixels", level, Dataset(data.x + more, data.y, classes)
    for count in (each for each in told.classes if each < classes):
        yield "few classes", count, draw(told.rows, count)
    data = draw(told.rows)
    yield "shuffled pixels", 1.0, Dataset(shuffled_pixels(data.x, seed), data.y, classes)
    if name == "mnist":
        foreign = Stock(Cifar10().load()[0], seed).draw(told.rows)
        labels = random_labels(foreign.rows, classes, seed)
        yield "something else", 1.0, Dataset(grey_crops(foreign.x, 28), labels, classes)


def measured(name: str, told: SimpleNamespace, seed: int, private: bool) -> list[Row]:
    """Return a row for each candidate and number of directions.

    private: whether the values of the first number of directions are computed between three processes too.
    """
    train, test = SOURCES[name]().load()
    told = SimpleNamespace(**vars(told) | {"rows": min(told.rows, (train.rows - told.own) // MOST)})
    stock = Stock(train, seed)
    own, test = stock.draw(told.own), Stock(test, seed).draw(told.test)
    found = [(kind, level, data.renamed(f"{kind} {level:g} {place}"))
             for place, (kind, level, data) in enumerate(candidates(stock, name, told, seed))]  # fmt: skip
    sets = [data for _, _, data in found]
    rows, utilities = [], {}
    for place, directions in enumerate(told.directions):
        methods = (Relevance(directions), Diversity(directions))
        given = {"train": own, "test": test, "method": methods, "l2": L2}
        values = appraise(sets, session="plain", true_utility=not utilities, **given)
        utilities = utilities or {data.name: values["relevance", data.name].utility for data in sets}
        shared = appraise(sets, session="spawn", **given) if private and place == 0 else None
        variances = principal_directions(own, directions)[2]
        outside = float(own.x.double().var(0, correction=0).sum() - variances.sum())
        for kind, level, data in found:
            rows.append({
                "part": "candidates", "data": name, "seed": seed, "directions": directions, "kind": kind,
                "level": level, "n": data.rows, "utility": utilities[data.name], "own": float(variances.norm()),
                "outside": outside, **_values(values, shared, data.name),
            })  # fmt: skip
    return rows


def _values(values, shared, name: str) -> Row:
    """Return both values in the clear, and what shares added, as far as they were computed on shares."""
    found: Row = {"seconds": None, "mb": None, "rounds": None}
    for method in ("relevance", "diversity"):
        record = None if shared is None else shared[method, name]
        found[method] = values[method, name].value
        found[f"{method}_error"] = None if record is None else abs(record.difference)
        if method == "relevance" and record is not None:
            found["seconds"] = sum(v for key, v in record.seconds.items() if key != "plaintext")
            found["mb"], found["rounds"] = sum(record.bytes_sent.values()) / 1e6, record.rounds
    return found
