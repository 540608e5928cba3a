"""The page of `paper.py`, from the lines of paper.jsonl alone: tables, figures, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import paper_fig2
import paper_fig3
import paper_fig4
import paper_fig5
import paper_missing
import paper_table1
import paper_threshold
from bench_page import Page, run_table, sentences, write_page
from paper_measure import Row, agreements, drift, pick, seconds_of, spread
from paper_size import L2, MISMATCH_L2, MISSING_L2, TEST_ROWS
from paper_sweep import STATED

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import TRUST
from mpc_appraisal.reporting.table import Table, number

FILE = "paper.jsonl"
ABOUT = {"size", "sizes", "jobs", "missing", "machine", "versions", "revision", "command"}
LISTS = {"candidate", "n", "level", "rounds", "value", "plaintext", "utility", "mb", "share", "private"}
ONE = {"part", "job", "method", "seed", "steps", "lr", "refused", "bound", "features", "classes", "clear", "opened"}
CHECKED = {"part", "job", "method", "seed", "verdict", "threshold", "unit", *paper_threshold.COUNTS}
IN_CLEAR = ("accuracy", "preflight")  # parts without private values
RETRAINED = {"part", "job", "method", "seed", "candidate", "utility", "accuracy"}


def read_rows(folder: Path) -> tuple[Row, list[Row]]:
    """(where and how, rows). InputError, by file and line or by job, for what is missing or damaged."""
    path = folder / FILE
    if not path.is_file():
        raise InputError("--out", f"no file {FILE} in {folder.name}", "the records of an earlier run")
    rows = []
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name = f"{FILE}, line {place}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(name, f"{line[:40]!r}", f"one JSON object ({error})") from None
        if not isinstance(row, dict):
            raise InputError(name, f"{line[:40]!r}", "one JSON object")
        wanted = {"about": ABOUT, "accuracy": RETRAINED, "preflight": CHECKED}.get(row.get("part"), ONE | LISTS)
        if missing := sorted(wanted - set(row)):
            raise InputError(name, f"no {', '.join(missing)}", "records of this version")
        lengths = {key: len(row[key]) for key in LISTS | {"accuracy"} if isinstance(row.get(key), list)}
        if len(set(lengths.values())) > 1:
            raise InputError(name, f"lists of different lengths: {lengths}", "one number for each candidate")
        rows.append(row)
    if not rows or rows[0].get("part") != "about":
        raise InputError(f"{FILE}, line 1", "no line about the run", "records of this version")
    about, rows = rows[0], rows[1:]
    found = {(row["job"], row["method"]) for row in rows}
    for job, methods in about["jobs"].items():
        for method in methods:
            if (job, method) not in found:
                raise InputError(f"{FILE}, {job}", f"no line of {method}", "every job that the first line names")
    return about, rows


def render(folder: Path) -> Page:
    """Writes paper.md, paper.html and the figures beside paper.jsonl."""
    page = page_of(*read_rows(folder))
    write_page(page, folder, "paper")
    return page


def page_of(about: Row, rows: Sequence[Row]) -> Page:
    parts = {row["part"] for row in rows}

    def of(*made: tuple[str, Callable[[Sequence[Row]], Any]]) -> list[Any]:
        """What can be made of the parts that there are."""
        return [make(rows) for part, make in made if part in parts]

    main = [_summary(about, rows)]
    main += of(("noise", paper_table1.table), ("mismatch", paper_fig5.table), ("noise", paper_fig3.table))
    both = {"noise", "preflight"} <= parts
    main += ([paper_threshold.table(rows)] if both else []) + of(("missing", paper_missing.table))
    main += [_choices(about), run_table(about, {"threads": "one a party", **about["sizes"]}, "paper.py")]
    drawings = [paper_fig2.drawing(rows)] if {"noise", "mismatch"} & parts else []
    drawings += of(("noise", paper_fig3.drawing), ("grid", paper_fig4.drawing), ("accuracy", paper_fig5.drawing))
    drawings += [paper_threshold.drawing(rows)] if both else []
    details = of(("noise", paper_table1.ours), ("grid", paper_fig4.table))
    return Page("Data appraisal without data sharing: published and measured", main, drawings, _trust(rows), details)


def _summary(about: Row, rows: Sequence[Row]) -> Table:
    """The first screen: which method, how good, at what cost, what leaks, and what is missing."""
    lines = []
    if about["size"] != "full":
        lines.append("A small run, on digits: it shows that all of this works, and reproduces nothing.")
    if about["missing"]:
        shown = "; ".join(about["missing"])
        lines.append(f"Not measured yet, so that tables and figures lack it: {shown}. The same command goes on there.")
    methods = ("influence", "gradient_norm", "finetuning")
    influence, norm, tuned = ([r for r in pick(rows, "noise", m) if not r["refused"]] for m in methods)
    if influence:
        found = {m: (agreements(k, "level", sign=-1.0), agreements(k, "utility"))
                 for m, k in (("influence", influence), ("norm", norm), ("tuned", tuned))}  # fmt: skip
        best = found["influence"]
        cheap = seconds_of(influence) / seconds_of(norm)
        ranked = spread(best[1]["spearman"])
        lines.append(
            "Which method: "
            + ("influence." if mean(best[1]["spearman"]) > 0.9 else "by these runs no clear choice.")
            + f" Influence ranks candidates as retraining does at {ranked} (Spearman), has neither rate nor steps to "
            f"choose, and takes {number(cheap, 2)} times the gradient norm's private runtime."
        )
        lines.append(
            f"How good, under label noise, {len(influence)} seeds: influence agrees with the noise at Pearson "
            f"{spread(best[0]['pearson'])} (published 0.96) and with true utility at {spread(best[1]['pearson'])}; "
            f"fine-tuning, {paper_table1.FIGURE3_STEPS} steps at "
            f"{paper_table1.FIGURE3_RATE:g}, with utility at {spread(found['tuned'][1]['pearson'])}; the gradient "
            f"norm, read as 'the smaller the better', at {spread(found['norm'][1]['pearson'])} (the paper reads it "
            "the other way: -1.00)."
        )
    if "accuracy" in {row["part"] for row in rows}:
        pooled = paper_fig5.rank_correlation(rows, "a")
        lines.append(
            f"Under another mix of classes, influence ranks with utility at {pooled:.3f}, repeats pooled (published "
            "0.923)."
        )
    if said := paper_threshold.verdict(rows):
        lines.append(said)
    if influence:
        one, many = seconds_of(influence), seconds_of(tuned)
        mb = [mean(m for row in kept for m in row["mb"]) for kept in (influence, tuned)]
        lines.append(
            f"At what cost, a candidate of {influence[0]['n'][0]:,} rows and {influence[0]['features']} features, "
            f"encrypted: influence {number(one, 2)} s and {number(mb[0], 2)} MB, fine-tuning {number(many, 2)} s and "
            f"{number(mb[1], 2)} MB, {number(many / one, 2)} times as long. Three processes on one machine."
        )
    lines.append(
        "What leaks: the value, one number for each method and candidate, to both owners; for fine-tuning, before "
        "it, one bit: whether its weights kept the bound on the logits. Sizes, names and three rounded norms are "
        "told in the clear. Each value says something of data and model, so many of them together say much."
    )
    private = [row for row in rows if row["part"] not in IN_CLEAR]
    if private:
        worst = {m: max((d for r in private if r["method"] == m and (d := drift([r])) is not None), default=None)
                 for m in dict.fromkeys(row["method"] for row in private)}  # fmt: skip
        text = ", ".join(f"{m.replace('_', ' ')} {number(d, 2)}" for m, d in worst.items())
        lines.append(
            "How exact: every value is computed on shares, and in plaintext beside it. Largest drift of a candidate, "
            f"in deviations of the plaintext values among the candidates of its seed: {text}."
            + " Fine-tuning at the smallest rate is lost in rounding: see table 1."
            * ((worst.get("finetuning") or 0) > paper_table1.LOST)
        )
    return sentences("In short", lines)


def _choices(about: Row) -> Table:
    """Where the paper is silent."""
    cifar = "200 planes and 20 cars" if about["size"] == "full" else "20 and 2 rows of two digits"
    return sentences("Our choices, where the paper is silent", [
        "Orientation: value = higher is better data for this buyer, everywhere but where the paper's orientation is "
        "named. The paper's f_if, f_ft, f_gn and its utility are the lower the better; its equations 6 and 7 "
        "disagree in sign, 7 is computed; equation 4 sums over the test set, our value of fine-tuning is its mean.",
        "Which correlation: the paper does not say, so Pearson's and Spearman's both.",
        f"Regulariser: l2 = {L2} on the mean loss under label noise. Below about 2e-3 single seeds rank candidates "
        "wrongly, for the inverse Hessian amplifies noise, and the paper's printed Hessian, without the regulariser, "
        "is singular; at 3e-3 plaintext influence gave the paper's 0.96 in a pilot, above it 0.99 and more. "
        f"CIFAR-10: {MISMATCH_L2}; missing data: {MISSING_L2}. No damping beside it. Pixels are divided by 255, no "
        "other preprocessing.",
        f"Test rows: {TEST_ROWS:,} of MNIST's, drawn at random for each seed, for the cost of fine-tuning's private "
        "losses; "
        "CIFAR-10: all 2,000 planes and cars." if about["size"] == "full" else "Test rows: all there are.",
        f"Training rows under distribution mismatch: {cifar}; panel d of figure 5 moves with their number more than "
        "with anything else.",
        "Fine-tuning: full batches at every step, as in the paper's figure 3. Steps of table 1 from runtimes of this "
        "engine, which differ from CrypTen's: its limits buy other numbers of steps than the paper's.",
        f"At rate {paper_table1.BOUND_RATE:g} session.logit_bound={STATED} is stated, elsewhere only where the bound "
        "from the owners' norms is refused.",
        "Runtimes: three processes share a machine's cores with whatever else runs there (load averages stand under "
        "Run), so seconds are upper bounds; ratios are of the same candidate in the same session, and medians.",
        "True utility is retrained in the clear, once for each seed, and joined by seed and candidate; so is the "
        "accuracy of figure 5 b.",
        "Figure 4: the grid of steps (1, 2, 4, 8, 16) and rates (0.001, 0.01, 0.1, 1, 10), of seed 0 alone."
        if about["size"] == "full" else "Figure 4: fewer steps and rates, of seed 0 alone.",
    ])  # fmt: skip


def _trust(rows: Sequence[Row]) -> list[str]:
    return [
        TRUST,
        "True utility, test accuracy and the plaintext values are computed in the clear from both sides' data: an "
        "experimenter can, a market cannot.",
    ]
