"""Influence of one candidate by each kind of model: seconds, bytes and rounds beside those of softmax regression.

All models appraise the same rows: ten classes for softmax regression, even or odd digits as two classes for logistic
regression, and the label as a number for linear regression. The models take turns, so that they meet the same load;
seconds and ratios turn by turn are medians over the turns. Seconds are what the parties do together, as in
`appraisals`: the dealer's script, sharing and computing, without the model's fit.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.page import Page, run_facts
from experiments.harness.plots import BLUE, INK, blank, plain
from experiments.harness.records import ABOUT, Row, read_rows
from experiments.studies.engine.appraisals import Datasets, datasets_of
from mpc_appraisal import appraise
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.roles import ASSUMPTION, MODEL_OWNER
from mpc_appraisal.data import Dataset
from mpc_appraisal.methods import Facts, Influence
from mpc_appraisal.models.training import MODELS
from mpc_appraisal.mpc.backends.cost_model import rehearse
from mpc_appraisal.reporting.table import number

SOFTMAX = "softmax_regression"
ORDER = (SOFTMAX, "logistic_regression", "linear_regression")
METHOD, L2 = Influence(), 1e-2
GOAL = 0.5  # of softmax regression's seconds, bytes and rounds, for linear regression
KEYS = ABOUT | {"model", "rows", "features", "outputs", "seconds", "fastest", "slowest", "mb", "rounds", "error",
                "largest", "ratio_of_seconds", "repeat"}  # fmt: skip


def retargeted(data: Dataset, model: str) -> Dataset:
    """Return the rows with targets that the model takes."""
    if model == SOFTMAX:
        return data
    if model == "logistic_regression":
        return replace(data, y=data.y % 2, classes=2)
    return replace(data, y=data.y.to(torch.float64), classes=1)


def script_seconds(datasets: Datasets, model: str) -> float:
    """Return the seconds of the dry run that makes the dealer's script, which no phase of a record holds."""
    train, test, (candidate,) = datasets
    kind = MODELS[model]
    longest = float(torch.linalg.vector_norm(torch.cat([train.x, candidate.x]), dim=1).max()) + 1
    plan = Plan((METHOD,), L2, 0, "", fit=None, model=kind)
    sizes = (candidate.features, candidate.classes, train.rows, test.rows, candidate.rows, L2)
    facts = Facts(*sizes, longest, longest, 16.0, link=kind.link.name, target=float(candidate.numeric) * 9)
    work = partial(program, plan=plan, candidates={}, inputs={}, facts={candidate.name: facts}, bound=16.0)
    start = time.perf_counter()
    rehearse(lambda dry: [r.cost for r in work(dry, emit=lambda event: None)], MODEL_OWNER)
    return time.perf_counter() - start


def turn(datasets: Datasets, model: str) -> Row:
    """Appraise once in new processes, and return what it costs and how far the private value is off."""
    train, test, candidates = datasets
    script = script_seconds(datasets, model)
    (record,) = appraise(candidates, train=train, test=test, model=model, method=METHOD, l2=L2)
    seconds = script + sum(record.seconds.get(phase, 0.0) for phase in ("share", "private"))
    sent = sum(record.bytes_sent.values())
    return {"seconds": seconds, "mb": sent / 1e6, "rounds": record.rounds, "error": abs(record.difference),
            "value": record.value}  # fmt: skip


def measure(args: Namespace, mnist: bool, turns: int) -> list[Row]:
    """Measure each model `turns` times, the models in turn and each turn in the other direction."""
    train, test, candidates = datasets_of(args, mnist)
    brought = {m: (*(retargeted(d, m) for d in (train, test)), [retargeted(candidates[0], m)]) for m in ORDER}
    runs: dict[str, list[Row]] = {model: [] for model in ORDER}
    for k in range(turns):
        for model in ORDER[:: (-1) ** k]:
            runs[model].append(turn(brought[model], model))
        print(f"models: turn {k + 1} of {turns} done", file=sys.stderr, flush=True)
    return [_row(model, brought[model][2][0], runs[model], runs[SOFTMAX]) for model in ORDER]


def _row(model: str, candidate: Dataset, runs: list[Row], softmax: list[Row]) -> Row:
    seconds = [run["seconds"] for run in runs]
    return {
        "model": model, "rows": candidate.rows, "features": candidate.features,
        "outputs": candidate.classes if model == SOFTMAX else 1, "seconds": median(seconds),
        "fastest": min(seconds), "slowest": max(seconds), "mb": median(run["mb"] for run in runs),
        "rounds": max(run["rounds"] for run in runs), "error": max(run["error"] for run in runs),
        "largest": max(abs(run["value"]) for run in runs), "repeat": len(runs),
        "ratio_of_seconds": median(a["seconds"] / b["seconds"] for a, b in zip(runs, softmax, strict=True)),
    }  # fmt: skip


def render(folder: Path) -> Page:
    """Write models.md and models.html beside models.jsonl."""
    about, rows = read_rows(folder / "models.jsonl", {"": KEYS})
    softmax = next(row for row in rows if row["model"] == SOFTMAX)
    for row in rows:
        row["ratios"] = [row["ratio_of_seconds"], row["mb"] / softmax["mb"], row["rounds"] / softmax["rounds"]]
    linear = next(row for row in rows if row["model"] == "linear_regression")
    facts = {"threads": "one a party", "engine": "fast", "load average": about["load"], "data": about["data"]}
    given = {"rows": rows, "linear": linear, "softmax": softmax, "GOAL": GOAL, "TRUST": ASSUMPTION}
    return page.render("studies/engine/models.md.jinja", folder, "models", {"models": drawing(rows)}, about=about,
                       facts=run_facts(about, facts, "engine"), **given)  # fmt: skip


def drawing(rows: Sequence[Row]) -> Figure:
    """Draw seconds, MB and rounds, a bar for each model, and the fastest and the slowest turn as a thin line."""
    figure = blank(10.0, 1.0 + 0.36 * len(rows))
    panels = figure.subplots(1, 3, sharey=True)
    names = [row["model"].replace("_", " ") for row in rows]
    labels = {"seconds": "seconds", "mb": "MB by all parties", "rounds": "rounds"}
    for axis, (key, label) in zip(panels, labels.items(), strict=True):
        axis.barh(range(len(rows)), [row[key] for row in rows], height=0.66, color=BLUE)
        for place, row in enumerate(rows):
            end = max(row[key], row["slowest"] if key == "seconds" else 0)
            axis.annotate(number(row[key], 3) if key != "rounds" else str(row[key]), (end, place), (4, 0),
                          textcoords="offset points", va="center", fontsize=9)  # fmt: skip
        axis.set_xlabel(label)
        axis.set_xlim(0, 1.25 * max(max(row[key], row["slowest"] if key == "seconds" else 0) for row in rows))
    panels[0].hlines(range(len(rows)), [row["fastest"] for row in rows], [row["slowest"] for row in rows], color=INK,
                     linewidth=1.2)  # fmt: skip
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    plain(*panels, grid="x")
    return figure
