"""One candidate's gradient norm and influence between parties far away: estimated, and measured through a relay.

The estimate is that of `mpc.backends.cost_model`, which the cost preview prints: rounds x latency + bytes of the
busiest party / bandwidth + local work. Measured is the joint computation (sharing and computing) of the same appraisal
with every connection between the parties going through `harness.relay`, at the model's latency and bandwidth. The
relay's rate holds for each pair of parties and direction, while the model lets the busiest party send over one line.
The engines take turns; seconds and ratios turn by turn are medians over the turns.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.harness.records import Row
from experiments.harness.relay import Relay
from experiments.rivals.earlier_build import Builds
from experiments.studies.engine.appraisals import L2, METHODS, own_engines, tuning_market
from experiments.studies.engine.costs import Measured, in_turns, records
from mpc_appraisal.mpc.backends.cost_model import LAN, WAN

BY = ("gradient_norm", "influence")
MORE = {"latency_ms", "mbit", "estimated_seconds", "times_estimated"}  # what a record of this part has besides


def estimated(foretold: Mapping[str, Any]) -> float:
    """Return the model's seconds on the WAN, from what a dry run foretold and its seconds on the LAN."""
    busiest = 8 * max(count for key, count in foretold.items() if key.startswith("bytes_sent."))
    work = foretold["lan_seconds"] - foretold["rounds"] * LAN.latency - busiest / LAN.bandwidth
    return foretold["rounds"] * WAN.latency + busiest / WAN.bandwidth + work


def measure(args: Namespace, mnist: bool, builds: Builds, turns: int) -> list[Row]:
    """Measure one candidate by each method in turns. RuntimeError says that the relay was passed by."""
    market, models = tuning_market(args, mnist), {}
    of = market.words()

    def turn(k: int) -> list[Measured]:
        found = []
        for method in BY[-1:] if args.small else BY:
            for engine in own_engines(builds)[:: (-1) ** k]:
                given = {"method": METHODS[method], "market": market.stated, "count": 1, "l2": L2}
                with Relay(WAN.latency, WAN.bandwidth) as relay:
                    done = builds.do(engine, "appraisal", relay=relay.address, **given)
                if relay.forwarded < done["bytes"]:
                    raise RuntimeError(f"{relay.forwarded} bytes went through the relay; expected {done['bytes']}")
                work = f"{method}, {of}, 40 ms and 100 Mbit/s"
                done["seconds"] = sum(done["phases"].values())
                found.append(Measured(engine, work, k, done, done["difference"]))
                models.setdefault((engine, work), []).append((estimated(done["estimate"]), done["seconds"]))
        print(f"wan: turn {k} of {turns} done", file=sys.stderr, flush=True)
        return found

    rows = records("wan", in_turns(turns, turn))
    return [row | compared(models[row["engine"], row["work"]]) for row in rows]


def compared(pairs: Sequence[tuple[float, float]]) -> Row:
    """Return the median estimate, and the median over the turns of measured over estimated seconds."""
    return {
        "latency_ms": 1e3 * WAN.latency,
        "mbit": WAN.bandwidth / 1e6,
        "estimated_seconds": median(model for model, _ in pairs),
        "times_estimated": median(seconds / model for model, seconds in pairs),
    }
