"""One appraisal between three processes over TLS, directly or through a relay, and what it cost.

The parties are three processes that hold one session after the other, each as `session=join` does, and the relay is the
command's. Seconds are those of sharing and computing, as the model owner's record states them; `wall` has the meeting,
the training and the approval too.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.parties import launch_parties
from experiments.harness.records import Row
from mpc_appraisal import DisclosureControls, Join, appraise
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.mpc.backends.cost_model import LAN, NetworkLink
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.net.relay.greeting import DIAL, MET, WAIT, Greeting

APP = [sys.executable, "-m", "mpc_appraisal.cli.app"]
TIMEOUT = 120.0
CONNECTIONS = 14  # three links have two connections with two ends each, and each of two seats may have one to spare


@dataclass(frozen=True)
class Way:
    """How the parties are connected. delay_ms and mbit are those of the relay; 0 stands for none."""

    name: str
    relay: bool
    delay_ms: float = 0.0
    mbit: float = 0.0

    @property
    def network(self) -> NetworkLink | None:
        """Return the network that the relay stands for, or None for loopback."""
        return NetworkLink(self.name, self.delay_ms / 1e3, self.mbit * 1e6) if self.mbit else None


@dataclass(frozen=True)
class Load:
    """One candidate of `rows` rows for a model of `features` features and `classes` classes."""

    rows: int
    features: int
    classes: int

    @property
    def words(self) -> str:
        return f"{self.rows:,} rows, {self.features} features, {self.classes} classes"


def rows_of(load: Load, role: str) -> dict[str, Any]:
    """Return one owner's random rows, whose labels follow a linear rule, as arguments of `appraise`."""
    rule = np.random.default_rng(0).normal(size=(load.features, load.classes))

    def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        x = np.random.default_rng(seed).normal(size=(rows, load.features)) / load.features**0.5
        y = (x @ rule).argmax(1)
        y[: load.classes] = np.arange(load.classes)
        return x, y

    if role == MODEL_OWNER:
        return {"train": drawn(600, 1), "test": drawn(200, 2)}
    return {"data": {"seller": drawn(load.rows, 3)}} if role == DATA_OWNER else {}


@contextmanager
def relay_of(way: Way, folder: Path):
    """Run a relay, and yield its address and a function that ends it and returns the bytes that it has forwarded."""
    where, words = f"127.0.0.1:{free_port()}", [f"delay_ms={way.delay_ms}", f"mbit={way.mbit or 'none'}"]
    folder.mkdir(parents=True)
    with open(folder / "relay.txt", "w+") as said, open(folder / "relay.log", "w") as log:
        started = subprocess.Popen([*APP, "relay", f"listen={where}", *words], stdout=said, stderr=log)

        def end() -> int:
            started.send_signal(signal.SIGINT)
            started.wait(60)
            said.seek(0)
            return int(re.search(r"(\d+) bytes forwarded", said.read())[1])

        try:
            while "listens at" not in (folder / "relay.log").read_text():
                if started.poll() is not None:
                    raise RuntimeError((folder / "relay.log").read_text())
                time.sleep(0.05)
            yield where, end
        finally:
            with suppress(ProcessLookupError):
                started.kill()
            started.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def party(
    role: str, address: str, emit: Any, folder: Path, *, load: Load, places: list, certificates: str
) -> list[Row]:
    """Be one party of all sessions, one after the other, and return the model owner's rows.

    places: For each session, the settings of `Join` by which it is met.
    """
    own, found = rows_of(load, role), []
    for place in places:
        session = Join(role, tls=certificates, join_timeout=TIMEOUT, **place)
        began = time.perf_counter()
        for record in appraise(**own, session=session, controls=DisclosureControls(approval="yes")):
            found.append({
                "seconds": record.seconds["share"] + record.seconds["private"], "wall": time.perf_counter() - began,
                "bytes": sum(record.bytes_sent.values()), "rounds": record.rounds, "value": record.value,
                "foretold": record.estimate,
            })  # fmt: skip
    return found if role == MODEL_OWNER else []


def run_sessions(ways: Sequence[Way], load: Load, turns: int, folder: Path) -> list[Row]:
    """Run one appraisal by influence each way and turn, and return their rows.

    The ways take turns. A first session, which has the imports to do, is not counted.
    """
    make_trial(folder / "certificates")
    with ExitStack() as stack:
        relays = {way: stack.enter_context(relay_of(way, folder / way.name)) for way in ways if way.relay}
        order = [(turn, way) for turn in range(turns) for way in ways[:: (-1) ** turn]]
        places = [
            {"relay": f"{relays[way][0]}/turn-{turn}"}
            if way.relay
            else {"rendezvous": f"tcp://127.0.0.1:{free_port()}"}
            for turn, way in order
        ]
        places = [{"rendezvous": f"tcp://127.0.0.1:{free_port()}"}, *places]
        common = {"load": load, "places": places, "certificates": str(folder / "certificates")}
        done = launch_parties(party, **common)[MODEL_OWNER]
        forwarded = {way: end() / turns for way, (_, end) in relays.items()}
    rows = []
    for (turn, way), row in zip(order, done[1:], strict=True):
        foretold = row.pop("foretold")
        rows.append(
            {"part": "sessions", "turn": turn, "load": load.words, "way": way.name, "delay_ms": way.delay_ms}
            | {"mbit": way.mbit, "forwarded": forwarded.get(way), **row}
            | {"estimated": None if way.network is None else estimated(foretold, way.network)}
        )
    return rows


def estimated(foretold: dict[str, Any], network: NetworkLink) -> float:
    """Return the cost model's seconds on a network, from what a dry run foretold and its seconds on the LAN."""
    busiest = 8 * max(count for key, count in foretold.items() if key.startswith("bytes_sent."))
    work = foretold["lan_seconds"] - foretold["rounds"] * LAN.latency - busiest / LAN.bandwidth
    return foretold["rounds"] * network.latency + busiest / network.bandwidth + work


def greeting_bytes() -> int:
    """Return the most bytes that the parties and a relay exchange in one session before anything is forwarded."""
    longest = Greeting(DIAL, "0" * 64, DATA_OWNER, MODEL_OWNER, "0" * 16).line
    return CONNECTIONS * (len(longest) + len(WAIT) + 1 + len(MET) + 18)
