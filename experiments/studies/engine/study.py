"""The engines side by side, and one candidate's influence by its rows and by the model.

    gradient     one gradient and one influence
    appraisals   whole appraisals of ten candidates
    tuning       one candidate by fine-tuning, and by fine-tuning of a perceptron
    million      one candidate of a million rows
    app          `make appraise`
    wan          one candidate between parties far away, estimated and measured
    integrity    one candidate with the check of messages and without it
    rows         one candidate by its number of rows
    models       one candidate by the kind of model

All but the last two are in engine.jsonl and engine.md, with today's build beside an earlier one; rows are in rows.jsonl
and rows.md, models in models.jsonl and models.md. A part that is measured alone leaves the other parts' records in
engine.jsonl as they are.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import traceback
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.page import Page, run_facts, times
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.harness.records import ABOUT, Row, read_rows, write_rows
from experiments.harness.run import PartsFailed, Run, Study, listed, positive, reads_data, some_of
from experiments.rivals.earlier_build import BASELINE, COMMIT, Builds
from experiments.studies.engine import app, appraisals, gradient, integrity, targets, wan
from experiments.studies.engine import models as by_models
from experiments.studies.engine import rows as by_rows
from experiments.studies.engine.targets import AT_LEAST, AT_MOST, NOT_MEASURED, OTHER_SIZE, verdict_of
from mpc_appraisal.common.roles import ASSUMPTION, ROLES
from mpc_appraisal.reporting.table import DASH, number

TURNS = 7  # of the models, unless the number of seeds is stated or the run is small
SMALL_ROWS, FULL_ROWS = (1000, 3000), (10_000, 30_000, 100_000)
SMALL_X = 1000
PARTS = ("gradient", "appraisals", "tuning", "million", "app", "wan", "integrity")  # those in engine.jsonl


class EngineStudy(Study):
    name = "engine"
    summary = "all engines side by side, and what a candidate costs by its number of rows and by the model"
    text = __doc__
    parts = (*PARTS, "rows", "models")
    seeds = (1, 3)

    def options(self, parser: ArgumentParser) -> None:
        engines = ("fast", BASELINE, "stock", "spu")
        parser.add_argument("--engines", type=some_of(engines), default=engines,
                            help=f"some of {', '.join(engines)}; baseline is the build of commit {COMMIT}")  # fmt: skip
        parser.add_argument("--spu-python", default=sys.executable, help="the interpreter that has spu, if another one")
        parser.add_argument("--methods", type=some_of(appraisals.METHODS),
                            help=f"some of {', '.join(appraisals.METHODS)} (all; small: influence)")  # fmt: skip
        parser.add_argument("--bound", type=float, help="a bound on centred logits; by default it follows from norms")
        parser.add_argument(
            "--gradient-rows", type=positive, help=f"rows of X in the gradient ({GOAL_SIZE[0]}; small: {SMALL_X})"
        )
        parser.add_argument("--features", type=positive, default=784, help="features of random rows")
        parser.add_argument("--classes", type=positive, default=10, help="classes in the parts `rows` and `million`")
        parser.add_argument("--size", type=positive, help="rows of a candidate in the whole appraisals")
        parser.add_argument("--rows", type=listed(lambda text: int(float(text))),
                            help=f"numbers of rows in the part `rows` ({FULL_ROWS}; small: {SMALL_ROWS})")  # fmt: skip

    def measure(self, run: Run) -> None:
        torch.set_num_threads(1)
        failed = _measure_engines(run) if set(PARTS) & set(run.parts) else []
        for part, measure in (("rows", _measure_rows), ("models", _measure_models)):
            if part in run.parts:
                failed += _failure(part, lambda measure=measure: measure(run))
        if failed:
            raise PartsFailed(failed, f"the records of the other parts are in {run.out.name}")

    def render(self, folder: Path) -> list[Page]:
        """Render the reports whose records are there, and refuse a folder without any."""
        others = {"rows": by_rows, "models": by_models}
        pages = [other.render(folder) for name, other in others.items() if (folder / f"{name}.jsonl").is_file()]
        return [render_engines(folder), *pages] if (folder / "engine.jsonl").is_file() or not pages else pages


STUDY = EngineStudy()


def _failure(part: str, measure: Callable[[], None]) -> list[str]:
    """Measure a part, and return its name if it fails, after its error has been printed."""
    try:
        measure()
    except Exception:
        print(f"{part}: it failed, and the other parts go on\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return [part]
    return []


def _measure_engines(run: Run) -> list[str]:
    """Measure the wanted parts, and return those that failed.

    Records are written after each part. Those of the parts that are not wanted stay as they are.
    """
    args, mnist, turns, path = run.args, reads_data(), run.size.seeds, run.out / "engine.jsonl"
    wanted = [part for part in PARTS if part in run.parts]
    known = read_rows(path, dict.fromkeys(("", *PARTS), KEYS))[1] if path.is_file() and len(wanted) < len(PARTS) else []
    by_part = {part: [row for row in known if part_of(row) == part] for part in PARTS if part not in wanted}
    rows = args.gradient_rows or run.size.pick(SMALL_X, GOAL_SIZE[0])
    own, bound, kind = gradient.inputs(rows, args.features, mnist and args.features == 784)
    bound = args.bound or math.ceil(bound * 4) / 4
    made = {"input": input_of(own, bound, kind), **run.about(mnist)}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder, builds = Path(name), Builds(args.engines, Path(name))
        measures = {
            "gradient": lambda: gradient.measure(own, bound, args, builds, folder, turns),
            "appraisals": lambda: appraisals.measure(args, mnist, builds, turns),
            "tuning": lambda: appraisals.measure_tuning(args, mnist, builds, turns),
            "million": lambda: appraisals.measure_million(args, builds, folder, turns),
            "app": lambda: app.measure(args, builds, folder, turns),
            "wan": lambda: wan.measure(args, mnist, builds, turns),
            "integrity": lambda: integrity.measure(args, mnist, builds, turns),
        }

        def measured(part: str) -> None:
            by_part[part] = [row | made for row in measures[part]()]
            write_rows(path, [row for each in PARTS for row in by_part.get(each, ())])

        try:
            return [name for part in wanted for name in _failure(part, lambda part=part: measured(part))]
        finally:
            builds.close()


def input_of(own: gradient.Own, bound: float, kind: str) -> Row:
    """Return what the record says of the gradient's input."""
    logits = own["x"].double() @ own["w"]
    return {
        "data": kind,
        "rows": own["x"].shape[0],
        "features": own["x"].shape[1],
        "classes": own["w"].shape[1],
        "bound": bound,
        "largest_logit": float((logits - logits.mean(1, keepdim=True)).abs().max()),
        "largest_gradient": float(gradient.reference(own, torch.float64).abs().max()),
    }


