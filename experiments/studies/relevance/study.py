"""What a buyer without a model or labels learns: relevance and diversity of candidates with known faults.

MNIST, the planes and cars of CIFAR-10, and scikit-learn's digits for --small. Each candidate has one fault: wrong
labels, missing pixels, noise on pixels, few classes, shuffled pixels, or images of something else. Both values stand
beside the true utility, which retraining gives. At the first seed the values of the first number of directions are
computed between three processes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.jobs import Job
from experiments.harness.page import Page, run_facts
from experiments.harness.plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, blank, plain
from experiments.harness.records import ABOUT, Row, read_rows, select
from experiments.harness.run import JobStudy, Run
from experiments.harness.size import Size
from experiments.studies.relevance.candidates import L2, measured
from mpc_appraisal.common.errors import InputError

NAMES = {"digits": "Digits", "mnist": "MNIST", "cifar10": "CIFAR-10, planes and cars"}
COLOURS = {"clean": INK, "label noise": ORANGE, "missing pixels": BLUE, "noise on pixels": GREEN, "few classes": PURPLE,
           "shuffled pixels": "#be185d", "something else": GREY}  # fmt: skip
KEYS = {
    "about": ABOUT | {"size", "missing", "sizes"},
    "candidates": {"part", "data", "seed", "directions", "kind", "level", "n", "utility", "own", "outside", "relevance",
                   "relevance_error", "diversity", "diversity_error", "seconds", "mb", "rounds"},
}  # fmt: skip


class RelevanceStudy(JobStudy):
    name = "relevance"
    summary = "relevance and diversity without a model or labels: which faults of candidates they show"
    text = __doc__
    parts = ("candidates",)
    seeds = (1, 3)

    def jobs(self, run: Run) -> Mapping[str, list[Job]]:
        told = run.size.settings("candidates")
        pairs = [(name, seed) for seed in range(run.size.seeds) for name in told.sets]
        found = [Job(f"{name}-{seed}", measured, (name, told, seed, seed == 0), turn=seed) for name, seed in pairs]
        return {"candidates": found}

    def facts(self, size: Size) -> dict[str, str]:
        told = size.settings("candidates")
        return {
            "rows": f"{told.own} of the buyer, at most {told.rows:,} of each candidate, {told.test:,} of test",
            "model of the true utility": f"softmax regression on pixels, l2 = {L2:g}",
        }

    def render(self, folder: Path) -> list[Page]:
        return [render_report(folder)]


STUDY = RelevanceStudy()


def render_report(folder: Path) -> Page:
    """Write relevance.md, relevance.html and the figure beside relevance.jsonl."""
    about, rows = read_rows(folder / "relevance.jsonl", KEYS)
    if not rows:
        raise InputError("relevance.jsonl", "no rows of candidates", "rows of at least one data set")
    found = relative(rows)
    names = [name for name in NAMES if (found.data == name).any()]
    return page.render(
        "studies/relevance/report.md.jinja", folder, "relevance", {"relevance": figure_of(found, names)},
        names={name: NAMES[name] for name in names}, tables=tables(found), orders=orders(found), costs=costs(rows),
        spans=spans(found),
        seeds=found.seed.nunique(), missing=about["missing"], facts=run_facts(about, about["sizes"], "relevance"),
    )  # fmt: skip


def relative(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the rows with both values in the buyer's own units.

    `fit` is relevance divided by the length of the buyer's variances. `spread` is diversity divided by that of the
    buyer's own rows.
    """
    found = pd.DataFrame(rows)
    return found.assign(fit=found.relevance / found.own, spread=found.diversity / found.outside)


def tables(found: pd.DataFrame) -> dict[tuple[str, int], list[Row]]:
    """Return the means over seeds and alike candidates, by data set and number of directions."""
    keys = ["data", "directions", "kind", "level"]
    means = found.groupby(keys, sort=False)[["utility", "fit", "spread"]].mean().reset_index()
    split = means.groupby(["data", "directions"], sort=False)
    return {key: part.to_dict("records") for key, part in split}


def spans(found: pd.DataFrame) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the smallest and the largest of each value, by kind, for the first data set and number of directions."""
    one = found.iloc[0]
    part = found[(found.data == one.data) & (found.directions == one.directions)]
    values = ("utility", "fit", "spread")
    return {kind: {v: (some[v].min(), some[v].max()) for v in values} for kind, some in part.groupby("kind")}


def orders(found: pd.DataFrame) -> list[Row]:
    """Return Spearman's coefficients with the true utility, as means over seeds, with and without wrong labels."""
    rows = []
    for (data, directions), part in found.groupby(["data", "directions"], sort=False):
        row = {"name": NAMES[data], "directions": directions}
        for key, kept in (("all", part), ("seen", part[part.kind != "label noise"])):
            for value in ("fit", "spread"):
                by_seed = [one[value].corr(one.utility, method="spearman") for _, one in kept.groupby("seed")]
                row[f"{key}_{value}"] = float(pd.Series(by_seed).mean())
        rows.append(row)
    return rows


def costs(rows: Sequence[Row]) -> list[Row]:
    """Return what an appraisal by relevance cost between three processes, and the largest errors of both values."""
    found = []
    for name in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in select(rows, data=name) if row["rounds"] is not None]
        if mine:
            one = mine[0]
            largest = {f"{m}_error": max(row[f"{m}_error"] for row in mine) for m in ("relevance", "diversity")}
            seconds = sum(row["seconds"] for row in mine) / len(mine)
            found.append({"name": NAMES[name]} | {k: one[k] for k in ("n", "directions", "mb", "rounds")}
                         | largest | {"seconds": seconds})  # fmt: skip
    return found


def figure_of(found: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draw, for each data set, both values against the true utility, at the first number of directions."""
    figure = blank(11.0, 4.2 * len(names))
    grid = figure.subplots(len(names), 2, squeeze=False)
    for line, name in zip(grid, names, strict=True):
        mine = found[found.data == name]
        mine = mine[mine.directions == mine.directions.iloc[0]]
        labels = {"fit": "relevance / buyer's", "spread": "diversity / buyer's"}
        for axis, (value, label) in zip(line, labels.items(), strict=True):
            for kind, part in mine.groupby("kind", sort=False):
                axis.scatter(part[value], part.utility, s=24, color=COLOURS[kind], label=kind, zorder=3)
            axis.axhline(0, color=GREY, linewidth=0.9)
            axis.set(title=NAMES[name], xlabel=label, ylabel="true utility")
            plain(axis)
        line[1].set_xscale("log")
    grid[0][0].legend(fontsize=8, frameon=False)
    return figure
