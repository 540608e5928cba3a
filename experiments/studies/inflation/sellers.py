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
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit

TOLERANCE = 1e-5  # of every fit
PER_ROW = "gradient_norm per row"  # the value divided by the number of rows
PRIVATE = (GradientNorm.name, Influence.name, Finetuning.name)
TRUE = Retraining.name
METHODS = (GradientNorm.name, PER_ROW, Influence.name, Finetuning.name, TRUE)
NOTHING, NONE, ALL = "nothing", "none", "all"  # no attack, no countermeasure, every countermeasure
INSIDER = "crafted rows, model known"
Guard = Callable[[Dataset], Dataset | None]
Values = dict[str, Callable[[Dataset], float]]


@dataclass(frozen=True)
class Setting:
    """What one market of the study is made of, from sizes.yaml."""

    data: str
    own: int
    tested: int
    rows: int
    known: int
    l2: float
    lr: float
    times: int
    longer: float
    made: int
    wrong: float
    levels: tuple[float, ...]

    @staticmethod
    def of(s: SimpleNamespace, data: str, levels: tuple[float, ...] | None = None) -> Setting:
        here = {key: getattr(getattr(s, key), data) for key in ("own", "tested", "rows", "known", "l2", "lr")}
        made = round(s.made * here["rows"])
        return Setting(
            data, times=s.times, longer=s.longer, made=made, wrong=s.wrong, levels=levels or s.levels, **here
        )


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
    def truth(self) -> Guess:
        """The buyer's model and direction: the guess of a seller that has extracted them or been told."""
        return Guess(self.model.theta[None], self.owned(Influence.name)["direction"][None])

    @cached_property
    def methods(self) -> dict[str, Appraiser]:
        """The private methods by name."""
        return {method.name: method for method in (GradientNorm(), Influence(), Finetuning(lr=self.setting.lr))}

    @cached_property
    def valued(self) -> Values:
        """A function for each method, from a data set to its value for the buyer, in the clear."""
        found: Values = {name: functools.partial(self._value, name, self.owned(name)) for name in self.methods}
        found[PER_ROW] = lambda data: found[GradientNorm.name](data) / data.rows
        return found | {TRUE: Retraining(self.train, self.test, self.setting.l2, self.model, TOLERANCE).value}

    @cached_property
    def model(self) -> SoftmaxRegression:
        """The buyer's model."""
        return fit(self.train, self.setting.l2, TOLERANCE)

    def owned(self, name: str) -> dict[str, torch.Tensor]:
        return self.methods[name].prepare(self.model, self.train, self.test)

    def _value(self, name: str, owned: dict[str, torch.Tensor], data: Dataset) -> float:
        rows = self.train.rows, self.test.rows, data.rows
        method, facts = self.methods[name], Facts(data.features, data.classes, *rows, self.setting.l2)
        return method.value(method.score(owned, with_bias(data.x), data.one_hot(), facts).item(), facts)

    @cached_property
    def thresholds(self) -> dict[str, Callable[[int], float | None]]:
        """A function for each method, from a number of rows to the value from which on the buyer buys."""
        methods = list(self.methods.values())
        checks = preflight(self.train, self.test, methods, self.setting.l2, seed=self.seed, quick=True).checks
        found = {check.method: check.threshold.of for check in checks}
        return found | {PER_ROW: lambda rows: found[GradientNorm.name](1), TRUE: lambda rows: 0.0}

    @cached_property
    def likeness(self) -> float:
        """The cosine of the guessed direction and the buyer's, of weights centred over the classes."""
        pair = self.owned(Influence.name)["direction"], self.guess.directions.mean(0)
        one, other = (v - v.mean(1, keepdim=True) for v in pair)
        return float((one * other).sum() / (one.norm() * other.norm()))

    @cached_property
    def near(self) -> float:
        """A fifth of the median distance of a row to its nearest neighbour, among the buyer's own rows."""
        x = self.train.x
        return float((torch.cdist(x, x) + torch.eye(len(x)) * 1e9).min(1).values.median()) / 5

    def ratio(self, data: Dataset) -> float:
        """Return how many times as long as the buyer's longest row the longest row of `data` is."""
        return attack.longest(data) / self.longest

    def attacks(self) -> dict[str, Dataset]:
        """Return what the seller offers in each attack, by the name of the attack."""
        s, bad, guess = self.setting, self.bad, self.guess
        low, high = float(self.known.x.min()), float(self.known.x.max())
        norm, start = attack.longest(self.known), self.pool.subset(range(s.made))
        crafted = attack.crafted(start, guess, norm, low, high)
        long = attack.crafted(start, guess, s.longer * norm)
        fitted = attack.relabelled(bad, guess)
        jitter = self.near / 2 / bad.features**0.5  # a near-copy is about half of `near` away
        return {
            NOTHING: bad,
            "copies": attack.copied(bad, s.times),
            "near-copies": attack.copied(bad, s.times, jitter, self.seed),
            "one row": attack.picked(bad, guess, 1),
            "a fifth, picked": attack.picked(bad, guess, s.rows // 5),
            "crafted rows added": attack.joined([bad, crafted], "added"),
            "crafted long rows added": attack.joined([bad, long], "added, long"),
            "balancing rows added": attack.joined([bad, attack.balancing(bad, self.pool, guess, s.made)], "balanced"),
            "crafted rows alone": attack.crafted(bad, guess, norm, low, high),
            INSIDER: attack.crafted(bad, self.truth, norm, low, high),
            "balancing rows alone": attack.balancing(bad.subset([0]), bad, guess, s.rows),
            "own model's labels": fitted,
            "own model's labels, long rows": attack.stretched(fitted, s.longer),
            "long rows": attack.stretched(bad, s.longer),
            "near-zero rows": attack.stretched(bad, 0.001),
            "labels in proportion": attack.in_proportion(bad, guess, s.times),
        }

    def guards(self) -> dict[str, Guard]:
        """Return each countermeasure: the rows on offer go in, and those that are valued come out, or None."""
        rows = self.setting.rows
        near = functools.partial(attack.distinct, apart=self.near)
        norm = functools.partial(attack.clipped, row_norm=self.longest)
        bounds = functools.partial(attack.clipped, low=self.low, high=self.high)
        cap = functools.partial(attack.capped, rows=rows, seed=self.seed)

        def minimum(data: Dataset) -> Dataset | None:
            return data if data.rows >= rows // 2 else None

        return {
            NONE: lambda data: data,
            "no copies": attack.distinct,
            "no near-copies": near,
            "minimum of rows": minimum,
            "cap on rows": cap,
            "row norm": norm,
            "range": bounds,
            ALL: lambda data: minimum(cap(near(norm(bounds(data))))),
        }


def _plain(data: Dataset, name: str) -> Dataset:
    return Dataset(data.x.to(torch.float64), data.y, data.classes, name)


def _with_false_labels(data: Dataset, share: float, seed: int) -> Dataset:
    """Return the rows with a false label on exactly that share of them."""
    count = round(share * data.rows)
    order = torch.randperm(data.rows, generator=torch.Generator().manual_seed(seed))[:count]
    y = data.y.clone()
    y[order] = mislabelled(data.y[order], data.classes, seed)
    return replace(data, y=y)