def part_of(row: Row) -> str:
    """Return the part that a record belongs to; those of earlier versions do not say it."""
    return row.get("part") or ("gradient" if row["work"] in WORKS else "appraisals")


def _measure_rows(run: Run) -> None:
    """Measure each number of rows, and keep what is done if a larger one fails."""
    made, found = run.about(False), []
    for count in run.args.rows or run.size.pick(SMALL_ROWS, FULL_ROWS):
        shape = (count, run.args.features, run.args.classes)
        engine = next((engine for engine in run.args.engines if engine not in ("spu", BASELINE)), "fast")
        found.append(by_rows.measure(shape, engine, run.size.seeds) | made)
        write_rows(run.out / "rows.jsonl", found)
        print(f"{count} rows: {found[-1]['seconds']:.2f} s", flush=True)


def _measure_models(run: Run) -> None:
    mnist, before = reads_data(), os.getloadavg()[0]
    found = by_models.measure(run.args, mnist, run.args.seeds or run.size.pick(1, TURNS))
    load = f"{before:.1f} before, {os.getloadavg()[0]:.1f} after"
    made = {"load": load, "data": "MNIST" if mnist else "digits", **run.about(mnist)}
    write_rows(run.out / "models.jsonl", [each | made for each in found])


SINGLE, KEPT = "gradient, single", "gradient, kept"
WORKS = {SINGLE: "one gradient from nothing", KEPT: "a later gradient, mask of X kept"}
INFLUENCES = {
    "influence, single": "one influence from nothing",
    "influence, kept": "a later influence, mask of X kept",
}
ENGINES = {  # the order of every table and figure
    "fast": ("fast", BLUE),
    BASELINE: (f"fast, earlier build {COMMIT}", "#9db8d9"),
    "spu": ("SPU", "#a78bba"),
    "stock": ("stock CrypTen", ORANGE),
    "plaintext": ("plaintext, float32", GREY),
}
GOAL_SIZE = (5940, 784, 10)
GOALS = (  # what, work, key, goal, whether more is better
    ("times the speed of stock, mask of X kept", KEPT, "ratio_to_stock", 30.0, True),
    ("times the speed of stock, single gradient", SINGLE, "ratio_to_stock", 14.0, True),
    ("times the time of plaintext float32, mask of X kept", KEPT, "times_plaintext", 4.0, False),
    ("MB, single gradient", SINGLE, "mb", 45.0, False),
    ("MB, later gradient", KEPT, "mb", 6.0, False),
    ("rounds of a gradient", SINGLE, "rounds", 20.0, False),
    ("largest error of G", SINGLE, "error", 5e-7, False),
)
KEYS = ABOUT | {"engine", "work", "seconds", "ratio_to_stock", "mb", "rounds", "error", "repeat", "input"}
ByEngine = dict[tuple[str, str], Row]


