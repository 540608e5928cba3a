"""Two organisations with their files and ledgers on one machine, and their sessions, which are real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from processes import (
    APP,
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    ROLES,
    Ended,
    Process,
    Processes,
    free_port,
    problem,
    stretched,
    write_csv,
    write_npz,
)

from mpc_appraisal import Dataset
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.methods import Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.record import Record, read

TRAIN, TEST, OTHER_TRAIN = (problem(n, seed=k) for k, n in enumerate((60, 40, 60), start=1))
SELLER, SECOND, THIRD = problem(120, seed=11), problem(130, seed=12), problem(125, seed=13)
WAITS = re.compile(r"request ([0-9a-f]{12}) waits for a yes: mpc-appraisal approval yes \1 in=(\S+) ")
OWNERS = (MODEL_OWNER, DATA_OWNER)


def value_of(candidate, train=TRAIN) -> float:
    """The oracle: influence in float64, in the clear."""
    sets = [Dataset.of(*xy, classes=3, name="set") for xy in (train, TEST, candidate)]
    return plaintext(Influence(), fit(sets[0], 1e-2), *sets)[0]


def close(value: float, expected: float) -> bool:
    return abs(value - expected) <= 1e-3 * abs(expected) + 2e-4


class Market:
    """Both sides' files under one folder, and sessions about them. By default each side keeps a ledger and the model
    owner a salt; the data owner is asked."""

    def __init__(self, processes: Processes, name: str, **candidates):
        self.processes, self.root, self.desk = processes, processes.folder / name, processes.folder / name / "desk"
        self.name, self.sessions = name, 0
        self.train = write_npz(self.root / "buyer" / "train.npz", *TRAIN)
        self.test = write_npz(self.root / "buyer" / "test.npz", *TEST)
        self.files = {each: write_csv(self.root / "seller" / f"{each}.csv", *xy) for each, xy in candidates.items()}

    def start(self, *public: str, port: int | None = None, **own: list[str]) -> Session:
        """own: by role, overrides beside the defaults of a role, or in their place."""
        self.sessions += 1
        place = f"{self.name}/{self.sessions}"
        files = ",".join(map(str, self.files.values()))
        default = {
            MODEL_OWNER: {"party.train": self.train, "party.test": self.test, "party.salt": "null"},
            DATA_OWNER: {"party.data": f"[{files}]", "party.approval": "ask", "party.requests": self.desk},
            DEALER: {},
        }
        port = port or free_port()
        stated = {
            "session": "join",
            "session.rendezvous": f"tcp://127.0.0.1:{port}",
            "session.join_timeout": 60,
            "session.freeze_timeout": 60,  # a party that a test froze is not the one that is lost
            "appraisal": "influence",
            "model.l2": "1e-2",
        } | dict(each.split("=", 1) for each in public)
        started = {}
        for role in ROLES:
            party = {"session.role": role, "party.ledger": "null", **default[role]}
            party |= dict(each.split("=", 1) for each in own.get(role, ()))
            overrides = [f"{key}={value}" for key, value in (stated | party).items()]
            started[role] = self.processes.app(f"{place}/{role}", *overrides)
        return Session(started, self.root / str(self.sessions), port)

    def ledger(self, name: str | None = None) -> Path:
        """Of a candidate; without a name, of the model."""
        file = self.train if name is None else self.files[name]
        return file.with_name(f"{file.name}.ledger")

    def ledgers(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.root.glob("*/*.ledger"))}

    def entries(self, name: str | None = None, kind: str = "charge") -> list[dict]:
        lines = map(json.loads, self.ledger(name).read_text().splitlines())
        return [line for line in lines if line["kind"] == kind]

    def charged(self) -> dict[str, int]:
        """Charges in each ledger that was made."""
        found = {path.name: path.read_text().count('"kind":"charge"') for path in self.root.glob("*/*.ledger")}
        assert found, "no ledger was made"
        return found


class CertifiedMarket(Market):
    """A market whose parties show certificates, over TLS."""

    def start(self, *public: str, **own: list[str]) -> Session:
        folder = self.root / "certificates"
        if not folder.exists():
            COMMANDS["certificates"]([str(folder)])
        parties = {role: [*own.pop(role, ()), f"session.tls={folder}/{role}"] for role in ROLES}
        return super().start("session.transport=tls", *public, **parties, **own)


class Session:
    """Three processes, started."""

    def __init__(self, started: dict[str, Process], root: Path, port: int):
        self.started, self.root, self.port = started, root, port

    def __getitem__(self, role: str) -> Process:
        return self.started[role]

    def asked(self) -> str:
        """The id of the request that the data owner is told to answer."""
        self[DATA_OWNER].until(" waits for a yes: ", 90)
        return WAITS.search(self[DATA_OWNER].err)[1]

    def await_notes(self, *notes: str) -> dist.Store:
        """Wait until these notes lie at the rendezvous; returns it."""
        deadline, patience = time.monotonic() + stretched(60), timedelta(seconds=300)
        store = dist.TCPStore("127.0.0.1", self.port, None, False, patience, wait_for_workers=False)
        while not store.check([f"note/{note}" for note in notes]):
            assert time.monotonic() < deadline, (notes, [process.err[-500:] for process in self.started.values()])
            time.sleep(0.02)
        return store

    def charge_and_stop(self, desk: Path, topic: str = "charged") -> dist.Store:
        """Say yes, and let the session come no further than both owners' notes on a topic, which they leave once their
        ledgers are charged: the dealer is frozen."""
        id = self.asked()
        self.await_notes(f"approval/{DEALER}")
        os.killpg(self[DEALER].popen.pid, signal.SIGSTOP)
        RequestQueue(desk).say(id, True)
        return self.await_notes(*(f"{topic}/{role}" for role in OWNERS))

    def kill(self, role: str) -> dict[str, Ended]:
        """kill -9; the others have to end by themselves within seconds, with an error that names it."""
        start = time.monotonic()
        self[role].kill()
        os.killpg(self[DEALER].popen.pid, signal.SIGCONT)
        ended = {each: self[each].wait(30) for each in ROLES if each != role}
        seconds = time.monotonic() - start
        assert seconds < stretched(6), seconds
        for each in ended.values():
            assert each.code == 2 and role in each.err.split("error: ")[1], each.err[-1500:]
        return ended

    def end(self, code: int = 0) -> dict[str, Ended]:
        """All three end with this status."""
        ended = {role: process.wait(120) for role, process in self.started.items()}
        assert {each.code for each in ended.values()} == {code}, {r: (e.code, e.err[-1500:]) for r, e in ended.items()}
        return ended

    def run(self, role: str) -> Path:
        return self.root / role / "run"

    def records(self, role: str) -> list[Record]:
        return read(self.run(role) / "records.jsonl")

    def error(self, role: str) -> str:
        """Its error message alone."""
        return self[role].err.split("error: ", 1)[1]

    def without_records(self) -> bool:
        return not [*self.root.rglob("records.jsonl"), *self.root.rglob("card-*")]

    def written(self, role: str) -> bytes:
        """All that the session left with this party, its console included."""
        return b"\n".join(path.read_bytes() for path in self.root.joinpath(role).rglob("*") if path.is_file())


def commands(market: Market, **arguments: list[str]) -> list[str]:
    """Other programs of the same owner, on the command line, by a name each; what they print."""
    started = [
        market.processes.start(f"{market.name}/{name}", [*APP, *map(str, stated)]) for name, stated in arguments.items()
    ]
    ended = [process.wait(60) for process in started]
    assert all(each.code == 0 for each in ended), ended
    return [each.out for each in ended]
