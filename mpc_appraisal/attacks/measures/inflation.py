"""The inflation of a candidate as a choice of the app: each seller in turn makes its rows look better than they are.

    recovered = mean over sellers s of the share of the other candidates o with  value(o) < value(inflated s)

The ways are those of `attacks.inflation`, and the seller guesses the buyer's model from rows of the same kind. In goes
an `OffersView`; out comes for each method the best of the ways. The chance is the share that the same sellers' honest
rows are above; an equal value counts half, so that it is 1/2 where all candidates are inflated in turn. The
countermeasures cut rows to the range and the longest row of the buyer's, count rows that are near to each other once,
and refuse fewer than half as many rows as were offered honestly. They stop some of the ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

import torch

from mpc_appraisal.attacks import inflation
from mpc_appraisal.attacks.measures.base import VALUES, Attack, Finding
from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.data import Dataset
from mpc_appraisal.transformations.views import OffersView

SHORT = 0.001  # the factor that makes rows next to nothing
LEAST = 0.5  # the share of the honest rows below which the buyer refuses an offer
MEANING = "other candidates that an inflated one is valued above"
STOPS = "in part, where rows are cut to the buyer's range and longest row, near rows count once, and few are refused"
NEAR = 0.2  # the share of the median distance of the buyer's rows to their nearest, below which rows are near
COMPARED = 500  # the most of the buyer's rows by which this distance is found
Offer = Callable[[Dataset], Dataset]


@dataclass(frozen=True)
class Inflation(Attack):
    """The settings of the attack. Raises InputError for a setting that does not fit.

    Attributes:
        times: How often a row is copied, and how many labels are given to each row in proportion.
        picked: The share of its rows that a seller offers where it withholds the others.
        known: The number of rows from which the buyer's model is guessed; there may be fewer.
        sellers: The largest number of candidates that are inflated, each alone.
    """

    times: int = 10
    picked: float = 0.2
    known: int = 500
    sellers: int = 5

    name: ClassVar[str] = "inflation"
    reads: ClassVar[str] = "offers"

    def __post_init__(self) -> None:
        for name, least in (("times", 1), ("known", 2), ("sellers", 1)):
            integer(name, getattr(self, name), least)
        number("picked", self.picked, "a number above 0 and at most 1", above=0, most=1)

    def measure(self, view: OffersView, seed: int) -> list[Finding]:
        """Inflate candidates by each way, as `Attack.measure` describes it."""
        draw = torch.Generator().manual_seed(seed)
        rows = inflation.joined([_plain(each) for each in view.candidates], "known")
        known = rows.subset(torch.randperm(rows.rows, generator=draw)[: self.known])
        ways = self._ways(inflation.Guess.of(known, view.l2, seed=seed), known)
        chosen = torch.randperm(len(view.candidates), generator=draw)[: self.sellers].tolist()
        offers = {way: {k: made(_plain(view.candidates[k])) for k in chosen} for way, made in ways.items()}
        return [self._best(view, method, offers, known.rows) for method in view.valued]

    def _ways(self, guess: inflation.Guess, known: Dataset) -> dict[str, Offer]:
        """Return each way to inflate a data set, by its name."""
        low, high = min(float(known.x.min()), 0.0), max(float(known.x.max()), 0.0)
        found: dict[str, Offer] = {
            "copies": lambda data: inflation.copied(data, self.times),
            "picked rows": lambda data: inflation.picked(data, guess, max(1, round(self.picked * data.rows))),
            "own model's labels": lambda data: inflation.relabelled(data, guess),
            "near-zero rows": lambda data: inflation.stretched(data, SHORT),
            "labels in proportion": lambda data: inflation.in_proportion(data, guess, self.times),
        }
        norm = inflation.longest(known)
        if norm > 1:
            found["crafted rows"] = lambda data: inflation.crafted(data, guess, norm, low, high)
        return found

    def _best(self, view: OffersView, method: str, offers: dict[str, dict[int, Dataset]], known: int) -> Finding:
        """Return what the best way reaches by one method."""
        value = view.valued[method]
        honest = [value(each) for each in view.candidates]
        shares, guarded = {}, {}
        for way, made in offers.items():
            shares[way] = fmean(_above(value(data), honest, k) for k, data in made.items())
            admitted = {k: _admitted(data, view, k) for k, data in made.items()}
            guarded[way] = fmean(
                0.0 if data is None else _above(value(data), honest, k) for k, data in admitted.items()
            )
        best = max(shares, key=shares.__getitem__)
        chance = fmean(_above(honest[k], honest, k) for k in offers[best])
        return Finding(
            f"inflation: {method.replace('_', ' ')}", f"{best}; {len(offers[best])} of {len(honest)} candidates, each "
            f"alone, guessed from {known} rows", shares[best], chance, MEANING, STOPS, max(guarded.values()),
            against=VALUES,
            points=tuple({"way": way, "recovered": shares[way], "stopped": guarded[way]} for way in shares),
        )  # fmt: skip


def _plain(data: Dataset) -> Dataset:
    return Dataset(data.x.to(torch.float64), data.y, data.classes, data.name)


def _above(value: float, honest: Sequence[float], own: int) -> float:
    """Return the share of the others' values that are below `value`, an equal one counting half."""
    others = [each for k, each in enumerate(honest) if k != own]
    return fmean(1.0 if each < value else 0.5 if each == value else 0.0 for each in others)


def _admitted(data: Dataset, view: OffersView, own: int) -> Dataset | None:
    """Return the rows that the buyer's countermeasures leave; None where they refuse the offer."""
    x = view.own.x.to(torch.float64)
    low, high, norm = min(float(x.min()), 0.0), max(float(x.max()), 0.0), inflation.longest(view.own)
    left = inflation.distinct(inflation.clipped(data, norm, low, high) if norm > 1 else data, _near(x[:COMPARED]))
    return left if left.rows >= LEAST * view.candidates[own].rows else None


def _near(x: torch.Tensor) -> float:
    """Return the distance below which two rows are near to each other, from rows x (n, d); 0 for fewer than two."""
    apart = torch.cdist(x, x).fill_diagonal_(torch.inf)
    return NEAR * float(apart.min(1).values.median()) if len(x) > 1 else 0.0
