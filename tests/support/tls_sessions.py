"""Sessions over TLS for tests: certificates, parties in this process, and parties as processes.

`listening` starts a model owner alone, `connected` all three parties in threads, and `parties` all three as processes
of `tls_party.py`. They take a folder of certificates: the fixture `trial`, or one that `authority` has made.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from processes import HERE, MODEL_OWNER, ROLES, Processes, free_port, gone, stretched

from mpc_appraisal.mpc.net.certificates import private_bytes, sign
from mpc_appraisal.mpc.net.tls import TlsLink

WITHIN = 2.0  # seconds from a kill to the others' end
FREEZE = 3.0  # as tls_party states it


def address() -> str:
    """Return a free address for a model owner."""
    return f"tcp://127.0.0.1:{free_port()}"


def authority(folder: Path, days: dict[str, float]) -> None:
    """Make three folders of one authority, with certificates that end after so many days by role, by default 30."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    root = sign(name, key, name, key, 30)
    for role in ROLES:
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
        certificate = sign(subject, own, root.subject, key, days.get(role, 30), role)
        (folder / role).mkdir(parents=True)
        (folder / role / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
        (folder / role / f"{role}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / role / f"{role}.key").write_bytes(private_bytes(own))
        (folder / role / f"{role}.key").chmod(0o600)


def listening(folder: Path, timeout: float) -> tuple[TlsLink, str]:
    """Start a model owner that waits for others; return its link and its address."""
    where = address()
    return TlsLink(MODEL_OWNER, where, timeout, str(folder)), where


def connected(trial: Path) -> dict[str, TlsLink]:
    """Connect three parties in threads of this process and return their links by role."""
    where, links = address(), {}

    def come(role: str) -> None:
        links[role] = TlsLink(role, where, 120.0, str(trial))
        links[role].announce()

    threads = [threading.Thread(target=come, args=(role,), daemon=True) for role in reversed(ROLES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(600)
    assert set(links) == set(ROLES)
    return links


def parties(processes: Processes, trial: Path, what: str) -> dict:
    """Start three processes that do `what` of `tls_party.py`, and wait until they run; return them by role."""
    where = address()
    script = [sys.executable, str(HERE / "tls_party.py")]
    started = {role: processes.start(role, [*script, role, where, str(trial), what]) for role in reversed(ROLES)}
    for party in started.values():
        party.until("running", 60)
    return started


def assert_others_end(started: dict, victim: str) -> None:
    """Kill the victim; the others must end in time, with an error that names it."""
    started[victim].popen.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    others = {role: party for role, party in started.items() if role != victim}
    assert gone([party.popen.pid for party in others.values()], 10)
    seconds = time.monotonic() - killed
    for role, party in others.items():
        ended = party.wait(1)
        assert ended.code not in (0, None) and f"error: {victim} is gone" in ended.err, (role, ended.err)
    assert seconds < stretched(WITHIN), seconds
