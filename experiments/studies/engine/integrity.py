"""One candidate's influence with the check of messages and without it (session.integrity), in turns.

Both appraise the same candidate by today's build, in one run. Ratios are those of the run with the check to the run
without it in the same turn, and medians over the turns; peak memory is the largest.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from statistics import median
from typing import Any

from experiments.harness.records import Row
from experiments.rivals.earlier_build import Builds
from experiments.studies.engine.appraisals import L2, METHODS, tuning_market
from experiments.studies.engine.costs import Cost, Measured, in_turns, records
from mpc_appraisal.common.roles import ROLES

TARGETS = {"seconds": 2.0, "bytes": 1.2}  # the ratios that the check should not exceed
MORE_ROUNDS = 12
MORE = {"checked", "ratios", "more_rounds"}  # what a record of this part has besides


def measure(args: Namespace, mnist: bool, builds: Builds, turns: int) -> list[Row]:
    """Measure one candidate by influence, with the check and without it."""
    market, pairs = tuning_market(args, mnist), []
    of = market.words()
    works = {checked: f"influence, {of}, {'with' if checked else 'without'} the check" for checked in (False, True)}

    def turn(k: int) -> list[Measured]:
        given = {"method": METHODS["influence"], "market": market.stated, "count": 1, "l2": L2}
        order = (False, True)[:: (-1) ** k]
        done = {checked: builds.do("fast", "appraisal", checked=checked, **given) for checked in order}
        pairs.append((done[True], done[False]))
        print(f"integrity: turn {k} of {turns} done", file=sys.stderr, flush=True)
        return [Measured("fast", works[c], k, done[c], done[c]["difference"]) for c in (False, True)]

    rows = records("integrity", in_turns(turns, turn))
    more = {"ratios": ratios(pairs), "more_rounds": pairs[0][0]["rounds"] - pairs[0][1]["rounds"]}
    nothing = dict.fromkeys(more)
    return [
        row | {"checked": row["work"] == works[True]} | (more if row["work"] == works[True] else nothing)
        for row in rows
    ]


def ratios(pairs: list[tuple[Cost, Cost]]) -> dict[str, Any]:
    """Return the medians of seconds, bytes, and each party's CPU seconds and memory, where those without are 1."""
    found: dict[str, Any] = {key: median(a[key] / b[key] for a, b in pairs) for key in ("seconds", "bytes")}
    for key in ("cpu_seconds", "peak_bytes"):
        found[key] = {role: median(a[key][role] / b[key][role] for a, b in pairs) for role in ROLES}
    return found
