"""Sessions through a relay for tests: a relay as a process, parties in this process, and parties as processes."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from processes import APP, HERE, ROLES, Process, Processes, free_port

from mpc_appraisal.mpc.net.tls import TlsLink


def relay(processes: Processes, *words: str, name: str = "relay") -> tuple[Process, str]:
    """Start a relay, wait until it listens, and return it with its address."""
    where = f"127.0.0.1:{free_port()}"
    started = processes.start(name, [*APP, "relay", f"listen={where}", *words])
    started.until("the relay listens at")
    return started, where


def bad_relay(processes: Processes, fault: str) -> tuple[Process, str]:
    """Start a relay that does `fault` of `bad_relay.py`, and return it with its address."""
    where = f"127.0.0.1:{free_port()}"
    started = processes.start("relay", [sys.executable, str(HERE / "bad_relay.py"), where, fault])
    started.until("the relay listens at")
    return started, where


def parties_at(
    processes: Processes, where: str, trial: Path, what: str, until: str | None = "running", freeze: float = 60
) -> dict:
    """Start three processes that do `what` of `tls_party.py` through the relay at `where`; return them by role.

    freeze: The seconds of silence after which a party counts as lost, many unless a test is about silence.
    """
    script = [sys.executable, str(HERE / "tls_party.py")]
    words = {role: [role, f"relay={where}", str(trial), what, "tls", str(freeze)] for role in ROLES}
    started = {role: processes.start(role, [*script, *words[role]]) for role in ROLES}
    for party in started.values():
        if until:
            party.until(until)
    return started


def met(where: str, trial: Path, timeout: float = 120.0) -> dict[str, TlsLink]:
    """Connect three parties in threads of this process through the relay at `where`, and return their links by role."""
    links: dict[str, TlsLink] = {}

    def come(role: str) -> None:
        link = TlsLink(role, None, timeout, str(trial), relay=where)
        link.announce()
        links[role] = link

    threads = [threading.Thread(target=come, args=(role,), daemon=True) for role in ROLES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert set(links) == set(ROLES)
    return links
