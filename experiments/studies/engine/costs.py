"""Records of what works cost, from measurements in turns: medians, and ratios to two of the engines turn by turn.

In go `Measured`s, one for each engine, work and turn; out comes a record for each engine and work. Ratios are taken
within a turn, because the machine's load changes. The keys of a record have to stay: the committed records have them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import pandas as pd

from experiments.harness.records import Row

Cost = Mapping[str, Any]  # as `rivals.any_build.cost` returns it
MORE = {"part", "cpu_seconds", "cpu_ratio_to_baseline", "peak_mb"}  # the keys that records of earlier versions lack


@dataclass(frozen=True)
class Measured:
    """What one turn of a work cost on one engine, and how far its result was off, in the work's own unit."""

    engine: str
    work: str
    turn: int
    cost: Cost
    error: float | None = None


def cost_of(seconds: float, cpu: dict[str, float] | None = None) -> Cost:
    """Return the cost of a work that sends nothing."""
    return {"seconds": seconds, "bytes": 0, "rounds": 0, "cpu_seconds": cpu, "peak_bytes": None}


def in_turns(count: int, turn: Callable[[int], list[Measured]]) -> list[Measured]:
    """Return what the turns 1 to `count` have measured. The error of a turn is printed, and the other turns stand.

    If all turns fail, the error of the last one is raised.
    """
    found: list[Measured] = []
    for k in range(1, count + 1):
        try:
            found += turn(k)
        except Exception as error:
            if k == count and not found:
                raise
            print(f"turn {k} of {count} failed: {error}", file=sys.stderr, flush=True)
    return found


def records(part: str, measured: Sequence[Measured], **more: Any) -> list[Row]:
    """Return a record for each engine and work, in their order.

    `seconds`, `mb`, `rounds` and `cpu_seconds` (by party) are medians over the turns; `peak_mb` (by party) and `error`
    are the largest. `ratio_to_stock` is how many times as fast as stock CrypTen the engine is. `ratio_to_baseline` is
    its seconds over those of the earlier build, and `cpu_ratio_to_baseline` the same of the CPU seconds of all parties.
    """
    if not measured:
        return []
    found = pd.DataFrame([_numbers(each) for each in measured])
    for other in ("stock", "baseline"):
        found = _with_those_of(found, other)
    found["to_stock"] = found.seconds_of_stock / found.seconds
    found["to_baseline"] = found.seconds / found.seconds_of_baseline
    found["cpu_to_baseline"] = found.cpu / found.cpu_of_baseline
    rows = []
    for (engine, work), turns in found.groupby(["engine", "work"], sort=False):
        own = [each for each in measured if (each.engine, each.work) == (engine, work)]
        middle = turns.drop(columns=["engine", "work"]).astype(float).median()
        errors = [each.error for each in own if each.error is not None]
        ratios = {
            "ratio_to_stock": "to_stock",
            "ratio_to_baseline": "to_baseline",
            "cpu_ratio_to_baseline": "cpu_to_baseline",
        }
        row = {"part": part, "engine": engine, "work": work, "seconds": middle.seconds}
        row |= {key: None if math.isnan(middle[column]) else middle[column] for key, column in ratios.items()}
        row |= {"cpu_seconds": _by_party(own, "cpu_seconds", median), "mb": middle.bytes / 1e6}
        row |= {"peak_mb": _by_party(own, "peak_bytes", lambda peaks: max(peaks) / 1e6)}
        row |= {"rounds": round(middle.rounds), "error": max(errors, default=None), "repeat": len(own)}
        rows.append(row | more)
    return rows


def _numbers(each: Measured) -> Row:
    cpu = each.cost["cpu_seconds"]
    found = {"engine": each.engine, "work": each.work, "turn": each.turn, "cpu": sum(cpu.values()) if cpu else math.nan}
    return found | {key: each.cost[key] for key in ("seconds", "bytes", "rounds")}


def _with_those_of(found: pd.DataFrame, other: str) -> pd.DataFrame:
    """Add the other engine's seconds and CPU seconds for the work in the same turn, or else its medians."""
    theirs = found[found.engine == other][["work", "turn", "seconds", "cpu"]]
    merged = found.merge(theirs, how="left", on=["work", "turn"], suffixes=("", f"_of_{other}"))
    for key in ("seconds", "cpu"):
        medians = merged.work.map(theirs.groupby("work")[key].median())
        merged[f"{key}_of_{other}"] = merged[f"{key}_of_{other}"].fillna(medians)
    return merged


def _by_party(own: Sequence[Measured], key: str, over: Any) -> dict[str, float] | None:
    known = [each.cost[key] for each in own if each.cost[key]]
    return {party: over([each[party] for each in known]) for party in known[0]} if known else None
