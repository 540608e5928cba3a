"""How often validation by retraining judges a subset rightly, by its size and by what is wrong with it.

good           rows that margin selection bought, as they are
mislabelled    the same rows, each with a random other label
irrelevant     planes and cars of CIFAR-10 in grey, random labels (of a full run)
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

import torch
from bench_page import Drawing, blank
from marketplace_size import Job, Market, Row, Shop, Size, Trial, fit, model, stream
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.data import Cifar10
from mpc_appraisal.data.low_quality import evasive, grey_crops, mislabelled, random_labels, shuffled_pixels
from mpc_appraisal.marketplace.buying.selection import select
from mpc_appraisal.marketplace.buying.validation import Predictor, uniform, validate, wrong_predictions
from mpc_appraisal.methods.preflight.result import Rate
from mpc_appraisal.models.networks import Network
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import Table

BAD = ("mislabelled", "irrelevant", "shuffled", "evasive")
COLOURS = {"good": "#2f855a", "mislabelled": BLUE, "irrelevant": GREY, "shuffled": "#8b5cf6", "evasive": ORANGE}
STYLES = {"good": "D-", "mislabelled": "o-", "irrelevant": "s-", "shuffled": "v--", "evasive": "^-"}
RULES: dict[str, Callable[[Row, Row, int], bool]] = {
    "error no higher than before": lambda row, own, k: row["wrong"][k] <= row["before"],
    "error lower than before": lambda row, own, k: row["wrong"][k] < row["before"],
    "error no higher than after retraining on own rows alone": lambda row, own, k: (
        row["wrong"][k] <= median(own["wrong"])
    ),
    "loss no higher than before": lambda row, own, k: row["loss"][k] <= row["loss_before"],
    "error no higher than before, retrained on the subset alone": lambda row, own, k: row["alone"][k] <= row["before"],
}
RULE, LOSS = "error no higher than before", "loss no higher than before"
CAPTION = (
    "Validation. Left: share of subsets judged rightly, as many good ones as low-quality ones, by the number of rows "
    "in a subset; right: share of subsets accepted. Bars: 95% Clopper-Pearson intervals over subsets and seeds; the "
    "subsets of a seed share its model, so they are too narrow. Dotted: a coin."
)


def jobs(size: Size) -> list[Job]:
    """One for each seed."""
    arguments = (size.shops[0], size.trial)
    return [Job(f"validation-seed{seed}", seed, run, size, (*arguments, seed)) for seed in range(size.seeds)]


def run(size: Size, shop: Shop, trial: Trial, seed: int) -> list[Row]:
    market = Market.build(size, shop, seed)
    before = model(size, shop, market, seed)
    bought = select(before.probabilities(market.pool[0]), "margin", trial.selected)
    x, y = (part[bought[torch.randperm(trial.selected, generator=_generator(seed, 4))]] for part in market.pool)
    held = uniform(market.test[1], trial.rows, market.classes, stream(seed, 5))
    held_x, held_y = (part[held] for part in market.test)
    wrong = wrong_predictions(before.logits, held_x, held_y)
    bench = Bench(size, trial, seed, before, wrong / trial.rows, market.own, held_x, held_y)
    facts = {"part": "validation", "job": f"validation-seed{seed}", "seed": seed, "of": trial.rows}
    facts |= {"before": wrong, "loss_before": _loss(before.logits(held_x), held_y)}
    found = [facts | {"kind": "own", "granularity": 0} | bench.control()]
    for kind, data in _kinds(size, before, x, y, market.classes, seed).items():
        for granularity in trial.granularities:
            found.append(facts | {"kind": kind, "granularity": granularity} | bench.tried(data, granularity))
    return found


def _kinds(
    size: Size, network: Network, x: Tensor, y: Tensor, classes: int, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    noise = random_labels(len(y), classes, stream(seed, 6))
    found = {"good": (x, y), "mislabelled": (x, mislabelled(y, classes, stream(seed, 7)))}
    if size.name == "full":
        foreign, _ = Cifar10().load()
        some = torch.randperm(foreign.rows, generator=_generator(seed, 8))[: len(y)]
        found["irrelevant"] = (grey_crops(foreign.x[some], size.architecture.image[1]), noise)
    found["shuffled"] = (shuffled_pixels(x, stream(seed, 9)), noise)
    return found | {"evasive": (x, evasive(network.logits(x), y))}


@dataclass(frozen=True, eq=False)
class Bench:
    """Where subsets are tried: the model before, its error, the shopper's rows, validation data x (m, d), y (m,)."""

    size: Size
    trial: Trial
    seed: int
    before: Network
    error: float
    own: tuple[Tensor, Tensor]
    x: Tensor
    y: Tensor

    def tried(self, data: tuple[Tensor, Tensor], granularity: int) -> Row:
        """Wrong predictions and loss after each subset; `alone`: wrong predictions, retrained without own rows."""
        count = min(self.trial.repeats, self.trial.selected // granularity)
        rows, losses, turn = torch.arange(count * granularity), [], itertools.count()

        def retrain(some: Tensor) -> Predictor:
            network = self._fit(
                stream(self.seed, 10, granularity, next(turn)), self.own, (data[0][some], data[1][some])
            )

            def predict(x: Tensor) -> Tensor:
                logits = network.logits(x)
                losses.append(_loss(logits, self.y))
                return logits

            return predict

        def alone(some: Tensor) -> Predictor:
            return self._fit(stream(self.seed, 11, granularity), (data[0][some], data[1][some])).logits

        verdicts = {
            key: validate(way, rows, granularity, self.x, self.y, self.error)
            for key, way in (("wrong", retrain), ("alone", alone))
        }
        return {key: [each.wrong for each in found] for key, found in verdicts.items()} | {"loss": losses}

    def control(self) -> Row:
        """The same after retraining on own rows alone, each time with other batches."""
        tries = [self._fit(stream(self.seed, 12, turn), self.own) for turn in range(self.trial.repeats)]
        wrong = [wrong_predictions(network.logits, self.x, self.y) for network in tries]
        return {"wrong": wrong, "loss": [_loss(network.logits(self.x), self.y) for network in tries], "alone": []}

    def _fit(self, seed: int, *parts: tuple[Tensor, Tensor]) -> Network:
        return fit(self.size, self.before, self.trial.again, seed, *parts)


def _loss(logits: Tensor, y: Tensor) -> float:
    return round(float(functional.cross_entropy(logits, y)), 6)


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream(*numbers))


