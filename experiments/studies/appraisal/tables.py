"""The numbers of the paper's tables and figures, from rows: correlations over seeds, runtimes, drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from experiments.harness.records import Row, select
from mpc_appraisal.reporting.metrics import correlations
from mpc_appraisal.reporting.table import DASH

KINDS = ("pearson", "spearman")
# To the paper's orientation: f_if and f_ft rise with noise, and it reads the gradient's norm as a value.
SIGN = {"gradient_norm": 1.0, "finetuning": -1.0, "influence": -1.0}
COUNTS = ("false_accept", "false_reject")  # [how many, of how many], of the pre-flight's own held-out parts
BUDGETS = (1, 4, 16)
FIGURE3_STEPS, FIGURE3_RATE = 16, 0.1
RATES = (0.001, 0.1, 10.0)
PUBLISHED = {
    (1, 0.001): "0.61", (1, 0.1): "0.95", (1, 10.0): "0.96", (4, 0.001): "0.58", (4, 0.1): "1.0", (4, 10.0): "0.59",
    (16, 0.001): "0.72", (16, 0.1): "1.0", (16, 10.0): "0.88", "gradient_norm": "-1.00", "influence": "0.96",
}  # fmt: skip
CELL_DRIFT = 0.01  # what a cell of table 1 may drift, in the same unit
LOST = 1.0  # a drift, in deviations among candidates, beyond which rounding ranks
PANELS = {  # of figure 5: (against, published, sign to the paper's orientation, shares of cars from, to)
    "a": ("utility", 0.923, 1, 0.0, 1.0),
    "b": ("accuracy", -0.927, -1, 0.0, 1.0),
    "c": ("utility", 0.908, 1, 0.0, 0.45),
    "d": ("utility", 0.247, 1, 0.55, 1.0),
}
METHODS = ("gradient_norm", "finetuning", "influence")  # in figure 3's order


def pick(rows: Sequence[Row], part: str, method: str, **facts: Any) -> list[Row]:
    """Return the rows of a part and a method, by seed."""
    kept = select(rows, part=part, method=method, **facts)
    return sorted(kept, key=lambda row: (row["seed"], row["steps"] or 0))


def with_utility(rows: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """Return the same rows with the true utilities of `known`, joined by seed and candidate."""
    found = {(r["seed"], c): u for r in known for c, u in zip(r["candidate"], r["utility"], strict=True)}
    return [r | {"utility": [found.get((r["seed"], c)) for c in r["candidate"]]} for r in rows]


def agreements(rows: Sequence[Row], against: str, key: str = "value", sign: float = 1.0) -> dict[str, list[float]]:
    """Return Pearson's and Spearman's correlation of `key` with `against`, one number for each row that has both."""
    whole = [row for row in rows if None not in row[key] and None not in row[against]]
    found = [correlations(row[key], row[against]) for row in whole]
    return {kind: [sign * each[kind] for each in found if each[kind] is not None] for kind in KINDS}


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the mean and the deviation over seeds, as in '+0.96 ± 0.04'; the mean is never -0.00."""
    if not values:
        return DASH
    text = f"{round(mean(values), digits) + 0.0:+.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def drift(rows: Sequence[Row]) -> float | None:
    """Return the largest |private - plaintext| over the deviation of plaintext values among a row's candidates."""
    found = []
    for row in rows:
        if None not in row["value"] and (wide := stdev(row["plaintext"])):
            found += [abs(a - b) / wide for a, b in zip(row["value"], row["plaintext"], strict=True)]
    return max(found, default=None)


def private_seconds(row: Row) -> list[float]:
    """Return, for each candidate, the seconds of sharing and of the joint computation."""
    return [a + b for a, b in zip(row["share"], row["private"], strict=True)] if None not in row["private"] else []


def seconds_of(rows: Sequence[Row]) -> float | None:
    """Return the median private seconds of one candidate."""
    found = [s for row in rows for s in private_seconds(row)]
    return median(found) if found else None