def render_engines(folder: Path) -> Page:
    """Write engine.md, engine.html and the figures beside engine.jsonl."""
    about, rows = read_rows(folder / "engine.jsonl", dict.fromkeys(("", *PARTS), KEYS))
    found, runs, given = gradients_of(rows, WORKS), of_part(rows, "appraisals"), about["input"]
    size = f"{given['rows']:,} x {given['features']}"
    logits = f"bound {number(given['bound'], 3)}, largest {number(given['largest_logit'], 3)}"
    facts = {"threads": "one a party", "input": f"X {size}, {given['classes']} classes, {given['data']}"}
    facts["centred logits"] = logits
    if len(revisions := sorted({row["revision"] or DASH for row in rows})) > 1:
        facts["revisions of the records"] = ", ".join(revisions)
    figures = {"engine-gradient": gradient_figure(found)} if found else {}
    figures |= {"engine-appraisals": appraisal_figure(runs)} if runs else {}
    usual = (given["rows"], given["features"], given["classes"]) == GOAL_SIZE
    known = [*found.values(), *(row for row in rows if row["work"] not in WORKS)]
    return page.render(
        "studies/engine/engine.md.jinja", folder, "engine", figures, about=about, given=given, size=size,
        facts=run_facts(about, facts, "engine"), one=found.get(("fast", SINGLE)), later=found.get(("fast", KEPT)),
        stock=found.get(("stock", SINGLE)), verdicts=[verdict(found, usual, *goal[1:]) for goal in GOALS],
        gradient=found, influence=gradients_of(rows, INFLUENCES), appraisals=runs, goals=GOALS,
        targets=targets.lines(known, usual) if {part_of(row) for row in rows if "part" in row} else [],
        others=[row for part in ("tuning", "million", "app") for row in of_part(rows, part)],
        parties=[row for row in rows if row.get("cpu_seconds")], wan=of_part(rows, "wan"),
        checks=of_part(rows, "integrity"), integrity=integrity, cpu=targets.cpu,
        peak=targets.peak, engines={r["engine"] for r in rows}, WORKS=WORKS | INFLUENCES, ENGINES=ENGINES,
        GOAL_SIZE=GOAL_SIZE, OTHER_SIZE=OTHER_SIZE, TRUST=ASSUMPTION, COMMIT=COMMIT, ROLES=ROLES,
    )  # fmt: skip


def gradients_of(rows: Sequence[Row], works: Mapping[str, str]) -> ByEngine:
    """Return the rows by engine and work, in the order of ENGINES, each with its seconds over those in the clear."""
    found = {(r["engine"], r["work"]): dict(r) for r in rows if r["work"] in works}
    clear = found.get(("plaintext", KEPT))
    for row in found.values():
        row["times_plaintext"] = row["seconds"] / clear["seconds"] if clear else None
    return {(e, work): found[e, work] for work in works for e in ENGINES if (e, work) in found}