def accepted(rows: Sequence[Row], kind: str, granularity: int, rule: str = RULE) -> list[bool]:
    """Of every subset of that kind and size, seeds together."""
    own = {row["seed"]: row for row in rows if row["kind"] == "own"}
    return [
        RULES[rule](row, own[row["seed"]], place)
        for row in rows if (row["kind"], row["granularity"]) == (kind, granularity)
        for place in range(len(row["wrong"]))
    ]  # fmt: skip


def rightly(rows: Sequence[Row], kind: str, granularity: int, rule: str = RULE) -> Rate:
    """Of so many verdicts, those that are right: of the good subsets and of as many subsets of a low-quality kind."""
    good, bad = accepted(rows, "good", granularity, rule), accepted(rows, kind, granularity, rule)
    return Rate.count([*good, *(not each for each in bad)])


def every(rows: Sequence[Row], granularity: int, rule: str = RULE) -> float:
    """Mean accuracy over the kinds."""
    kinds = kinds_of(rows)
    return sum(rightly(rows, kind, granularity, rule).rate for kind in kinds) / len(kinds)


def changes(rows: Sequence[Row], granularity: int, kind: str = "good") -> list[int]:
    """What each subset of that kind and size adds to the wrong predictions of the model before."""
    found = [row for row in rows if (row["kind"], row["granularity"]) == (kind, granularity)]
    return [wrong - row["before"] for row in found for wrong in row["wrong"]]


def kinds_of(rows: Sequence[Row]) -> list[str]:
    known = {row["kind"] for row in rows}
    return [kind for kind in BAD if kind in known]


def sizes_of(rows: Sequence[Row]) -> list[int]:
    return sorted({row["granularity"] for row in rows if row["granularity"]})


