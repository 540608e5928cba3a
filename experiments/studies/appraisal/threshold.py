"""May a buyer decide by one bit? Thresholds of the pre-flight, on the private values of the noise sweep.

threshold t_s   from `mpc-appraisal preflight` on the training and test rows of the model owner of seed s alone
bought          private value >= t_s   (or >= 0)
helps           true utility > 0: retraining with the candidate lowers the mean test loss, as the pre-flight has it

false accept    bought and does not help, of those that do not help
false reject    not bought and helps, of those that help
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure

from experiments.harness.plots import BLUE, GREY, INK, ORANGE, blank, plain
from experiments.harness.records import Row
from experiments.studies.appraisal.statistics import COUNTS, pick
from mpc_appraisal.methods.preflight.check import threshold_of
from mpc_appraisal.methods.preflight.result import Rate, Threshold

METHODS = {"gradient_norm": "gradient norm", "finetuning": "fine-tuning", "influence": "influence"}


@dataclass(frozen=True)
class Case:
    """A candidate: its private value and the plaintext one, the threshold for so many rows, and its true utility.

    A threshold of None means that none was found: then the candidate is not bought.
    """

    seed: int
    value: float
    plaintext: float
    threshold: float | None
    utility: float

    @property
    def helps(self) -> bool:
        return self.utility > 0

    @property
    def bought(self) -> bool:
        return self.threshold is not None and self.value >= self.threshold

    @property
    def wrong(self) -> bool:
        return self.bought != self.helps


def cases(rows: Sequence[Row], method: str) -> list[Case]:
    """Return all candidates of seeds with private values and a pre-flight."""
    known = {row["seed"]: row for row in pick(rows, "preflight", method)}
    nothing = [Rate.count([])] * 4
    found = []
    for row in pick(rows, "noise", method):
        if not row["refused"] and row["seed"] in known:
            own = known[row["seed"]]
            threshold = Threshold(own["threshold"], own["unit"], *nothing)
            lists = zip(row["n"], row["value"], row["plaintext"], row["utility"], strict=True)
            found += [Case(row["seed"], v, p, threshold.of(n), u) for n, v, p, u in lists]
    return found


def decided(found: Sequence[Case]) -> tuple[Rate, Rate]:
    """Return (false accepts, false rejects)."""
    accepts = Rate.count(case.bought for case in found if not case.helps)
    return accepts, Rate.count(not case.bought for case in found if case.helps)


def at_zero(found: Sequence[Case]) -> list[Case]:
    return [replace(case, threshold=0.0) for case in found]


def in_hindsight(found: Sequence[Case]) -> list[Case]:
    """Give each case the threshold that errs least on the candidates of the same seed themselves."""
    best: dict[int, float] = {}
    for seed in {case.seed for case in found}:
        mine = [case for case in found if case.seed == seed]
        limit = threshold_of([case.value for case in mine], [case.helps for case in mine])
        best[seed] = (-math.inf if mine[0].helps else math.inf) if limit is None else limit  # None: all alike
    return [replace(case, threshold=best[case.seed]) for case in found]


def foretold(rows: Sequence[Row], method: str) -> list[Rate]:
    """Return the pre-flight's own rates, on held-out parts that did not calibrate, seeds together."""
    counts = [[row[key] for row in pick(rows, "preflight", method)] for key in COUNTS]
    pairs = [(sum(off for off, _ in each), sum(of for _, of in each)) for each in counts]
    return [Rate.count([True] * off + [False] * (of - off)) for off, of in pairs]


def context(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the template needs: the decisions of each method, and the pre-flights."""
    methods = []
    for method, name in METHODS.items():
        if found := cases(rows, method):
            ways = {"calibrated": found, "zero": at_zero(found), "hindsight": in_hindsight(found)}
            limits = [case.threshold for case in found if case.threshold is not None]
            methods.append({
                "method": method, "name": name, "cases": found, "limits": [min(limits), max(limits)] if limits else [],
                "rates": {way: decided(each) for way, each in ways.items()} | {"foretold": foretold(rows, method)},
                "wrong": {way: sum(case.wrong for case in each) for way, each in ways.items()},
                "worst": min((case.utility for case in found if case.bought), default=None),
            })  # fmt: skip
    every = [case for each in methods for case in each["cases"] if case.threshold is not None]
    checks = [row for row in rows if row["part"] == "preflight"]
    return {
        "methods": methods,
        "every": every,
        "turned": sum(case.bought != (case.plaintext >= case.threshold) for case in every),
        "without": sum(row["threshold"] is None for row in checks),
        "doubted": sum(row["verdict"] != "trusted" for row in checks),
    }


def drawing(rows: Sequence[Row]) -> Figure:
    """Draw private value against true utility for each method, with the thresholds and the wrong decisions."""
    figure = blank(13.0, 3.7)
    for axis, method in zip(figure.subplots(1, 3), METHODS, strict=True):
        found = cases(rows, method)
        for colour, off in ((BLUE, False), (ORANGE, True)):
            kept = [case for case in found if case.wrong == off]
            axis.scatter([case.utility for case in kept], [case.value for case in kept], s=18, color=colour, zorder=3)
        for limit in sorted({case.threshold for case in found if case.threshold is not None}):
            axis.axhline(limit, color=GREY, linewidth=0.9, linestyle="--")
        axis.axhline(0, color=INK, linewidth=1.2)
        axis.axvline(0, color=GREY, linewidth=1.2)
        axis.set_title(METHODS[method], fontsize=10)
        axis.set_xlabel("true utility")
        axis.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
        plain(axis, grid=None)
    figure.axes[0].set_ylabel("private value")
    return figure
