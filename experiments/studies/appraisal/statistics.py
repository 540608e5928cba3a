"""What the paper's tables and figures take from rows: correlations over seeds, runtimes, drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from experiments.harness.records import Row
from mpc_appraisal.reporting.metrics import correlations
from mpc_appraisal.reporting.table import DASH

KINDS = ("pearson", "spearman")
# To the paper's orientation: f_if and f_ft rise with noise, and it reads the gradient's norm as a value.
SIGN = {"gradient_norm": 1.0, "finetuning": -1.0, "influence": -1.0}
COUNTS = ("false_accept", "false_reject")  # [how many, of how many], of the pre-flight's own held-out parts
BUDGETS = (1, 4, 16)
FIGURE3_STEPS, FIGURE3_RATE = 16, 0.1


def pick(rows: Sequence[Row], part: str, method: str, **facts: Any) -> list[Row]:
    """Return the rows of a part and a method, by seed."""
    facts |= {"part": part, "method": method}
    kept = [row for row in rows if all(row[key] == value for key, value in facts.items())]
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


def rho(value: float) -> str:
    """Format two decimals, the sign always shown, and never -0.00."""
    text = f"{value:+.2f}"
    return text if text != "-0.00" else "+0.00"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Format the mean and the deviation over seeds, as in '+0.96 ± 0.04'."""
    if not values:
        return DASH
    text = rho(mean(values)) if digits == 2 else f"{mean(values):+.{digits}f}"
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
    weights = found**-2.0
    x, y = (np.average(each, weights=weights) for each in (steps, found))
    around = (weights * (steps - x) ** 2).sum()
    slope = (weights * (steps - x) * (found - y)).sum() / around if around else 0.0
    if slope <= 0:
        return max((s for s, r in measured.items() if r <= limit), default=1)
    return min(most, max(1, math.floor((limit - (y - slope * x)) / slope)))
