"""The secure-computation engines by name, for callers that choose an engine by `session.engine`.

    fast   additive shares modulo 2^64 and AES streams; nobody sees a value
    stock  CrypTen as shipped; its generators are not cryptographic
    rtas   `fast` with a helper that computes softmax and activations on permuted values, which the helper sees

In goes a name; out come an owner's session, a dry session (on shapes alone), the dealer, or words on what has to be
trusted. The three engines give the same `Session`; they differ in speed, error and trust. A new engine gets a file in
this folder, a name in `ENGINES` and a branch in the functions below. The names have to stay: configurations, requests
and records contain them.
"""

from __future__ import annotations

import sys
from typing import Any

from mpc_appraisal.common import roles
from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import INTEGRITY, OFF, ON
from mpc_appraisal.mpc.backends import fast, rtas
from mpc_appraisal.mpc.backends.fast import DrySession, FastSession
from mpc_appraisal.mpc.backends.rtas import RtasDrySession, RtasSession
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.session import Session

ENGINES = ("fast", "stock", rtas.NAME)


def check_engine(engine: str) -> str:
    """Return `engine`. Raises InputError for a name that is not in ENGINES."""
    one_of("session.engine", engine, ENGINES)
    return engine


def open_session(
    engine: str, rendezvous: Rendezvous | TlsLink, timeout: float, transport: str = "tcp", integrity: bool = False
) -> Session:
    """Open an owner's session on the engine.

    CrypTen takes a moment to import, so the engine `stock` is imported only where it is used.

    Args:
        engine: A name of ENGINES.
        rendezvous: The connection to the other parties.
        timeout: The seconds that one message may take.
        transport: The transport by which the rendezvous was made; `stock` always uses gloo.
        integrity: Whether the owners' messages are checked before a result is opened, which `fast` alone can do.

    Raises InputError: The engine is unknown, or cannot check messages.
    """
    _check_integrity(engine, integrity)
    if check_engine(engine) == "stock":
        from mpc_appraisal.mpc.backends.stock import StockSession

        return StockSession(rendezvous, timeout)
    if engine == rtas.NAME:
        return RtasSession(rendezvous, timeout, transport)
    return FastSession(rendezvous, timeout, transport, integrity)


def _check_integrity(engine: str, integrity: bool) -> None:
    if integrity and engine != "fast":
        raise InputError(INTEGRITY, f"{ON} with session.engine={engine}", f"{OFF}, or session.engine=fast")


def dry_session(engine: str, role: str, integrity: bool = False) -> DrySession:
    """Return a session of the owner `role` on shapes alone, with checks of messages or without them.

    Raises InputError for an engine that cannot be run dry, or that cannot check messages.
    """
    _check_integrity(engine, integrity)
    if check_engine(engine) == "stock":
        raise InputError("session.engine", repr(engine), "fast or rtas: other engines cannot be run dry")
    return RtasDrySession(role) if engine == rtas.NAME else DrySession(role, integrity)


def bounded(engine: str) -> bool:
    """Return whether the engine's softmax needs a public bound on logits."""
    return engine == "fast"


def trust_of(engine: str, integrity: bool = False, relay: bool = False) -> str:
    """Return what must be trusted where this engine computes, and what the engine leaks if it leaks anything.

    integrity: Whether both owners check all of each other's messages. Raises InputError where the engine cannot.
    relay: Whether the parties meet at a relay, of which the last sentences say what it learns.
    """
    _check_integrity(engine, integrity)
    if relay:
        return f"{trust_of(engine, integrity)} {roles.RELAY_TRUST}"
    if integrity:
        return roles.TRUST_CHECKED
    if engine == "stock":
        return roles.STOCK_TRUST
    return f"{rtas.TRUST} {rtas.LEAKAGE}" if engine == rtas.NAME else roles.TRUST


def stated_protocol(engine: str, transport: str, integrity: bool, relay: bool = False) -> dict[str, str]:
    """Return how a value is computed and what must be trusted, as a request states it.

    Without a check of messages none is stated, as in requests of earlier versions, and the same holds for a relay.
    """
    stated = {"engine": engine, "transport": transport} | ({"integrity": ON} if integrity else {})
    return stated | ({"relay": ON} if relay else {}) | {"trust": trust_of(engine, integrity, relay)}


def warn(engine: str) -> None:
    """Print what the engine leaks to standard error, before anything is shared. Prints nothing if it leaks nothing."""
    if engine == rtas.NAME:
        print(f"warning: engine {rtas.NAME}: {rtas.LEAKAGE}", file=sys.stderr, flush=True)


def deal(
    engine: str,
    rendezvous: Rendezvous | TlsLink,
    timeout: float,
    transport: str = "tcp",
    script: list[Any] | None = None,
    integrity: bool = False,
) -> list[int]:
    """Be the dealer of one session until it ends.

    Args:
        engine: A name of ENGINES.
        rendezvous: The connection to the owners.
        timeout: The seconds that one message may take.
        transport: The transport by which the rendezvous was made.
        script: The requests of the dealer's own dry run, or None if it made no dry run; see `fast.deal`.
        integrity: Whether the owners' messages are checked.

    Returns the bytes that the dealer had sent at each mark.
    """
    if check_engine(engine) == "stock":
        from mpc_appraisal.mpc.backends import stock

        return stock.deal(rendezvous, timeout)
    helper = engine == rtas.NAME
    return fast.deal(rendezvous, timeout, transport, helper=helper, script=script, integrity=integrity)
