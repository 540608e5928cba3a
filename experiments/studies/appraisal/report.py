"""The report on data appraisal, from the lines of paper.jsonl alone: what its template needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from experiments.harness.page import Page, page_of, run_facts, write_page
from experiments.harness.records import ABOUT, Row, read_rows
from experiments.studies.appraisal import figures, statistics, tables, threshold
from experiments.studies.appraisal.plan import BOUND_RATE, L2, MISMATCH_L2, MISSING_L2
from experiments.studies.appraisal.statistics import COUNTS, FIGURE3_RATE, FIGURE3_STEPS, KINDS, drift, pick
from experiments.studies.appraisal.sweeps import STATED
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ASSUMPTION

FILE = "paper.jsonl"
LISTS = {"candidate", "n", "level", "rounds", "value", "plaintext", "utility", "mb", "share", "private"}
ONE = {"part", "job", "method", "seed", "steps", "lr", "refused", "bound", "features", "classes", "clear", "opened"}
IN_CLEAR = ("accuracy", "preflight")  # parts without private values
KEYS = {
    "about": ABOUT | {"size", "sizes", "jobs", "missing"},
    "accuracy": {"part", "job", "method", "seed", "candidate", "utility", "accuracy"},
    "preflight": {"part", "job", "method", "seed", "verdict", "threshold", "unit", *COUNTS},
    **dict.fromkeys(("noise", "grid", "table1", "mismatch", "missing"), ONE | LISTS),
}


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


def render(folder: Path) -> Page:
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
    page = page_of("studies/appraisal/report.md.jinja", drawn, about=about, parts=parts, facts=facts, **context(rows))
    write_page(page, drawn, folder, "paper")
    return page


def context(rows: Sequence[Row]) -> Mapping[str, object]:
    """Return the numbers and the functions that the template asks for."""
    methods = list(dict.fromkeys(row["method"] for row in rows if row["part"] not in IN_CLEAR))
    drifts = {m: [d for r in rows if r["method"] == m and r["part"] not in IN_CLEAR and (d := drift([r])) is not None]
              for m in methods}  # fmt: skip
    lines = tables.lines(rows)
    return {
        "rows": rows, "lines": lines, "costs": tables.costs(rows), "panels": tables.panels(rows), "KINDS": KINDS,
        "grid": tables.grid(rows), "grid_seeds": sorted({r["seed"] for r in pick(rows, "grid", "finetuning")}),
        "known": statistics.measured_ratios(rows), "budgets": statistics.budgets(rows),
        "bit": threshold.context(rows),
        "missing": {method: pick(rows, "missing", method) for method in ("gradient_norm", "influence")},
        "noise": {m: [r for r in pick(rows, "noise", m) if not r["refused"]] for m in tables.METHODS},
        "seeds": {part: len({r["seed"] for r in rows if r["part"] == part}) for part in ("noise", "table1")},
        "lost": {line.rate: line.drift for line in lines if (line.drift or 0) > tables.LOST}, "LOST": tables.LOST,
        "refused": any(r["refused"] for r in rows if r["part"] in ("table1", "grid")),
        "first": next((r for r in rows if r["part"] == "noise"), None),
        "drifts": {m: max(found, default=None) for m, found in drifts.items()}, "mean": mean, "TRUST": ASSUMPTION,
        "spread": statistics.spread, "agreements": statistics.agreements, "seconds_of": statistics.seconds_of,
        "drift": drift, "STATED": STATED, "STEPS": FIGURE3_STEPS, "RATE": FIGURE3_RATE, "BOUND_RATE": BOUND_RATE,
        "L2": L2, "MISMATCH_L2": MISMATCH_L2, "MISSING_L2": MISSING_L2,
    }  # fmt: skip