def of_part(rows: Sequence[Row], part: str) -> list[Row]:
    """Return the rows of a part by work and engine, with the work split into method, data and note."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if part_of(row) == part:
            work, _, note = row["work"].partition(": ")
            method, _, data = work.partition(", ")
            one = dict(row) | {"method": method, "of": data, "note": note, "title": work}
            found.setdefault(work, {})[row["engine"]] = one
    return [by[engine] for by in found.values() for engine in ENGINES if engine in by]


def verdict(found: ByEngine, usual: bool, work: str, key: str, goal: float, more: bool) -> str:
    """Return 'met', or by how much the goal is missed; `usual` tells whether the input is of GOAL_SIZE."""
    value = found.get(("fast", work), {}).get(key)
    if value is None:
        return NOT_MEASURED
    return verdict_of(value, AT_LEAST if more else AT_MOST, goal) if usual else OTHER_SIZE


def gradient_figure(found: ByEngine) -> Figure:
    """Draw a line of panels for each work: seconds on the left, MB on the right. Plaintext stands in every line."""
    clear, groups = found.get(("plaintext", KEPT)), []
    for work in WORKS:
        by = {engine: row for (engine, w), row in found.items() if w == work}
        if clear and work != KEPT:  # it is measured once, and its speed against stock is that of the other work
            by["plaintext"] = clear | {"ratio_to_stock": None}
        groups.append((WORKS[work], [by[engine] for engine in ENGINES if engine in by]))
    figure = blank(10.0, 0.9 + sum(0.34 * len(rows) + 0.55 for _, rows in groups))
    axes = figure.subplots(2, 2, squeeze=False, sharex="col", height_ratios=[len(rows) + 1 for _, rows in groups])
    for (seconds, sent), (name, rows) in zip(axes, groups, strict=True):
        _bars(seconds, rows, "seconds", ratio=True)
        _bars(sent, [row for row in rows if row["engine"] != "plaintext"], "mb")
        seconds.set_title(name, loc="left", fontsize=10)
        sent.set_title("sent by all parties", loc="left", fontsize=10)
    everything = [row for _, rows in groups for row in rows]
    _logarithmic(axes[-1][0], everything)
    axes[-1][1].set_xlim(0, 1.3 * max(row["mb"] for row in everything) or 1.0)
    axes[-1][1].set_xlabel("MB")
    return figure


def appraisal_figure(runs: Sequence[Row]) -> Figure:
    """Draw a panel for each method: the seconds of all candidates together."""
    groups = {
        title: [row for row in runs if row["title"] == title] for title in dict.fromkeys(r["title"] for r in runs)
    }
    figure = blank(7.5, 0.8 + sum(0.34 * len(rows) + 0.5 for rows in groups.values()))
    heights = [len(rows) + 1 for rows in groups.values()]
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex="col", height_ratios=heights)
    for axis, (title, rows) in zip(axes[:, 0], groups.items(), strict=True):
        _bars(axis, rows, "seconds", ratio=True)
        axis.set_title(title, loc="left", fontsize=10)
    _logarithmic(axes[-1][0], runs)
    return figure


def _bars(axis: Axes, rows: Sequence[Row], key: str, ratio: bool = False) -> None:
    """Draw a bar for each engine, the first on top, its number beside it. A bar that is extrapolated is hatched."""
    for place, row in enumerate(rows):
        guessed, colour = "extrapolated" in row["work"], ENGINES[row["engine"]][1]
        axis.barh(place, row[key], height=0.72, color="white" if guessed else colour, edgecolor=colour,
                  hatch="///" if guessed else None)  # fmt: skip
        text = f"{number(row[key], 3)} {'s' if key == 'seconds' else 'MB'}"
        if ratio and row["ratio_to_stock"] is not None and row["engine"] != "stock":
            text += f"   {times(row['ratio_to_stock'])}"
        axis.annotate(text + "   extrapolated" * guessed, (row[key], place), (4, 0), textcoords="offset points",
                      va="center", fontsize=9)  # fmt: skip
    axis.set_yticks(range(len(rows)), [ENGINES[row["engine"]][0] for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    plain(axis, grid=None, sides=("top", "right", "left"))


def _logarithmic(axis: Axes, rows: Sequence[Row]) -> None:
    """Make the seconds logarithmic, with room for the numbers on the right."""
    known = [
        row["seconds"] for row in rows if row["seconds"] > 0
    ]  # a difference of two may be below 0 on a busy machine
    low, high = min(known), max(known)
    axis.set_xscale("log")
    axis.set_xlim(low / 2.5, high * (2.5 * high / low) ** 0.4)
    axis.set_xlabel("seconds, logarithmic")
