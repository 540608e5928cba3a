"""What a relay costs on loopback, and how well the cost preview foretells a run between parties far away.

One candidate by influence between three processes over TLS: directly; through `mpc-appraisal relay`; and through one
that delays and has a bandwidth, as between two cities. The ways take turns. The estimate is that of
`mpc-appraisal cost` for the same latency and bandwidth.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.page import Page, run_facts
from experiments.harness.plots import BLUE, GREY, blank, plain
from experiments.harness.records import ABOUT, Row, read_rows, select, write_rows
from experiments.harness.run import Run, Study
from experiments.studies.relay.sessions import Load, Way, greeting_bytes, run_sessions

DIRECT, RELAY = "directly", "through a relay"
WAYS = (
    Way(DIRECT, False),
    Way(RELAY, True),
    Way("20 ms, 100 Mbit/s", True, 20.0, 100.0),
    Way("40 ms, 100 Mbit/s", True, 40.0, 100.0),
)
SMALL, FULL = (Load(60, 16, 4),), (Load(300, 64, 10), Load(2000, 784, 10))
GOAL_SECONDS, GOAL_BYTES = 1.3, 0.02
KEYS = {
    "about": ABOUT | {"size", "greeting_bytes"},
    "sessions": {"part", "turn", "load", "way", "delay_ms", "mbit", "seconds", "wall", "bytes", "forwarded", "rounds",
                 "estimated", "value"},
}  # fmt: skip


class RelayStudy(Study):
    name = "relay"
    summary = "what a relay costs on loopback, and estimates of the cost preview against runs over a wide network"
    text = __doc__
    parts = ("sessions",)
    seeds = (1, 7)

    def measure(self, run: Run) -> None:
        rows: list[Row] = []
        turns = run.size.seeds
        for load in SMALL if run.args.small else FULL:
            with tempfile.TemporaryDirectory() as folder:
                rows += run_sessions(WAYS, load, turns, Path(folder))
            print(f"relay: {load.words}, {turns} turns done", file=sys.stderr, flush=True)
        about = {"part": "about", "size": run.size.name, "greeting_bytes": greeting_bytes()}
        write_rows(run.out / "relay.jsonl", [about | run.about(data=False), *rows])

    def render(self, folder: Path) -> list[Page]:
        about, rows = read_rows(folder / "relay.jsonl", KEYS)
        loads = list(dict.fromkeys(row["load"] for row in rows))
        facts = {"sessions": f"influence, one candidate, TLS, {rows[-1]['turn'] + 1} turns of each way"}
        near = [loopback(rows, load, about) for load in loads]
        far = [line for load in loads for line in wide(rows, load)]
        found = page.render(
            "studies/relay/report.md.jinja", folder, "relay", {"relay-wide": drawing(far)}, loopback=near,
            wide=far, turns=rows[-1]["turn"] + 1,
            goals=(GOAL_SECONDS, GOAL_BYTES), facts=run_facts(about, facts, "relay"),
        )  # fmt: skip
        return [found]


STUDY = RelayStudy()


def drawing(lines: Sequence[dict[str, Any]]) -> Figure:
    """Draw estimated and measured seconds side by side, for each candidate and network."""
    figure = blank(7.5, 1.2 + 0.45 * len(lines))
    axis = figure.subplots()
    for k, (key, color) in enumerate((("estimated", GREY), ("measured", BLUE))):
        places = [place + 0.36 * k - 0.18 for place in range(len(lines))]
        axis.barh(places, [line[key] for line in lines], 0.34, color=color, label=key)
    axis.set_yticks(range(len(lines)), [f"{line['load']}\n{line['way']}" for line in lines])
    axis.invert_yaxis()
    axis.set_xlabel("seconds of sharing and computing")
    axis.legend(frameon=False)
    plain(axis, grid="x")
    return figure


def loopback(rows: Sequence[Row], load: str, about: Row) -> dict[str, Any]:
    """Return the medians of one load directly and through a relay, and the medians of the ratios turn by turn."""
    ways = {way: select(rows, load=load, way=way) for way in (DIRECT, RELAY)}
    pairs = list(zip(*(sorted(some, key=lambda row: row["turn"]) for some in ways.values()), strict=True))
    ratios = [there["seconds"] / here["seconds"] for here, there in pairs]
    bytes_direct, forwarded = (median(row[key] for row in ways[RELAY]) for key in ("bytes", "forwarded"))
    return {
        "load": load,
        "direct": median(row["seconds"] for row in ways[DIRECT]),
        "relay": median(row["seconds"] for row in ways[RELAY]),
        "times": median(ratios),
        "least": min(ratios),
        "most": max(ratios),
        "wall": median(there["wall"] / here["wall"] for here, there in pairs),
        "payload": bytes_direct / 1e6,
        "forwarded": forwarded / 1e6,
        "more": about["greeting_bytes"] / forwarded,
        "payload_alike": len({row["bytes"] for some in ways.values() for row in some}) == 1,
        "values_alike": len({round(row["value"], 3) for some in ways.values() for row in some}) == 1,
    }


def wide(rows: Sequence[Row], load: str) -> list[dict[str, Any]]:
    """Return, for each network of one load, the estimate, the measured median and the median of their ratios."""
    found = []
    for way in WAYS:
        some = [row for row in select(rows, load=load, way=way.name) if row["estimated"] is not None]
        if some:
            found.append({
                "load": load, "way": way.name, "rounds": some[0]["rounds"],
                "estimated": median(row["estimated"] for row in some),
                "measured": median(row["seconds"] for row in some),
                "times": median(row["seconds"] / row["estimated"] for row in some),
            })  # fmt: skip
    return found
