"""Whole appraisals over TLS: the values are those in the clear, and strangers and killed parties do no harm."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest
from processes import (
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    ROLES,
    UNGUARDED,
    Processes,
    free_port,
    problem,
    stretched,
    write_npz,
)
from tls_sessions import address, assert_others_end

from mpc_appraisal.reporting.record import read

TRAIN, TEST, SELLER = (problem(n, 64, 10, seed=k) for k, n in enumerate((150, 60, 120), start=1))


def organisations(processes: Processes, where: str, *public: str, roles=ROLES) -> dict:
    own = {MODEL_OWNER: [], DATA_OWNER: [], DEALER: []}
    files = ((MODEL_OWNER, "train", TRAIN), (MODEL_OWNER, "test", TEST), (DATA_OWNER, "data", SELLER))
    for role, name, rows in files:
        if role in roles:  # a second call must not write a file again that a started party reads
            own[role].append(f"party.{name}={write_npz(processes.folder / f'{name}.npz', *rows)}")
    common = ["session=join", f"session.rendezvous={where}", "model.l2=1e-2", *public]
    return {role: processes.app(role, *common, f"session.role={role}", *own[role]) for role in roles}


def values(folder: Path) -> list[float]:
    return [record.value for record in read(folder / MODEL_OWNER / "run" / "records.jsonl")]


def strangers(where: str) -> list[socket.socket]:
    """Connect strangers: one is silent, one sends HTTP, one sends random bytes, and one closes the connection."""
    port, met = int(where.rsplit(":", 1)[1]), []
    for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(4096), None):
        s = socket.create_connection(("127.0.0.1", port), 5)
        if said is None:
            s.close()
        else:
            s.sendall(said)
            met.append(s)
    return met


def until_listening(where: str) -> None:
    deadline = time.monotonic() + stretched(60)
    while True:
        try:
            return socket.create_connection(("127.0.0.1", int(where.rsplit(":", 1)[1])), 5).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_an_appraisal_over_tls_is_the_one_in_the_clear_and_strangers_do_not_disturb_it(tmp_path, trial):
    found = {}
    for transport in ("gloo", "tls"):
        own = [f"session.transport={transport}", "appraisal=all", "appraisal.finetuning.steps=2"]
        own += [f"session.tls={trial}"] if transport == "tls" else []
        with Processes(tmp_path / transport) as processes:
            where = address()
            first = (DEALER, MODEL_OWNER) if transport == "tls" else ROLES
            started, met = organisations(processes, where, *own, roles=first), []
            if transport == "tls":
                until_listening(where)
                met = strangers(where)
                started |= organisations(processes, where, *own, roles=(DATA_OWNER,))
                met += strangers(where)
            ended = {role: party.wait(120) for role, party in started.items()}
            assert {end.code for end in ended.values()} == {0}, {role: end.err[-500:] for role, end in ended.items()}
            for s in met:
                s.close()
            found[transport] = values(processes.folder)
            assert str(trial) not in (processes.folder / MODEL_OWNER / "run" / "records.jsonl").read_text()
    assert len(found["tls"]) == 3
    for ours, clear in zip(found["tls"], found["gloo"], strict=True):
        assert abs(ours - clear) <= 1e-3 * max(1.0, abs(clear))


def test_torchrun_and_spawn_too(processes, trial):
    root = processes.folder
    files = [f"party.train={write_npz(root / 'train.npz', *TRAIN)}", f"party.data={write_npz(root / 's.npz', *SELLER)}"]
    common = ["session.transport=tls", f"session.tls={trial}", "appraisal=gradient_norm"]
    spawned = processes.app(MODEL_OWNER, *common, *files, "session=spawn").wait(90)
    assert spawned.code == 0, spawned.err[-2000:]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--master-addr=127.0.0.1"]
    job = [
        f"--master-port={free_port()}",
        "-m",
        "mpc_appraisal.cli.app",
        "session=join",
        f"session.rendezvous={address()}",
    ]
    ended = processes.start(
        "torchrun", [*launcher, *job, *common, *files, *UNGUARDED, f"hydra.run.dir={root / 'run'}"]
    ).wait(120)
    assert ended.code == 0, ended.err[-2000:]
    (joined,) = read(root / "run" / MODEL_OWNER / "records.jsonl")
    (value,) = (r.value for r in read(root / MODEL_OWNER / "run" / "records.jsonl") if r.method == "gradient_norm")
    assert abs(joined.value - value) <= 1e-3 * abs(value)


@pytest.mark.parametrize("victim", ROLES)
def test_a_party_killed_half_way_is_named_by_the_others_within_seconds(victim, processes, trial):
    steps = ["appraisal=all", "appraisal.finetuning.steps=1000"]  # seconds
    public = ["session.transport=tls", f"session.tls={trial}", *steps]
    started = organisations(processes, address(), *public)
    started[MODEL_OWNER].until("[1/3]", 90)  # the first method is done, fine-tuning is under way
    assert_others_end(started, victim)
