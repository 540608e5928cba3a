"""May a buyer decide by one bit? Thresholds of the pre-flight, on the private values of the noise sweep.

threshold t_s   from `mpc-appraisal preflight` on the training and test rows of the model owner of seed s alone
bought          private value >= t_s   (or >= 0)
t(n)            for influence a threshold depends on the candidate's number of rows n (`calibration.SizeTerm`)
open            the value is in the range that the pre-flight's copies do not settle: its sentence says "undecided"
helps           true utility > 0: retraining with the candidate lowers the mean test loss, as the pre-flight has it

false accept    bought and does not help, of those that do not help
false reject    not bought and helps, of those that help
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.harness.plots import BLUE, GREY, INK, ORANGE, blank, plain
from experiments.harness.records import Row, select
from experiments.studies.appraisal.tables import COUNTS, pick
from mpc_appraisal.methods.preflight.calibration import SizeTerm
from mpc_appraisal.methods.preflight.result import Rate, Threshold
from mpc_appraisal.methods.preflight.threshold import threshold_of

UNSEEN = "unseen-preflight"  # the part of the pre-flights of seeds that no choice was made on
METHODS = {"gradient_norm": "gradient norm", "finetuning": "fine-tuning", "influence": "influence"}


def cases(rows: Sequence[Row], method: str, part: str = "noise", checks: str = "preflight") -> pd.DataFrame:
    """Return a line for each candidate of the seeds with values and a pre-flight.

    `part` says of which candidates, and `checks` of which pre-flights. `threshold` is the one for so many rows; it is
    nan if none was found, and then the candidate is not bought. `open` is None where the pre-flight has no range.
    """
    known = {row["seed"]: row for row in pick(rows, checks, method)}
    kept = [row for row in pick(rows, part, method) if not row["refused"] and row["seed"] in known]
    lists = ["n", "value", "plaintext", "utility"]
    found = pd.DataFrame(kept, columns=["seed", *lists]).explode(lists, ignore_index=True)
    found = found.astype({"seed": int} | dict.fromkeys(lists, float))
    limits = {seed: limit_of(row) for seed, row in known.items()}
    each = list(zip(found.seed, found.n.astype(int), found.value, strict=True))
    found["threshold"] = [math.nan if (t := limits[seed].of(n)) is None else t for seed, n, _ in each]
    ranges = [limits[seed].open_of(n) for seed, n, _ in each]
    found["open"] = [None if r is None else r[0] <= v < r[1] for r, (*_, v) in zip(ranges, each, strict=True)]
    return found.assign(helps=found.utility > 0, wrong=(found.value >= found.threshold) != (found.utility > 0))


def limit_of(row: Row) -> Threshold:
    """Return the threshold of a row about a pre-flight, with its term of size and its open range."""
    size, unsettled = row.get("size"), row.get("open")
    rates = [Rate.count([])] * 4
    return Threshold(row["threshold"], row["unit"], *rates, SizeTerm(**size) if size else None,
                     tuple(unsettled) if unsettled else None)  # fmt: skip


def decided(found: pd.DataFrame, threshold: pd.Series | float) -> tuple[Rate, Rate]:
    """Return (false accepts, false rejects)."""
    bought = found.value >= threshold
    return Rate.count(bought[~found.helps]), Rate.count(~bought[found.helps])


def in_hindsight(found: pd.DataFrame) -> pd.Series:
    """Return for each candidate the threshold that errs least on the candidates of the same seed themselves."""
    best = {}
    for seed, mine in found.groupby("seed"):
        limit = threshold_of(mine.value.tolist(), mine.helps.tolist())
        best[seed] = (-math.inf if mine.helps.iloc[0] else math.inf) if limit is None else limit  # None: all alike
    return found.seed.map(best)


def foretold(rows: Sequence[Row], method: str) -> list[Rate]:
    """Return the pre-flight's own rates, on held-out parts that did not calibrate, seeds together."""
    counts = [np.sum([row[key] for row in pick(rows, "preflight", method)], axis=0) for key in COUNTS]
    return [Rate.count([True] * off + [False] * (of - off)) for off, of in counts]


def by_size(rows: Sequence[Row], known: Sequence[str] = ("sized", "noise"), checks: str = "preflight") -> list[dict]:
    """Return, for each number of rows, the wrong decisions of each method by the ways to decide.

    `open` counts the candidates that the copies do not settle, and `settled` the wrong decisions on all others; both
    are None where the pre-flights have no open range.
    """
    lines = []
    for method, name in METHODS.items():
        parts = [found for part in known if len(found := cases(rows, method, part, checks))]
        for n, found in pd.concat(parts).groupby("n") if parts else ():
            ways = {"calibrated": found.threshold, "zero": 0.0, "hindsight": in_hindsight(found)}
            wrong = {way: sum(rate.wrong for rate in decided(found, each)) for way, each in ways.items()}
            accepts, rejects = decided(found, found.threshold)
            line = {"name": name, "n": int(n), "count": len(found), "accepts": accepts, "rejects": rejects} | wrong
            sure = None if found.open.isna().any() else ~found.open.astype(bool)
            line |= {"open": None, "settled": None} if sure is None else {
                "open": int((~sure).sum()), "settled": int((found.wrong & sure).sum())
            }  # fmt: skip
            lines.append(line)
    return lines


def context(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the template needs: the decisions of each method, and the pre-flights."""
    methods, every = [], [cases(rows, method) for method in METHODS]
    for (method, name), found in zip(METHODS.items(), every, strict=True):
        if len(found):
            ways = {"calibrated": found.threshold, "zero": 0.0, "hindsight": in_hindsight(found)}
            bought, limits = found.utility[found.value >= found.threshold], found.threshold.dropna()
            rates = {way: decided(found, each) for way, each in ways.items()}
            methods.append({
                "method": method, "name": name, "limits": [limits.min(), limits.max()] if len(limits) else [],
                "rates": rates | {"foretold": foretold(rows, method)},
                "worst": bought.min() if len(bought) else None, "count": len(found), "helping": int(found.helps.sum()),
                "seeds": found.seed.nunique(),
            })  # fmt: skip
    told = pd.concat(every).dropna(subset="threshold")
    checks = select(rows, part="preflight")
    return {
        "methods": methods,
        "sizes": by_size(rows) if select(rows, part="sized") else [],
        "unseen": by_size(rows, ("unseen",), UNSEEN),
        "every": len(told),
        "turned": int(((told.value >= told.threshold) != (told.plaintext >= told.threshold)).sum()),
        "without": len(select(checks, threshold=None)),
        "doubted": len(checks) - len(select(checks, verdict="trusted")),
    }


def drawing(rows: Sequence[Row]) -> Figure:
    """Draw private value against true utility for each method, with the thresholds and the wrong decisions."""
    figure = blank(13.0, 3.7)
    for axis, method in zip(figure.subplots(1, 3), METHODS, strict=True):
        found = cases(rows, method)
        for colour, off in ((BLUE, False), (ORANGE, True)):
            kept = found[found.wrong == off]
            axis.scatter(kept.utility, kept.value, s=18, color=colour, zorder=3)
        for limit in sorted(found.threshold.dropna().unique()):
            axis.axhline(limit, color=GREY, linewidth=0.9, linestyle="--")
        axis.axhline(0, color=INK, linewidth=1.2)
        axis.axvline(0, color=GREY, linewidth=1.2)
        axis.set_title(METHODS[method], fontsize=10)
        axis.set_xlabel("true utility")
        axis.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
        plain(axis, grid=None)
    figure.axes[0].set_ylabel("private value")
    return figure
