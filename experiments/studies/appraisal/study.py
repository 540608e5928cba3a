"""Table 1 and figures 2 to 5 of Xu, van der Maaten and Hannun (2022), from records of the installed app.

Beyond the paper: missing data, and whether one bit, value >= threshold, will do. Sweeps run in --work and go on where
they were left. What tables and figures need of their records is kept in OUT/paper.jsonl, from which the report is made.
A full run takes MNIST and CIFAR-10. Parts that are measured alone (--only) leave the records of the others in that file
as they are.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence, Set
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.harness import page
from experiments.harness.page import Page, run_facts
from experiments.harness.records import ABOUT, Row, read_rows, select, write_rows
from experiments.harness.run import Run, Study, listed
from experiments.studies.appraisal import figures, plan, tables, threshold
from experiments.studies.appraisal.plan import SweepPlan, accuracies
from experiments.studies.appraisal.sweeps import loads, run_all
from experiments.studies.appraisal.tables import COUNTS, FIGURE3_RATE, pick
from experiments.studies.appraisal.threshold import UNSEEN
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ASSUMPTION
from mpc_appraisal.release.unbounded_logits import AUTO

FILE = "paper.jsonl"
LISTS = {"candidate", "n", "level", "rounds", "value", "plaintext", "utility", "mb", "share", "private"}
ONE = {"part", "job", "method", "seed", "steps", "lr", "refused", "bound", "features", "classes", "clear", "opened"}
IN_CLEAR = ("accuracy", "preflight", "sized", "unseen", UNSEEN)  # parts without private values
KEYS = {
    "about": ABOUT | {"size", "sizes", "jobs", "missing"},
    "accuracy": {"part", "job", "method", "seed", "candidate", "utility", "accuracy"},
    "preflight": {"part", "job", "method", "seed", "verdict", "threshold", "unit", *COUNTS},
    "sized": {"part", "job", "method", "seed", "n", "value", "plaintext", "utility"},
    "unseen": {"part", "job", "method", "seed"},
    **dict.fromkeys(("noise", "grid", "table1", "cells", "mismatch", "missing"), ONE | LISTS),
}
ORDER = (
    *("noise", "preflight", "sized", UNSEEN, "unseen", "mismatch", "accuracy", "missing", "cells", "grid", "table1"),
)
NEEDS = {  # by table or figure, the parts that it is made of
    "table1": ("noise", "grid", "table1"),
    "cells": ("cells",),
    "fig2": ("noise", "mismatch"),
    "fig3": ("noise",),
    "fig4": ("noise", "grid"),
    "fig5": ("mismatch",),
    "missing": ("missing",),
    "threshold": ("noise", "preflight", "sized", "unseen", UNSEEN),
}


class AppraisalStudy(Study):
    name = "appraisal"
    summary = "the paper on data appraisal: its tables and figures, published and measured"
    text = __doc__
    parts = tuple(NEEDS)
    seeds = (2, 5)

    def options(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rates", type=listed(float), help="rates of fine-tuning, such as 0.001,0.1,10")
        parser.add_argument("--steps", type=listed(int), help="steps of fine-tuning, such as 1,4")

    def measure(self, run: Run) -> None:
        """Run what is not finished, and write the rows."""
        settings = run.size.settings("sweeps")
        settings.rates, settings.steps = run.args.rates or settings.rates, run.args.steps or settings.steps
        planned, until = SweepPlan(settings, run.size.seeds, run.work), run.until
        parts, begun = {part for name in run.parts for part in NEEDS[name]}, set()
        ladder = (None, FIGURE3_RATE)
        for rates in (ladder, (*ladder, *settings.rates)):  # table 1's sweeps are known after the first turn
            wanted = [s for s in planned.sweeps() if s.part in parts and s.rate in rates and s.name not in begun]
            wanted = [s for s in wanted if s.part != "table1" or begun]
            run_all(wanted, run.work, until)
            begun |= {sweep.name for sweep in wanted}
        about, known = read(run.out) if run.args.only and (run.out / FILE).is_file() else ({"sizes": {}}, [])
        measured = parts | ({"accuracy"} if "mismatch" in parts else set())
        kept = [row for row in known if row["part"] not in measured]
        rows, missing = gather(planned, parts if kept else None)
        rows = sorted([*rows, *kept], key=lambda row: ORDER.index(row["part"]))
        jobs: dict[str, list[str]] = {}
        for row in rows:
            jobs.setdefault(row["job"], []).append(row["method"])
        first = {"part": "about", "job": "about", "method": "", "size": run.size.name}
        sizes = (about["sizes"] if kept else {}) | sizes_of(rows) | load_of(run.work)
        first |= {"sizes": sizes, "jobs": jobs, "missing": missing}
        write_rows(run.out / FILE, [first | run.about(), *rows])

    def render(self, folder: Path) -> list[Page]:
        return [render_paper(folder)]


STUDY = AppraisalStudy()


def gather(planned: SweepPlan, parts: Set[str] | None = None) -> tuple[list[Row], list[str]]:
    """Return the rows of these parts, of all if None, and what is missing of them."""
    rows: list[Row] = []
    missing: list[str] = []
    sweeps = [sweep for sweep in planned.sweeps() if parts is None or sweep.part in parts]
    for sweep in sweeps:
        found = sweep.rows(planned.work)
        done = {row["job"] for row in found}
        if left := [value for value in sweep.values if sweep.job(value) not in done]:
            missing.append(f"{sweep.name} ({sweep.short} {', '.join(map(str, left))})")
        rows += found + (accuracies(sweep, planned.work) if sweep.part == "mismatch" else [])
    if not any(sweep.part == "table1" for sweep in sweeps) and (parts is None or "table1" in parts):
        missing.append("table 1's fine-tuning (its steps come from the grid)")
    return rows, missing


def sizes_of(rows: Sequence[Row]) -> dict[str, str]:
    """Say what was appraised, by part, and name the revisions of the records."""
    found = {}
    for part in ("noise", "mismatch", "missing"):
        if mine := [row for row in rows if row["part"] == part]:
            row, seeds = mine[0], len({row["seed"] for row in mine})
            text = f"{len(row['n'])} candidates of {row['n'][0]:,} rows, {row['features']} features"
            found[part] = f"{text}, {row['classes']} classes; seeds: {seeds}"
    found["revisions of the records"] = ", ".join(sorted({r["revision"] or "none" for r in rows if "revision" in r}))
    return found


def load_of(work: Path) -> dict[str, str]:
    """Say how busy the machine was, its own three processes counted."""
    known = sorted(loads(work).values())
    return {"load average while measuring": f"{known[0]} to {known[-1]}, by sweep"} if known else {}


# -- the report ----------------------------------------------------------------------------------------------------
def read(folder: Path) -> tuple[Row, list[Row]]:
    """Return the row about the run, and the others. InputError names what is missing or damaged."""
    about, rows = read_rows(folder / FILE, KEYS)
    for place, row in enumerate(rows, start=2):
        lengths = {key: len(row[key]) for key in LISTS | {"accuracy"} if isinstance(row.get(key), list)}
        if len(set(lengths.values())) > 1:
            said = f"lists of different lengths: {lengths}"
            raise InputError(f"{FILE}, line {place}", said, "one number for each candidate")
    found = {(row["job"], row["method"]) for row in rows}
    for job, methods in about["jobs"].items():
        for method in methods:
            if (job, method) not in found:
                raise InputError(f"{FILE}, {job}", f"no line of {method}", "every job that the first line names")
    return about, rows


def render_paper(folder: Path) -> Page:
    """Write paper.md, paper.html and the figures beside the records."""
    about, rows = read(folder)
    parts = {row["part"] for row in rows}
    made = {
        "paper-figure2": (figures.values_figure, {"noise", "mismatch"} & parts),
        "paper-figure3": (figures.costs_figure, "noise" in parts),
        "paper-figure4": (figures.grid_figure, "grid" in parts),
        "paper-figure5": (figures.ranks_figure, "accuracy" in parts),
        "paper-threshold": (threshold.drawing, {"noise", "preflight"} <= parts),
    }
    drawn = {name: draw(rows) for name, (draw, wanted) in made.items() if wanted}
    facts = run_facts(about, {"threads": "one a party", **about["sizes"]}, "appraisal")
    given = {"about": about, "parts": parts, "facts": facts, **context(rows)}
    return page.render("studies/appraisal/report.md.jinja", folder, "paper", drawn, **given)


def bounded_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Say which rows of fine-tuning stated a bound on logits: their revisions, and what session.logit_bound was there.

    The sweeps take the default, auto. Records of a revision before it was the default have a number, or None.
    """
    found = [row for row in select(rows, method="finetuning") if "bound" in row and row["bound"] != AUTO]
    numbers = sorted({str(row["bound"]) for row in found if row["bound"] is not None})
    return {"revisions": sorted({row["revision"] for row in found if row.get("revision")}), "numbers": numbers}


