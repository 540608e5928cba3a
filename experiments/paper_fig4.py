"""Figure 4: fine-tuning over steps and rates: correlation with utility, and runtime."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import numpy as np
from bench_page import Drawing, blank
from matplotlib.colors import LogNorm
from paper_measure import Row, agreements, pick, seconds_of, with_utility
from paper_size import Size
from paper_sweep import STEPS, Sweep
from paper_table1 import tuned

from mpc_appraisal.reporting.table import DASH, Table, number

CAPTION = (
    "Figure 4. Fine-tuning by steps and rate. Left: Pearson correlation of private values with true utility (purple is "
    "lower); hatched: refused by the private check of the bound on logits, and in brackets the correlation that the "
    "plaintext has. Right: private seconds of one candidate (blue is faster)."
)


def sweeps(size: Size) -> list[Sweep]:
    return [
        tuned(size, "grid", rate, f"seed={seed}", axis=STEPS, values=size.steps)
        for rate in size.rates
        for seed in size.grid_seeds
    ]


def axes_of(rows: Sequence[Row]) -> tuple[list[float], list[int]]:
    found = pick(rows, "grid", "finetuning")
    return sorted({r["lr"] for r in found}), sorted({r["steps"] for r in found})


def cell(rows: Sequence[Row], rate: float, steps: int) -> tuple[float | None, float | None, float | None]:
    """(correlation of private values, of plaintext values, seconds); None where there is none."""
    kept = with_utility(pick(rows, "grid", "finetuning", lr=rate, steps=steps), pick(rows, "noise", "influence"))
    private, clear = (agreements(kept, "utility", key)["pearson"] for key in ("value", "plaintext"))
    return mean(private) if private else None, mean(clear) if clear else None, seconds_of(kept)


def table(rows: Sequence[Row]) -> Table:
    rates, steps = axes_of(rows)
    body = []
    for rate in rates:
        line = []
        for each in steps:
            private, clear, seconds = cell(rows, rate, each)
            shown = "refused" if private is None and clear is not None else number_of(private)
            line.append(f"{shown} ({number_of(clear)}); {number(seconds, 3)} s" if clear is not None else DASH)
        body.append((f"{rate:g}", *line))
    header = ("rate", *(f"{each} step{'s' * (each > 1)}" for each in steps))
    seeds = sorted({r["seed"] for r in pick(rows, "grid", "finetuning")})
    return Table("Figure 4's numbers", header, "r" * len(header), body,
                 ("Pearson correlation of values with true utility: private (plaintext); private seconds of a "
                  f"candidate, median. Seeds: {', '.join(map(str, seeds))}.",))  # fmt: skip


def number_of(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"


def drawing(rows: Sequence[Row]) -> Drawing:
    rates, steps = axes_of(rows)
    cells = [[cell(rows, rate, each) for each in steps] for rate in reversed(rates)]
    figure = blank(11.0, 1.2 + 0.62 * len(rates))
    left, right = figure.subplots(1, 2)
    shown = np.array([[np.nan if c[0] is None else c[0] for c in line] for line in cells])
    seconds = np.array([[np.nan if c[2] is None else c[2] for c in line] for line in cells])
    first = left.imshow(shown, cmap="viridis", vmin=-1, vmax=1, aspect="auto")
    known = seconds[np.isfinite(seconds)]
    low, high = (known.min() / 1.05, known.max() * 1.05) if known.size else (0.1, 1.0)
    second = right.imshow(seconds, cmap="RdYlBu_r", norm=LogNorm(low, high), aspect="auto")
    for y, line in enumerate(cells):
        for x, (private, clear, spent) in enumerate(line):
            if private is not None:
                left.text(x, y, f"{private:.2f}", ha="center", va="center", fontsize=9,
                          color="white" if private < 0.4 else "black")  # fmt: skip
            elif clear is not None:
                for axis in (left, right):
                    axis.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, facecolor="#f3f4f6", edgecolor="#9aa5b1",
                                      hatch="////", linewidth=0)  # fmt: skip
                left.text(x, y, f"({clear:.2f})", ha="center", va="center", fontsize=9,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
            if spent is not None:
                right.text(x, y, f"{spent:.2g}" if spent < 10 else f"{spent:.0f}", ha="center", va="center", fontsize=9)
    for axis, title in ((left, "correlation with true utility"), (right, "private seconds a candidate")):
        axis.set_xticks(range(len(steps)), [str(each) for each in steps])
        axis.set_yticks(range(len(rates)), [f"{rate:g}" for rate in reversed(rates)])
        axis.set_xlabel("steps")
        axis.set_ylabel("rate")
        axis.set_title(title, fontsize=10)
    figure.colorbar(first, ax=left)
    figure.colorbar(second, ax=right)
    return Drawing("paper-figure4", CAPTION, figure)