def ratios(tuned: Sequence[Row], influence: Sequence[Row]) -> list[float]:
    """Return the runtime of fine-tuning over that of influence, of the same candidate in the same session."""
    by_job = {row["job"]: private_seconds(row) for row in influence}
    pairs = [p for row in tuned for p in zip(private_seconds(row), by_job.get(row["job"], []), strict=False)]
    return [a / b for a, b in pairs]


def measured_ratios(rows: Sequence[Row]) -> dict[int, float]:
    """Return steps -> runtime over influence's, from one rate of figure 4's grid: all rates take as long."""
    grid, influence = pick(rows, "grid", "finetuning", lr=FIGURE3_RATE), pick(rows, "grid", "influence")
    found = {s: ratios([r for r in grid if r["steps"] == s], influence) for s in sorted({r["steps"] for r in grid})}
    return {steps: median(each) for steps, each in found.items() if each}


def budgets(rows: Sequence[Row]) -> dict[int, int]:
    """Return {1: steps, 4: steps, 16: steps}; nothing before the grid is measured."""
    known = measured_ratios(rows)
    return {k: steps_within(known, k, 4 * max(known)) for k in BUDGETS} if known else {}


def steps_within(measured: dict[int, float], limit: float, most: int) -> int:
    """Return the most steps whose runtime is within `limit` times influence's: one at least, `most` at most.

    `measured` has the ratio by steps. A straight line goes through it with equal relative weights: setting up and both
    test losses, and so much a step.
    """
    steps, found = np.array(sorted(measured.items())).T
    slope, at_zero = np.polyfit(steps, found, 1, w=1 / found) if len(steps) > 1 else (0.0, 0.0)
    if slope <= 0:
        return max((s for s, r in measured.items() if r <= limit), default=1)
    return min(most, max(1, math.floor(round((limit - at_zero) / slope, 9))))  # a fit is exact to so many digits


# -- table 1 -------------------------------------------------------------------------------------------------------
def refusals(rows: Sequence[Row]) -> str:
    """Return what a cell says if the private check refused, or if there is no row."""
    if not rows:
        return "not measured"
    refused = sum(row["refused"] for row in rows)
    if not refused:
        return ""
    return "refused: left the bound" if refused == len(rows) else f"; {refused} of {len(rows)} seeds refused"


def lines(rows: Sequence[Row]) -> list[Row]:
    """Return the lines of table 1 in their order, with the paper's rates, measured yet or not, and others.

    A line has the rows that its columns are computed of.
    """
    rates = sorted({row["lr"] for row in rows if row["part"] == "table1"} | set(RATES))
    known = pick(rows, "noise", "influence")  # rows with the utilities

    def line(method: str, kept: Sequence[Row], limit: Any = DASH, rate: Any = DASH, ratio: float | None = None) -> Row:
        published = PUBLISHED.get((limit, rate) if method == "finetuning" else method, DASH)
        rows = with_utility(kept, known)
        return {"method": method, "limit": limit, "rate": rate, "published": published, "rows": rows, "ratio": ratio}

    found = [line("gradient_norm", pick(rows, "noise", "gradient_norm"))]
    for limit, steps in budgets(rows).items():
        for rate in rates:
            kept = pick(rows, "table1", "finetuning", steps=steps, lr=rate)
            times = ratios(kept, pick(rows, "table1", "influence"))
            found.append(line("finetuning", kept, limit, rate, median(times) if times else None))
    return [*found, line("influence", known)]


def cells(rows: Sequence[Row]) -> list[Row]:
    """Return the cells of fine-tuning that the part `cells` has: the drift, and how many seeds were refused."""
    found = pick(rows, "cells", "finetuning")
    places = sorted({(row["steps"], row["lr"]) for row in found})
    by = {place: [row for row in found if (row["steps"], row["lr"]) == place] for place in places}
    return [
        {"steps": steps, "rate": rate, "drift": drift(kept), "seeds": len(kept), "seconds": seconds_of(kept),
         "refused": sum(row["refused"] for row in kept)}
        for (steps, rate), kept in by.items()
    ]  # fmt: skip


