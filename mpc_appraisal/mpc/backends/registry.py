"""The engines by name. All give the same Session; they differ in speed, error and trust.

`fast`: nobody sees a value. `stock`: CrypTen as shipped; its generators are not cryptographic. `rtas`: the dealer sees
permuted values, see `helped`.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.backends import fast, rtas
from mpc_appraisal.mpc.backends.fast import DrySession, FastSession
from mpc_appraisal.mpc.backends.rtas import RtasDrySession, RtasSession
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.session import Session

ENGINES = ("fast", "stock", rtas.NAME)


def check_engine(engine: str) -> str:
    """Raises InputError for an unknown engine."""
    one_of("session.engine", engine, ENGINES)
    return engine


def open_session(engine: str, rendezvous: Rendezvous | TlsLink, timeout: float, transport: str = "tcp") -> Session:
    """An owner's session. CrypTen takes a moment to import, so `stock` is imported where it is used."""
    if check_engine(engine) == "stock":
        from mpc_appraisal.mpc.backends.stock import StockSession

        return StockSession(rendezvous, timeout)
    return (RtasSession if engine == rtas.NAME else FastSession)(rendezvous, timeout, transport)


def dry_session(engine: str, role: str) -> DrySession:
    """One owner's dry run. Raises InputError for an engine that cannot be run dry."""
    if check_engine(engine) == "stock":
        raise InputError("session.engine", repr(engine), "fast or rtas: other engines cannot be run dry")
    return (RtasDrySession if engine == rtas.NAME else DrySession)(role)


def bounded(engine: str) -> bool:
    """Whether the engine's softmax needs a public bound on logits."""
    return engine == "fast"


def deal(
    engine: str,
    rendezvous: Rendezvous | TlsLink,
    timeout: float,
    transport: str = "tcp",
    script: list[Any] | None = None,
) -> list[int]:
    """Be the dealer of one session. Returns the bytes sent by each mark. script: of the dealer's own dry run, if any;
    see `fast.deal`."""
    if check_engine(engine) == "stock":
        from mpc_appraisal.mpc.backends import stock

        return stock.deal(rendezvous, timeout)
    return fast.deal(rendezvous, timeout, transport, helper=engine == rtas.NAME, script=script)
