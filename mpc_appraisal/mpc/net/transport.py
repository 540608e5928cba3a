"""The transports: `tcp` and `gloo` in the clear, for one machine or one trust domain; `tls` between strangers."""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.checks import number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink

TRANSPORTS = ("tcp", "gloo", "tls")
LARGEST_SECONDS = 10**7

CLEAR = ("tcp", "gloo")  # whoever can read the network reads keys, and with them rows and weights


def check_clear(kind: str, stated: object, key: str = "session.in_the_clear") -> None:
    """Raises InputError for a transport in the clear between organisations, unless `stated` is True or 'yes'."""
    if not (isinstance(stated, bool) or stated in ("yes", "no")):
        raise InputError(key, repr(stated), "true (or yes), or false (or no)")
    if kind in CLEAR and stated not in (True, "yes"):
        said = key if key.startswith("--") else f"{key}=true"
        raise InputError(
            "session.transport",
            f"{kind!r} between organisations",
            f"tls, or {said}, which states that who can read the network may read keys, rows and weights",
        )


def check_seconds(**stated: object) -> None:
    """Raises InputError, as session.KEY, for what is no number of seconds above 0."""
    for key, value in stated.items():
        expected = f"seconds above 0, at most {LARGEST_SECONDS}"
        number(f"session.{key}", value, expected, above=0, most=LARGEST_SECONDS)


@dataclass(frozen=True)
class Transport:
    """How the parties are connected.

    Attributes:
        kind: 'tcp', 'gloo' or 'tls'.
        tls: this party's own folder of certificate files.
        freeze_timeout: seconds without a sign of life after which a party is taken for lost.
        data_owner_address: 'tcp://host:port' where the dealer reaches the data owner (tls); None: found out.
    """

    kind: str = "tcp"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    data_owner_address: str | None = None

    def __post_init__(self):
        check_seconds(freeze_timeout=self.freeze_timeout)
        one_of("session.transport", self.kind, TRANSPORTS)

    def check_engine(self, engine: str) -> None:
        """Raises InputError for an engine that cannot use this transport: CrypTen's own knows gloo alone."""
        if engine == "stock" and self.kind == "tls":
            raise InputError("session.transport", repr(self.kind), "gloo with session.engine=stock")

    def connect(self, role: str, address: str | None, timeout: float, hosted: bool = False) -> Rendezvous | TlsLink:
        """Meet the other parties at `address`; see `Rendezvous` and `TlsLink`."""
        if self.kind == "tls":
            return TlsLink(role, address, timeout, self.tls, self.freeze_timeout, self.data_owner_address)
        return Rendezvous(role, address, timeout, hosted, self.freeze_timeout)
