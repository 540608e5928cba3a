"""One appraisal between three processes over TLS, directly or through a relay, and what it cost.

The parties are the app's own, started as organisations start them, and the relay is the command's. Seconds are those of
sharing and computing, as the model owner's record states them; the start of the processes is in `wall` alone.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.records import Row
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.mpc.backends.cost_model import LAN, NetworkLink
from mpc_appraisal.mpc.net.certificates import make_trial
from mpc_appraisal.mpc.net.relay.greeting import DIAL, MET, WAIT, Greeting
from mpc_appraisal.reporting.record import read

APP = [sys.executable, "-m", "mpc_appraisal.cli.app"]
UNGUARDED = ("party.approval=yes", "party.ledger=none", "party.salt=none", "party.preflight=no")
SECONDS = 300
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


def write_inputs(folder: Path, load: Load) -> dict[str, list[str]]:
    """Write each owner's files of random rows and the parties' certificates, and return the words of each party."""
    rule = np.random.default_rng(0).normal(size=(load.features, load.classes))
    paths = {}
    for seed, (name, rows) in enumerate((("train", 600), ("test", 200), ("data", load.rows)), start=1):
        x = np.random.default_rng(seed).normal(size=(rows, load.features)) / load.features**0.5
        y = (x @ rule).argmax(1)
        y[: load.classes] = np.arange(load.classes)
        paths[name] = folder / f"{name}.npz"
        np.savez(paths[name], x=x, y=y)
    make_trial(folder / "certificates")
    own = {MODEL_OWNER: ["train", "test"], DATA_OWNER: ["data"], DEALER: []}
    return {role: [f"party.{name}={paths[name]}" for name in names] for role, names in own.items()}


@contextmanager
def relay_of(way: Way, folder: Path):
    """Run a relay, and yield its address and a function that ends it and returns the bytes that it has forwarded."""
    where, words = f"127.0.0.1:{free_port()}", [f"delay_ms={way.delay_ms}", f"mbit={way.mbit or 'none'}"]
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


def run_once(way: Way, load: Load, turn: int, folder: Path) -> Row:
    """Run one appraisal by influence, and return its row. RuntimeError has the words of a party that failed."""
    folder.mkdir(parents=True)
    own = write_inputs(folder, load)
    with ExitStack() as stack:
        place, end = f"session.rendezvous=tcp://127.0.0.1:{free_port()}", None
        if way.relay:
            where, end = stack.enter_context(relay_of(way, folder))
            place = f"session.relay={where}"
        common = ["session=join", place, f"session.tls={folder / 'certificates'}", "appraisal=influence", *UNGUARDED]
        began, parties = time.perf_counter(), {}
        for role in ROLES:
            words = [*common, *own[role], "model.l2=1e-2", f"session.role={role}", f"hydra.run.dir={folder / role}"]
            log = stack.enter_context(open(folder / f"{role}.log", "w"))
            parties[role] = subprocess.Popen([*APP, *words], stdout=log, stderr=log)
        try:
            codes = {role: party.wait(SECONDS) for role, party in parties.items()}
        finally:
            for party in parties.values():
                if party.poll() is None:
                    party.kill()
        wall = time.perf_counter() - began
        if any(codes.values()):
            raise RuntimeError("\n".join((folder / f"{role}.log").read_text()[-500:] for role in ROLES))
        forwarded = end() if end else None
    (record,) = read(folder / MODEL_OWNER / "records.jsonl")
    seconds = record.seconds["share"] + record.seconds["private"]
    return {
        "part": "sessions", "turn": turn, "load": load.words, "way": way.name, "delay_ms": way.delay_ms,
        "mbit": way.mbit, "seconds": seconds, "wall": wall, "bytes": sum(record.bytes_sent.values()),
        "forwarded": forwarded, "rounds": record.rounds, "value": record.value,
        "estimated": None if way.network is None else estimated(record.estimate, way.network),
    }  # fmt: skip


def estimated(foretold: dict[str, Any], network: NetworkLink) -> float:
    """Return the cost model's seconds on a network, from what a dry run foretold and its seconds on the LAN."""
    busiest = 8 * max(count for key, count in foretold.items() if key.startswith("bytes_sent."))
    work = foretold["lan_seconds"] - foretold["rounds"] * LAN.latency - busiest / LAN.bandwidth
    return foretold["rounds"] * network.latency + busiest / network.bandwidth + work


def greeting_bytes() -> int:
    """Return the most bytes that the parties and a relay exchange in one session before anything is forwarded."""
    longest = Greeting(DIAL, "0" * 64, DATA_OWNER, MODEL_OWNER, "0" * 16).line
    return CONNECTIONS * (len(longest) + len(WAIT) + 1 + len(MET) + 18)
