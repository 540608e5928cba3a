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
from statistics import median
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, blank, plain
from experiments.harness.records import Row
from experiments.studies.marketplace.market import (
    Market,
    Pair,
    architecture_of,
    fit,
    generator,
    shopper_model,
    stream,
)
from mpc_appraisal.data import Cifar10
from mpc_appraisal.data.low_quality import evasive, grey_crops, mislabelled, random_labels, shuffled_pixels
from mpc_appraisal.marketplace.buying.selection import select
from mpc_appraisal.marketplace.buying.validation import Predictor, uniform, validate, wrong_predictions
from mpc_appraisal.methods.preflight.result import Rate
from mpc_appraisal.models.networks import Network

KEYS = {"seed", "kind", "granularity", "of", "before", "loss_before", "wrong", "loss", "alone"}
LOOKS = {"good": ("D-", GREEN), "mislabelled": ("o-", BLUE), "irrelevant": ("s-", GREY), "shuffled": ("v--", PURPLE),
         "evasive": ("^-", ORANGE)}  # fmt: skip
RULE, LOSS = "error no higher than before", "loss no higher than before"
RULES: dict[str, Callable[[Row, Row, int], bool]] = {
    RULE: lambda row, own, k: row["wrong"][k] <= row["before"],
    "error lower than before": lambda row, own, k: row["wrong"][k] < row["before"],
    "error no higher than after retraining on own rows alone": lambda row, own, k: (
        row["wrong"][k] <= median(own["wrong"])
    ),
    LOSS: lambda row, own, k: row["loss"][k] <= row["loss_before"],
    "error no higher than before, retrained on the subset alone": lambda row, own, k: row["alone"][k] <= row["before"],
}


def jobs(settings: SimpleNamespace, seeds: int) -> list[Job]:
    """Return one job for each seed."""
    return [Job(f"validation-seed{seed}", run, (settings, seed), seed) for seed in range(seeds)]


def run(settings: SimpleNamespace, seed: int) -> list[Row]:
    shop, trial = settings.shops[0], settings.trial
    market = Market.build(settings, shop, seed)
    before = shopper_model(settings, shop, market, seed)
    bought = select(before.probabilities(market.pool[0]), "margin", trial.selected)
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
        return fit(self.settings, self.before, self.settings.trial.again, seed, *parts)


def _loss(logits: Tensor, y: Tensor) -> float:
    return round(float(functional.cross_entropy(logits, y)), 6)


class Trials:
    """The rows of validation, which the report asks for numbers."""

    def __init__(self, rows: Sequence[Row]):
        self.rows, self.own = rows, {row["seed"]: row for row in rows if row["kind"] == "own"}
        known = {row["kind"] for row in rows}
        self.kinds = [kind for kind in LOOKS if kind in known and kind != "good"]
        self.sizes = sorted({row["granularity"] for row in rows if row["granularity"]})

    def of(self, kind: str, granularity: int) -> list[Row]:
        return [row for row in self.rows if (row["kind"], row["granularity"]) == (kind, granularity)]

    def accepted(self, kind: str, granularity: int, rule: str = RULE) -> list[bool]:
        """Return whether each subset of that kind and size is accepted, seeds together."""
        return [RULES[rule](row, self.own[row["seed"]], place)
                for row in self.of(kind, granularity) for place in range(len(row["wrong"]))]  # fmt: skip

    def share(self, kind: str, granularity: int, rule: str = RULE) -> float:
        """Return the share of accepted subsets."""
        found = self.accepted(kind, granularity, rule)
        return sum(found) / len(found)

    def rightly(self, kind: str, granularity: int, rule: str = RULE) -> Rate:
        """Count the verdicts that are right, of the good subsets and of as many subsets of a low-quality kind."""
        good, bad = (self.accepted(each, granularity, rule) for each in ("good", kind))
        return Rate.count([*good, *(not each for each in bad)])

    def every(self, granularity: int, rule: str = RULE) -> float:
        """Return the mean accuracy over the kinds."""
        return sum(self.rightly(kind, granularity, rule).rate for kind in self.kinds) / len(self.kinds)

    def changes(self, kind: str, granularity: int) -> list[int]:
        """Return what each subset of that kind and size adds to the wrong predictions of the model before."""
        return [wrong - row["before"] for row in self.of(kind, granularity) for wrong in row["wrong"]]

    @property
    def hardest(self) -> str:
        """Return the kind that the largest subsets tell from good data least often."""
        return min(self.kinds, key=lambda kind: self.rightly(kind, self.sizes[-1]).rate)

    @property
    def clearest(self) -> int:
        """Return the size where the rules of error and of loss differ most on mislabelled subsets."""

        def more(size: int) -> int:
            errors, losses = (sum(self.accepted("mislabelled", size, rule)) for rule in (RULE, LOSS))
            return losses - errors

        return max(self.sizes, key=more)


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
        axis.set_xscale("log")
        axis.set_xticks(found.sizes, [f"{size:,}" for size in found.sizes])
        axis.minorticks_off()
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("granularity: rows in a subset, logarithmic")
        axis.set_title(f"Share of subsets {title}", fontsize=10)
    plain(left, right)
    handles, names = right.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return figure
