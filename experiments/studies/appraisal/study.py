"""Table 1 and figures 2 to 5 of Xu, van der Maaten and Hannun (2022), from records of the installed app.

Beyond the paper: missing data, and whether one bit, value >= threshold, will do. Sweeps run in --work and go on where
they were left. What tables and figures need of their records is kept in OUT/paper.jsonl, from which the report is made.
A full run takes MNIST and CIFAR-10.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from experiments.harness.page import Page
from experiments.harness.records import Row, write_rows
from experiments.harness.run import Run, Study, listed
from experiments.studies.appraisal.plan import SweepPlan, accuracies
from experiments.studies.appraisal.report import FILE, render
from experiments.studies.appraisal.statistics import FIGURE3_RATE
from experiments.studies.appraisal.sweeps import loads, run_all

NEEDS = {  # by table or figure, the parts that it is made of
    "table1": ("noise", "grid", "table1"),
    "fig2": ("noise", "mismatch"),
    "fig3": ("noise",),
    "fig4": ("noise", "grid"),
    "fig5": ("mismatch",),
    "missing": ("missing",),
    "threshold": ("noise", "preflight"),
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
        plan, until = SweepPlan(settings, run.size.seeds, run.work), run.until
        parts, begun = {part for name in run.parts for part in NEEDS[name]}, set()
        ladder = (None, FIGURE3_RATE)
        for rates in (ladder, (*ladder, *settings.rates)):  # table 1's sweeps are known after the first turn
            wanted = [s for s in plan.sweeps() if s.part in parts and s.rate in rates and s.name not in begun]
            wanted = [s for s in wanted if s.part != "table1" or begun]
            run_all(wanted, run.work, until)
            begun |= {sweep.name for sweep in wanted}
        rows, jobs, missing = gather(plan)
        first = {"part": "about", "job": "about", "method": "", "size": run.size.name}
        first |= {"sizes": sizes_of(rows) | load_of(run.work), "jobs": jobs, "missing": missing}
        write_rows(run.out / FILE, [first | run.about(), *rows])

    def render(self, folder: Path) -> list[Page]:
        return [render(folder)]


STUDY = AppraisalStudy()


def gather(plan: SweepPlan) -> tuple[list[Row], dict[str, list[str]], list[str]]:
    """Return the rows, the methods by job, and what is missing."""
    rows: list[Row] = []
    missing: list[str] = []
    sweeps = plan.sweeps()
    for sweep in sweeps:
        found = sweep.rows(plan.work)
        done = {row["job"] for row in found}
        if left := [value for value in sweep.values if sweep.job(value) not in done]:
            missing.append(f"{sweep.name} ({sweep.short} {', '.join(map(str, left))})")
        rows += found + (accuracies(sweep, plan.work) if sweep.part == "mismatch" else [])
    if not any(sweep.part == "table1" for sweep in sweeps):
        missing.append("table 1's fine-tuning (its steps come from the grid)")
    jobs: dict[str, list[str]] = {}
    for row in rows:
        jobs.setdefault(row["job"], []).append(row["method"])
    return rows, jobs, missing


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