def context(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the numbers and the functions that the template asks for."""
    drifts: dict[str, list[float]] = {}
    for row in rows:
        if row["part"] not in (*IN_CLEAR, "grid", "cells"):
            off = tables.drift([row])
            drifts.setdefault(row["method"], []).extend([] if off is None else [off])
    lines = tables.lines(rows)
    tuned = {
        f"{line['rate']:g} within {line['limit']}x": tables.drift(line["rows"]) or 0
        for line in select(lines, method="finetuning")
    }
    return {
        "rows": rows, "lines": lines, "costs": tables.costs(rows), "panels": tables.panels(rows),
        "lost": {cell: off for cell, off in tuned.items() if off > tables.LOST},
        "grid_drift": tables.drift(pick(rows, "grid", "finetuning")) or 0,
        "grid_revisions": sorted({r["revision"] for r in pick(rows, "grid", "finetuning") if r["revision"]}),
        "grid": tables.grid(rows), "grid_seeds": sorted({r["seed"] for r in pick(rows, "grid", "finetuning")}),
        "cells": tables.cells(rows),
        "known": tables.measured_ratios(rows), "budgets": tables.budgets(rows), "bit": threshold.context(rows),
        "missing": {method: pick(rows, "missing", method) for method in ("gradient_norm", "influence")},
        "noise": {method: pick(rows, "noise", method, refused=False) for method in tables.METHODS},
        "seeds": {part: len({r["seed"] for r in select(rows, part=part)}) for part in ("noise", "table1")},
        "refused": any(r["refused"] for r in rows if r["part"] in ("table1", "grid")),
        "first": next(iter(select(rows, part="noise")), None), "bounded": bounded_rows(rows), "TRUST": ASSUMPTION,
        "drifts": {method: max(found, default=None) for method, found in drifts.items()}, "mean": mean,
        "tables": tables, "plan": plan,
    }  # fmt: skip
