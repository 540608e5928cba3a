"""The engines by name. Both give the same Session; they differ in speed, error and trust in CrypTen's generators."""

from __future__ import annotations

from mpc_appraisal.errors import InputError
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import Session
from mpc_appraisal.mpc.tls import TlsLink

ENGINES = ("fast", "stock")


def check_engine(engine: str) -> str:
    """Raises InputError for an unknown engine."""
    if engine not in ENGINES:
        raise InputError("session.engine", repr(engine), f"one of {', '.join(ENGINES)}")
    return engine


def open_session(engine: str, rendezvous: Rendezvous | TlsLink, timeout: float, transport: str = "tcp") -> Session:
    """An owner's session. CrypTen takes a moment to import, so only the engine that is used is imported."""
    if check_engine(engine) == "stock":
        from mpc_appraisal.mpc.stock import StockSession

        return StockSession(rendezvous, timeout)
    from mpc_appraisal.mpc.fast import FastSession

    return FastSession(rendezvous, timeout, transport)


def deal(engine: str, rendezvous: Rendezvous | TlsLink, timeout: float, transport: str = "tcp") -> list[int]:
    """Be the dealer of one session. Returns the bytes sent by each mark."""
    if check_engine(engine) == "stock":
        from mpc_appraisal.mpc import stock

        return stock.deal(rendezvous, timeout)
    from mpc_appraisal.mpc import fast

    return fast.deal(rendezvous, timeout, transport)
