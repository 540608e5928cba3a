"""What the paper's tables and figures take from rows: correlations over seeds, runtimes, drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, median, stdev
from typing import Any

from mpc_appraisal.reporting.metrics import correlations
from mpc_appraisal.reporting.table import DASH, number

Row = dict[str, Any]
KINDS = ("pearson", "spearman")
# To the paper's orientation: f_if and f_ft rise with noise, and it reads the gradient's norm as a value.
SIGN = {"gradient_norm": 1.0, "finetuning": -1.0, "influence": -1.0}


def pick(rows: Sequence[Row], part: str, method: str, **facts: Any) -> list[Row]:
    """Rows of a part and a method, by seed."""
    kept = [r for r in rows if r["part"] == part and r["method"] == method]
    kept = [r for r in kept if all(r[key] == value for key, value in facts.items())]
    return sorted(kept, key=lambda r: (r["seed"], r["steps"] or 0))


def with_utility(rows: Sequence[Row], known: Sequence[Row]) -> list[Row]:
    """The same rows with the true utilities of `known`, joined by seed and candidate."""
    found = {(r["seed"], c): u for r in known for c, u in zip(r["candidate"], r["utility"], strict=True)}
    return [r | {"utility": [found.get((r["seed"], c)) for c in r["candidate"]]} for r in rows]


def agreements(rows: Sequence[Row], against: str, key: str = "value", sign: float = 1.0) -> dict[str, list[float]]:
    """{"pearson", "spearman"}: of `key` with `against`, one number for each row that has both."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for row in rows:
        if None in row[key] or None in row[against]:
            continue
        for kind, value in correlations(row[key], row[against]).items():
            if value is not None:
                found[kind].append(sign * value)
    return found


def rho(value: float) -> str:
    """Two decimals, the sign always shown; never -0.00."""
    text = f"{value:+.2f}"
    return text if text != "-0.00" else "+0.00"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and deviation over seeds, as in '+0.96 ± 0.04'."""
    if not values:
        return DASH
    text = rho(mean(values)) if digits == 2 else f"{mean(values):+.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def drift(rows: Sequence[Row]) -> float | None:
    """The largest |private - plaintext| of a candidate over the deviation of plaintext values among candidates."""
    found = []
    for row in rows:
        if None not in row["value"]:
            wide = stdev(row["plaintext"])
            found += [abs(a - b) / wide for a, b in zip(row["value"], row["plaintext"], strict=True) if wide]
    return max(found, default=None)


def private_seconds(row: Row) -> list[float]:
    """Of each candidate: sharing and the joint computation."""
    return [a + b for a, b in zip(row["share"], row["private"], strict=True)] if None not in row["private"] else []


def seconds_of(rows: Sequence[Row]) -> float | None:
    """Median private seconds of one candidate."""
    found = [s for row in rows for s in private_seconds(row)]
    return median(found) if found else None


def ratios(tuned: Sequence[Row], influence: Sequence[Row]) -> list[float]:
    """Private runtime of fine-tuning over that of influence, of the same candidate in the same session."""
    by_job = {row["job"]: private_seconds(row) for row in influence}
    pairs = [p for row in tuned for p in zip(private_seconds(row), by_job.get(row["job"], []), strict=False)]
    return [a / b for a, b in pairs]


def steps_within(measured: dict[int, float], limit: float, most: int) -> int:
    """The most steps whose runtime is within `limit` times influence's, one at least, `most` at most.

    measured: steps -> ratio, of which a straight line is made with equal relative weights: setting up and both test
    losses, and so much a step.
    """
    points = [(s, r) for s, r in sorted(measured.items())]
    weights = [1 / r**2 for _, r in points]
    total = sum(weights)
    x, y = (sum(w * p[k] for w, p in zip(weights, points, strict=True)) / total for k in (0, 1))
    around = sum(w * (s - x) ** 2 for w, (s, _) in zip(weights, points, strict=True))
    slope = sum(w * (s - x) * (r - y) for w, (s, r) in zip(weights, points, strict=True)) / around if around else 0.0
    if slope <= 0:
        within = [s for s, r in points if r <= limit]
        return max(within, default=1)
    return min(most, max(1, math.floor((limit - (y - slope * x)) / slope)))


def seconds_text(value: float | None) -> str:
    return DASH if value is None else number(value, 3)
