"""The numbers of table 1, agreement of values with label noise, and of figures 3 to 5, which have tables too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from experiments.harness.records import Row
from experiments.studies.appraisal.statistics import (
    SIGN,
    agreements,
    budgets,
    drift,
    pick,
    private_seconds,
    ratios,
    seconds_of,
    with_utility,
)
from mpc_appraisal.reporting.metrics import correlations
from mpc_appraisal.reporting.table import DASH

RATES = (0.001, 0.1, 10.0)
PUBLISHED = {
    (1, 0.001): "0.61", (1, 0.1): "0.95", (1, 10.0): "0.96", (4, 0.001): "0.58", (4, 0.1): "1.0", (4, 10.0): "0.59",
    (16, 0.001): "0.72", (16, 0.1): "1.0", (16, 10.0): "0.88", "gradient_norm": "-1.00", "influence": "0.96",
}  # fmt: skip
LOST = 1.0  # a drift, in deviations among candidates, beyond which rounding ranks
PANELS = {  # of figure 5: (against, published, sign to the paper's orientation, shares of cars from, to)
    "a": ("utility", 0.923, 1, 0.0, 1.0),
    "b": ("accuracy", -0.927, -1, 0.0, 1.0),
    "c": ("utility", 0.908, 1, 0.0, 0.45),
    "d": ("utility", 0.247, 1, 0.55, 1.0),
}
METHODS = ("gradient_norm", "finetuning", "influence")  # in figure 3's order


@dataclass(frozen=True)
class Line:
    """A line of table 1, and what its columns need."""

    method: str
    limit: str
    rate: str
    published: str
    rows: list[Row]
    ratio: float | None = None

    @property
    def sign(self) -> float:
        return SIGN[self.method]

    @property
    def steps(self) -> int | None:
        return self.rows[0]["steps"] if self.method == "finetuning" and self.rows else None

    @property
    def refused(self) -> str:
        """Say whether the private check refused, or that there is no row."""
        return refusals(self.rows) if self.rows else "not measured"

    @property
    def empty(self) -> bool:
        """Return whether there is no private value at all."""
        return not self.rows or self.refused.startswith("refused")

    @property
    def drift(self) -> float | None:
        return drift(self.rows)

    def agreement(self, against: str, kind: str, key: str = "value", sign: float = 1.0) -> list[float]:
        return agreements(self.rows, against, key, sign)[kind]

    @property
    def seconds(self) -> float | None:
        return seconds_of(self.rows)


def refusals(rows: Sequence[Row]) -> str:
    """Return what a cell says if the private check refused."""
    refused = sum(row["refused"] for row in rows)
    if not refused:
        return ""
    return "refused: left the bound" if refused == len(rows) else f"; {refused} of {len(rows)} seeds refused"


def lines(rows: Sequence[Row]) -> list[Line]:
    """Return the lines of table 1 in their order, with the paper's rates, measured yet or not, and others."""
    rates = sorted({row["lr"] for row in rows if row["part"] == "table1"} | set(RATES))
    known = pick(rows, "noise", "influence")  # rows with the utilities
    norm = pick(rows, "noise", "gradient_norm")
    found = [Line("gradient_norm", DASH, DASH, PUBLISHED["gradient_norm"], with_utility(norm, known))]
    for limit, steps in budgets(rows).items():
        for rate in rates:
            kept = with_utility(pick(rows, "table1", "finetuning", steps=steps, lr=rate), known)
            times, published = ratios(kept, pick(rows, "table1", "influence")), PUBLISHED.get((limit, rate), DASH)
            ratio = median(times) if times else None
            found.append(Line("finetuning", f"{limit}x", f"{rate:g}", published, kept, ratio))
    return [*found, Line("influence", DASH, DASH, PUBLISHED["influence"], with_utility(known, known))]


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