# -- figure 3 ------------------------------------------------------------------------------------------------------
def spent(rows: Sequence[Row], method: str) -> tuple[list[float], list[float]]:
    """Return the seconds in the clear and encrypted, of all candidates together, by seed."""
    kept = [row for row in pick(rows, "noise", method) if private_seconds(row)]
    return [row["clear"] for row in kept], [sum(private_seconds(row)) for row in kept]


def costs(rows: Sequence[Row]) -> list[Row]:
    """Return what an appraisal costs by each method: medians over seeds."""
    found = []
    for method in METHODS:
        if kept := [row for row in pick(rows, "noise", method) if private_seconds(row)]:
            clear, secret = map(median, spent(rows, method))
            found.append({"method": method, "open": clear, "secret": secret, "seconds": seconds_of(kept),
                          "mb": median(m for row in kept for m in row["mb"]),
                          "rounds": max(max(row["rounds"]) for row in kept)})  # fmt: skip
    return found


# -- figure 4 ------------------------------------------------------------------------------------------------------
Cell = tuple[float | None, float | None, float | None]


def grid(rows: Sequence[Row]) -> dict[float, dict[int, Cell]]:
    """Return, by rate and steps, the correlation with true utility (private, plaintext) and the private seconds."""
    found, known = pick(rows, "grid", "finetuning"), pick(rows, "noise", "influence")
    rates, steps = (sorted({r[key] for r in found}) for key in ("lr", "steps"))

    def cell(rate: float, count: int) -> Cell:
        kept = with_utility([r for r in found if (r["lr"], r["steps"]) == (rate, count)], known)
        private, clear = (agreements(kept, "utility", key)["pearson"] for key in ("value", "plaintext"))
        return mean(private) if private else None, mean(clear) if clear else None, seconds_of(kept)

    return {rate: {count: cell(rate, count) for count in steps} for rate in rates}


# -- figure 5 ------------------------------------------------------------------------------------------------------
def planes(row: Row) -> list[float]:
    """Return the share of class 0 in each candidate, which its name tells."""
    return [float(name.rpartition("=")[2]) for name in row["candidate"]]


def joined(rows: Sequence[Row], low: float = 0.0, high: float = 1.0) -> list[Row]:
    """Return rows of influence with accuracies, cut to candidates whose share of cars is in [low, high]."""
    known = {r["seed"]: r["accuracy"] for r in rows if r["part"] == "accuracy"}
    found = []
    for row in pick(rows, "mismatch", "influence"):
        if row["seed"] in known:
            row = row | {"accuracy": known[row["seed"]]}
            kept = [k for k, share in enumerate(planes(row)) if low - 1e-9 <= 1 - share <= high + 1e-9]
            keys = ("candidate", "value", "plaintext", "utility", "accuracy")
            found.append(row | {key: [row[key][k] for k in kept] for key in keys})
    return found


def pooled(rows: Sequence[Row], key: str) -> list[float]:
    return [value for row in rows for value in row[key]]


def panels(rows: Sequence[Row]) -> list[Row]:
    """Return the panels of figure 5: Spearman's correlation, repeats pooled, in the paper's orientation, and others."""
    found = []
    for panel, (against, published, sign, low, high) in PANELS.items():
        kept = joined(rows, low, high)
        whole = {
            key: correlations(pooled(kept, key), pooled(kept, against))["spearman"] for key in ("value", "plaintext")
        }
        signed = {key: None if value is None else sign * value for key, value in whole.items()}
        found.append({
            "panel": panel, "against": against, "published": published, "low": low, "high": high, "rows": kept,
            "private": signed["value"], "open": signed["plaintext"], "count": len(pooled(kept, "value")),
            "repeats": agreements(kept, against, sign=sign)["spearman"], "drift": drift(kept),
        })  # fmt: skip
    return found
