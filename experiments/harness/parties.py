"""Parties as processes of one machine: how a study launches them, how they meet, and when they start."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpc_appraisal.common.roles import OWNERS, ROLES
from mpc_appraisal.mpc.backends.registry import open_session
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import Session

LEAD_SECONDS = 0.1
TIMEOUT = 300.0


def launch_parties(function: Callable[..., Any], jobs: dict[str, dict[str, Any]] | None = None, **common: Any) -> dict:
    """Run `function(role, address, emit, folder, **job)` in one new process for each role, and return what each found.

    `jobs` has the arguments that belong to one role; `common` has those that all roles share.
    """
    own = jobs or {role: {} for role in ROLES}
    return launch(function, {role: common | mine for role, mine in own.items()}, lambda event: None)


@contextmanager
def meeting(role: str, address: str, timeout: float = TIMEOUT) -> Iterator[Rendezvous]:
    """Meet the other parties; at the end, wait until all of them are done, and then leave."""
    rendezvous = Rendezvous(role, address, timeout, hosted=True)
    rendezvous.announce()
    yield rendezvous
    rendezvous.exchange("done", {})
    rendezvous.close()


def start_together(rendezvous: Rendezvous, name: str, roles: Sequence[str] = OWNERS) -> None:
    """Return at the same moment in the processes of all `roles`."""
    store, keys = rendezvous.store, [f"{name}/{role}" for role in roles]
    store.set(f"{name}/{rendezvous.role}", str(time.monotonic() + LEAD_SECONDS))
    while not store.check(keys):
        time.sleep(0.005)
    start = max(float(store.get(key)) for key in keys)
    time.sleep(max(0.0, start - time.monotonic() - 0.002))
    while time.monotonic() < start:
        pass


def run_session(
    rendezvous: Rendezvous, engine: str, program: Callable[..., Any], timeout: float = TIMEOUT, **sides: Any
) -> tuple[float, int, int, Any]:
    """Do one owner's session, after a dry run of it; return seconds, bytes, rounds and what `program` returns."""
    session = open_session(engine, rendezvous, timeout)
    before, start = session.meter.cost(), time.perf_counter()

    def marked(session: Session, **sides: Any) -> Any:
        found = program(session, **sides)
        session.mark()
        return found

    session.prepare(marked)
    found = marked(session, **sides)
    seconds, spent = time.perf_counter() - start, session.meter.cost() - before
    session.close()
    return seconds, spent.bytes_sent, spent.rounds, found


def machine() -> str:
    """Return the CPU's model and the number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


def peak_bytes() -> int:
    """Return the largest resident memory of this process so far.

    The number comes from /proc if there is one, because `getrusage` counts memory that a new process inherits from the
    process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
