"""The buyer and the sellers of the study: honest sellers with false labels, and one that cheats.

Everything is drawn from one data set without a row in two places. A seller with a level of 0.2 has a false label on a
fifth of its rows, as a careless labeller would.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace

import torch

from experiments.harness.size import source_of
from mpc_appraisal.attacks import inflation as attack
from mpc_appraisal.attacks.inflation import Guess
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.data.low_quality import mislabelled
from mpc_appraisal.methods import Finetuning, GradientNorm, Influence, Retraining
from mpc_appraisal.methods.base import Appraiser, Facts
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.models.training import fit

TOLERANCE = 1e-5  # of every fit
PRIVATE = (GradientNorm, Influence, Finetuning)
TRUE = Retraining.name
METHODS = (*(method.name for method in PRIVATE), TRUE)


@dataclass(frozen=True)
class Setting:
    """What one market of the study is made of, from sizes.yaml."""

    data: str
    own: int
    tested: int
    rows: int
    known: int
    l2: float
    times: int
    longer: float
    made: int
    wrong: float
    levels: tuple[float, ...]

    @staticmethod
    def of(s: SimpleNamespace, data: str, levels: tuple[float, ...] | None = None) -> Setting:
        here = {key: getattr(getattr(s, key), data) for key in ("own", "tested", "rows", "known", "l2")}
        made = round(s.made * here["rows"])
        return Setting(data, times=s.times, longer=s.longer, made=made, wrong=s.wrong, levels=levels or s.levels, **here)


class Stage:
    """A buyer, honest sellers and the cheating one, drawn by a seed.

    `honest` are the honest sellers by level, `bad` are the cheating seller's rows with many false labels, and `clean`
    the same rows with true labels. `known` and `pool` are other rows of the cheating seller, with true labels.
    """

    def __init__(self, setting: Setting, seed: int):
        self.setting, self.seed, s = setting, seed, setting
        train, test = source_of(s.data).load()
        order = iter(torch.randperm(train.rows, generator=torch.Generator().manual_seed(seed)).tolist())

        def taken(rows: int, name: str) -> Dataset:
            return _plain(train.subset([next(order) for _ in range(rows)]), name)

        self.train = taken(s.own, "own")
        self.known, self.pool = taken(s.known, "known"), taken(s.known, "pool")
        self.clean = taken(s.rows, "clean")
        self.bad = _with_false_labels(self.clean, s.wrong, seed).renamed("cheating")
        self.honest = [
            _with_false_labels(taken(s.rows, f"honest {level:g}"), level, 100 * seed + k)
            for k, level in enumerate(s.levels, start=1)
        ]
        chosen = torch.randperm(test.rows, generator=torch.Generator().manual_seed(seed))[: s.tested]
        self.test = _plain(test.subset(chosen), "test")
        self.low, self.high = float(self.train.x.min()), float(self.train.x.max())
        self.longest = attack.longest(self.train)

    @cached_property
    def guess(self) -> Guess:
        return Guess.of(self.known, self.setting.l2, seed=self.seed, tolerance=TOLERANCE)

    @cached_property
    def valued(self) -> dict[str, Callable[[Dataset], float]]:
        """Return a function for each method, from a data set to its value for the buyer."""
        model = fit(self.train, self.setting.l2, TOLERANCE)
        found: dict[str, Callable[[Dataset], float]] = {
            method.name: functools.partial(_value, method(), self.owned(method(), model), self) for method in PRIVATE
        }
        return found | {TRUE: Retraining(self.train, self.test, self.setting.l2, model, TOLERANCE).value}

    def owned(self, method: Appraiser, model) -> dict[str, torch.Tensor]:
        return method.prepare(model, self.train, self.test)

    @cached_property
    def thresholds(self) -> dict[str, Callable[[int], float | None]]:
        """Return for each method a function from a number of rows to the threshold at which the buyer buys."""
        checks = preflight(
            self.train, self.test, [method() for method in PRIVATE], self.setting.l2, seed=self.seed, quick=True
        ).checks
        return {check.method: check.threshold.of for check in checks} | {TRUE: lambda rows: 0.0}

    @cached_property
    def likeness(self) -> float:
        """Return the cosine of the guessed direction and the buyer's, of weights centred over the classes."""
        influence = Influence()
        true = self.owned(influence, fit(self.train, self.setting.l2, TOLERANCE))["direction"]
        one, other = (v - v.mean(1, keepdim=True) for v in (true, self.guess.directions.mean(0)))
        return float((one * other).sum() / (one.norm() * other.norm()))

    @cached_property
    def near(self) -> float:
        """Return a fifth of the median distance of a row to its nearest neighbour, among the buyer's own rows."""
        x = self.train.x
        return float((torch.cdist(x, x) + torch.eye(len(x)) * 1e9).min(1).values.median()) / 5

    def attacks(self) -> dict[str, Dataset]:
        """Return what the seller offers in each attack, by the name of the attack."""
        s, bad, guess = self.setting, self.bad, self.guess
        jitter = self.near / 2 / bad.features**0.5  # a near-copy is half of `near` away
        bounds = {"row_norm": attack.longest(self.known), "low": float(self.known.x.min()), "high": float(self.known.x.max())}
        start = self.pool.subset(range(s.made))
        padding = attack.crafted(start, guess, **bounds)
        long = attack.crafted(start, guess, s.longer * bounds["row_norm"])
        fitted = attack.relabelled(bad, guess)
        return {
            "copies": attack.copied(bad, s.times),
            "near-copies": attack.copied(bad, s.times, jitter, self.seed),
            "one row": attack.picked(bad, guess, 1),
            "a fifth, picked": attack.picked(bad, guess, s.rows // 5),
            "own model's labels": fitted,
            "long rows": attack.stretched(bad, s.longer),
            "own model's labels, long": attack.stretched(fitted, s.longer),
            "near-zero rows": attack.stretched(bad, 0.001),
            "labels in proportion": attack.in_proportion(bad, guess, s.times),
            "balancing rows": attack.joined([bad, attack.balancing(bad, self.pool, guess, s.made)], "balanced"),
            "crafted rows": attack.joined([bad, padding], "padded"),
            "crafted long rows": attack.joined([bad, long], "padded, long"),
        }

    def guards(self) -> dict[str, Callable[[Dataset], Dataset]]:
        """Return each countermeasure, as a function from the rows on offer to those that are valued."""
        norm = functools.partial(attack.clipped, row_norm=self.longest)
        bounds = functools.partial(attack.clipped, low=self.low, high=self.high)
        near = functools.partial(attack.distinct, apart=self.near)
        cap = functools.partial(attack.capped, rows=self.setting.rows, seed=self.seed)
        return {
            "none": lambda data: data,
            "no copies": attack.distinct,
            "no near-copies": near,
            "row norm": norm,
            "range": bounds,
            "cap on rows": cap,
            "all": lambda data: cap(near(norm(bounds(data)))),
        }


def _plain(data: Dataset, name: str) -> Dataset:
    return Dataset(data.x.to(torch.float64), data.y, data.classes, name)


def _value(method: Appraiser, owned: dict[str, torch.Tensor], stage: Stage, data: Dataset) -> float:
    """Return the value in the clear, which the private run computes on shares."""
    facts = Facts(data.features, data.classes, stage.train.rows, stage.test.rows, data.rows, stage.setting.l2)
    return method.value(method.score(owned, with_bias(data.x), data.one_hot(), facts).item(), facts)


def _with_false_labels(data: Dataset, share: float, seed: int) -> Dataset:
    """Return the rows with a false label on exactly that share of them."""
    count = round(share * data.rows)
    order = torch.randperm(data.rows, generator=torch.Generator().manual_seed(seed))[:count]
    y = data.y.clone()
    y[order] = mislabelled(data.y[order], data.classes, seed)
    return replace(data, y=y)