def table(rows: Sequence[Row]) -> Table:
    body = []
    for kind in kinds_of(rows):
        rates = [rightly(rows, kind, size) for size in sizes_of(rows)]
        body.append((kind, *(f"{rate.rate:.2f} ({rate.low:.2f}–{rate.high:.2f})" for rate in rates)))
    body.append(("mean of them", *(f"{every(rows, size):.2f}" for size in sizes_of(rows))))
    shares = {kind: [accepted(rows, kind, size) for size in sizes_of(rows)] for kind in ("good", *kinds_of(rows))}
    body += [
        (f"accepted: {kind}", *(f"{sum(each) / len(each):.2f}" for each in found)) for kind, found in shares.items()
    ]
    moved = [changes(rows, size) for size in sizes_of(rows)]
    body.append(("errors changed by: good", *(f"{median(c):+.0f} ({min(c):+d} to {max(c):+d})" for c in moved)))
    count = ", ".join(f"{len(found):,}" for found in shares["good"])
    own = [row for row in rows if row["kind"] == "own"]
    drift = [wrong - row["before"] for row in own for wrong in row["wrong"]]
    known = [row["before"] for row in own]
    notes = (
        f"Accepted: {RULE}, of {own[0]['of']:,} validation rows; seeds: {len(own)}. In brackets 95% Clopper-Pearson "
        f"intervals; subsets of each kind, by column: {count}. Errors before: {min(known)} to {max(known)}.",
        f"Retraining on own rows alone changes the errors by {min(drift):+d} to {max(drift):+d}. Last row: what good "
        "subsets change, median (least to most). Bought rows are the hard ones: few of them can move the model either "
        "way.",
    )
    header = ("low-quality data", *(f"{size:,} rows" for size in sizes_of(rows)))
    return Table("Accuracy of validation by granularity", header, "l" + "r" * len(sizes_of(rows)), body, notes)


def rules_table(rows: Sequence[Row]) -> Table:
    """Other rules on the same retrained models, and why the rule is what it is."""
    body = []
    for rule in RULES:
        for kind in ("mislabelled", "evasive"):
            cells = []
            for size in sizes_of(rows):
                good, bad = accepted(rows, "good", size, rule), accepted(rows, kind, size, rule)
                cells.append(f"{rightly(rows, kind, size, rule).rate:.2f} ({sum(good) / len(good):.2f}, "
                             f"{sum(bad) / len(bad):.2f})")  # fmt: skip
            body.append((rule, kind, *cells))
    header = ("accepted where", "against", *(f"{size:,} rows" for size in sizes_of(rows)))
    notes = (
        "Accuracy; in brackets the shares of good and of low-quality subsets accepted.",
        "Why not the loss: wrong labels spread an overconfident model's probabilities out, so that its loss can fall "
        "while it errs more. Why own rows too: on a subset alone the model forgets, and good data are refused.",
    )
    return Table("Other rules, on the same subsets", header, "ll" + "r" * len(sizes_of(rows)), body, notes)


def drawing(rows: Sequence[Row]) -> Drawing:
    figure = blank(11.2, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    sizes = sizes_of(rows)
    for place, kind in enumerate(("good", *kinds_of(rows))):
        shift = 1.03 ** (place - 2)  # bars beside each other
        panels = [(right, [Rate.count(accepted(rows, kind, size)) for size in sizes])]
        if kind != "good":
            panels.append((left, [rightly(rows, kind, size) for size in sizes]))
        for axis, rates in panels:
            off = [[r.rate - r.low for r in rates], [r.high - r.rate for r in rates]]
            look = {"fmt": STYLES[kind], "color": COLOURS[kind], "capsize": 2, "markersize": 5, "elinewidth": 0.8}
            axis.errorbar([size * shift for size in sizes], [r.rate for r in rates], off, label=kind, **look)
    left.axhline(0.5, color="0.3", linestyle=":")
    for axis, title in ((left, "judged rightly"), (right, "accepted")):
        axis.set_xscale("log")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.set_ylim(-0.03, 1.03)
        axis.set_xlabel("granularity: rows in a subset, logarithmic")
        axis.set_title(f"Share of subsets {title}", fontsize=10)
        axis.grid(True, color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    handles, names = right.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=9)
    return Drawing("marketplace-validation", CAPTION, figure)
