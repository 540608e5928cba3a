"""How often validation by retraining judges a subset rightly, by its size and by what is wrong with it.

good           rows that margin selection bought, as they are
mislabelled    the same rows, each with a random other label
irrelevant     planes and cars of CIFAR-10 in grey, random labels (in a full run)
shuffled       the same rows with their pixels shuffled, random labels
evasive        the same rows, each with the wrong label that the shopper's model finds likeliest

rightly        good: accepted; others: refused. Accuracy of a kind: over as many good subsets as subsets of that kind.

Each subset is tried on its own, from the same model, with validation data that have as many rows of each class.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from types import SimpleNamespace

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, blank, logarithmic, plain
from experiments.harness.records import Row, select
from experiments.studies.marketplace import market as markets
from experiments.studies.marketplace.market import MarketPlan, Pair, architecture_of, generator, shopper_model, stream
from mpc_appraisal.data import Cifar10
from mpc_appraisal.data.low_quality import evasive, grey_crops, mislabelled, random_labels, shuffled_pixels
from mpc_appraisal.marketplace.buying.selection import select as buy
from mpc_appraisal.marketplace.buying.validation import Predictor, uniform, validate, wrong_predictions
from mpc_appraisal.methods.preflight.result import Rate
from mpc_appraisal.models.networks import Network

KEYS = {"seed", "kind", "granularity", "of", "before", "loss_before", "wrong", "loss", "alone"}
LOOKS = {"good": ("D-", GREEN), "mislabelled": ("o-", BLUE), "irrelevant": ("s-", GREY), "shuffled": ("v--", PURPLE),
         "evasive": ("^-", ORANGE)}  # fmt: skip
RULE, LOSS = "error no higher than before", "loss no higher than before"
RULES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    RULE: lambda t: t.wrong <= t.before,
    "error lower than before": lambda t: t.wrong < t.before,
    "error no higher than after retraining on own rows alone": lambda t: t.wrong <= t.usual,
    LOSS: lambda t: t.loss <= t.loss_before,
    "error no higher than before, retrained on the subset alone": lambda t: t.alone <= t.before,
}


def jobs(settings: SimpleNamespace, seeds: int) -> list[Job]:
    """Return one job for each seed."""
    return [Job(f"validation-seed{seed}", run, (settings, seed), seed) for seed in range(seeds)]


def run(settings: SimpleNamespace, seed: int) -> list[Row]:
    shop, trial = settings.shops[0], settings.trial
    market = MarketPlan.build(settings, shop, seed)
    before = shopper_model(settings, shop, market, seed)
    bought = buy(before.probabilities(market.pool[0]), "margin", trial.selected)
    x, y = (part[bought[torch.randperm(trial.selected, generator=generator(seed, 4))]] for part in market.pool)
    held = uniform(market.test[1], trial.rows, market.classes, stream(seed, 5))
    held_x, held_y = (part[held] for part in market.test)
    wrong = wrong_predictions(before.logits, held_x, held_y)
    bench = Bench(settings, seed, before, wrong / trial.rows, market.own, held_x, held_y)
    facts = {"part": "validation", "job": f"validation-seed{seed}", "seed": seed, "of": trial.rows}
    facts |= {"before": wrong, "loss_before": _loss(before.logits(held_x), held_y)}
    found = [facts | {"kind": "own", "granularity": 0} | bench.control()]
    for kind, data in _kinds(settings, before, x, y, market.classes, seed).items():
        for granularity in trial.granularities:
            found.append(facts | {"kind": kind, "granularity": granularity} | bench.tried(data, granularity))
    return found


def _kinds(s: SimpleNamespace, network: Network, x: Tensor, y: Tensor, classes: int, seed: int) -> dict[str, Pair]:
    noise = random_labels(len(y), classes, stream(seed, 6))
    found = {"good": (x, y), "mislabelled": (x, mislabelled(y, classes, stream(seed, 7)))}
    if s.name == "full":
        foreign, _ = Cifar10().load()
        some = torch.randperm(foreign.rows, generator=generator(seed, 8))[: len(y)]
        found["irrelevant"] = (grey_crops(foreign.x[some], architecture_of(s).image[1]), noise)
    found["shuffled"] = (shuffled_pixels(x, stream(seed, 9)), noise)
    return found | {"evasive": (x, evasive(network.logits(x), y))}


@dataclass(frozen=True, eq=False)
class Bench:
    """Where subsets are tried: the model before, its error, the shopper's rows, validation data x (m, d), y (m,)."""

    settings: SimpleNamespace
    seed: int
    before: Network
    error: float
    own: Pair
    x: Tensor
    y: Tensor

    def tried(self, data: Pair, granularity: int) -> Row:
        """Return wrong predictions and loss after each subset; `alone` are those of retraining without own rows."""
        trial = self.settings.trial
        count = min(trial.repeats, trial.selected // granularity)
        rows, losses, turn = torch.arange(count * granularity), [], itertools.count()

        def retrain(some: Tensor) -> Predictor:
            seed = stream(self.seed, 10, granularity, next(turn))
            network = self._fit(seed, self.own, (data[0][some], data[1][some]))

            def predict(x: Tensor) -> Tensor:
                logits = network.logits(x)
                losses.append(_loss(logits, self.y))
                return logits

            return predict

        def alone(some: Tensor) -> Predictor:
            return self._fit(stream(self.seed, 11, granularity), (data[0][some], data[1][some])).logits

        return {
            key: [each.wrong for each in validate(way, rows, granularity, self.x, self.y, self.error)]
            for key, way in (("wrong", retrain), ("alone", alone))
        } | {"loss": losses}

    def control(self) -> Row:
        """Return the same after retraining on own rows alone, each time with other batches."""
        tries = [self._fit(stream(self.seed, 12, turn), self.own) for turn in range(self.settings.trial.repeats)]
        wrong = [wrong_predictions(network.logits, self.x, self.y) for network in tries]
        return {"wrong": wrong, "loss": [_loss(network.logits(self.x), self.y) for network in tries], "alone": []}

    def _fit(self, seed: int, *parts: Pair) -> Network:
        return markets.fit(self.settings, self.before, self.settings.trial.again, seed, *parts)


def _loss(logits: Tensor, y: Tensor) -> float:
    return round(float(functional.cross_entropy(logits, y)), 6)


class Trials:
    """The rows of validation, which the report asks for numbers; `subsets` has a line for each subset."""

    def __init__(self, rows: Sequence[Row]):
        self.rows, self.own = rows, {row["seed"]: row for row in select(rows, kind="own")}
        lists = ["wrong", "loss", "alone"]
        padded = [row | {"alone": row["alone"] or [None] * len(row["wrong"])} for row in rows]
        found = pd.DataFrame(padded, columns=sorted(KEYS)).explode(lists)
        usual = {seed: median(row["wrong"]) for seed, row in self.own.items()}
        self.subsets = found.assign(usual=found.seed.map(usual), change=found.wrong - found.before)
        self.kinds = [kind for kind in LOOKS if kind in set(found.kind) and kind != "good"]
        self.sizes = sorted(set(found.granularity.tolist()) - {0})

    def of(self, kind: str, granularity: int) -> pd.DataFrame:
        return self.subsets[(self.subsets.kind == kind) & (self.subsets.granularity == granularity)]

    def accepted(self, kind: str, granularity: int, rule: str = RULE) -> list[bool]:
        """Return whether each subset of that kind and size is accepted, seeds together."""
        return RULES[rule](self.of(kind, granularity)).tolist()

    def share(self, kind: str, granularity: int, rule: str = RULE) -> float:
        """Return the share of accepted subsets."""
        return mean(self.accepted(kind, granularity, rule))

    def rightly(self, kind: str, granularity: int, rule: str = RULE) -> Rate:
        """Count the verdicts that are right, of the good subsets and of as many subsets of a low-quality kind."""
        good, bad = (self.accepted(each, granularity, rule) for each in ("good", kind))
        return Rate.count([*good, *(not each for each in bad)])

    def every(self, granularity: int, rule: str = RULE) -> float:
        """Return the mean accuracy over the kinds."""
        return mean(self.rightly(kind, granularity, rule).rate for kind in self.kinds)

    def changes(self, kind: str, granularity: int) -> list[int]:
        """Return what each subset of that kind and size adds to the wrong predictions of the model before."""
        return self.of(kind, granularity).change.tolist()

    @property
    def hardest(self) -> str:
        """Return the kind that the largest subsets tell from good data least often."""
        return min(self.kinds, key=lambda kind: self.rightly(kind, self.sizes[-1]).rate)

    @property
    def clearest(self) -> int:
        """Return the size where the rules of error and of loss differ most on mislabelled subsets."""
        return max(self.sizes, key=lambda size: self.share("mislabelled", size, LOSS) - self.share("mislabelled", size))


def drawing(found: Trials) -> Figure:
    """Draw the share of subsets judged rightly on the left, and accepted on the right, by the rows in a subset."""
    figure = blank(11.2, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    for place, kind in enumerate(("good", *found.kinds)):
        shift, (style, colour) = 1.03 ** (place - 2), LOOKS[kind]  # bars stand beside each other
        panels = [(right, [Rate.count(found.accepted(kind, size)) for size in found.sizes])]
        if kind != "good":
            panels.append((left, [found.rightly(kind, size) for size in found.sizes]))
        for axis, rates in panels:
            off = [[r.rate - r.low for r in rates], [r.high - r.rate for r in rates]]
            axis.errorbar([size * shift for size in found.sizes], [r.rate for r in rates], off, label=kind, fmt=style,
                          color=colour, capsize=2, markersize=5, elinewidth=0.8)  # fmt: skip
    left.axhline(0.5, color="0.3", linestyle=":")
    for axis, title in ((left, "judged rightly"), (right, "accepted")):
        logarithmic(axis, found.sizes)
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("granularity: rows in a subset, logarithmic")
        axis.set_title(f"Share of subsets {title}", fontsize=10)
    plain(left, right)
    handles, names = right.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure
