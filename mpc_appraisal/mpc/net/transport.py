"""The transports by name, for callers that choose a transport by `session.transport`.

`tcp` and `gloo` send in the clear, for parties on one machine or in one trust domain. `tls` encrypts and authenticates,
for parties of different organisations. In go the settings of a session; out comes a connection, by `Transport.connect`.
The checks refuse settings that the session cannot use.

A transport may be added, with a name in TRANSPORTS. A transport that does not encrypt belongs in CLEAR too, and it has
to stay that `check_clear` refuses such a transport between organisations unless the user states it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.checks import number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS
from mpc_appraisal.mpc.net.relay.greeting import parse_relay
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink

TRANSPORTS = ("tcp", "gloo", "tls")
LARGEST_SECONDS = 10**7
CLEAR = ("tcp", "gloo")  # whoever can read the network can read keys, and with them rows and weights


def check_clear(kind: str, stated: object, key: str = "session.in_the_clear") -> None:
    """Raise InputError for a transport in the clear unless `stated`, the value of the key `key`, allows it.

    The error names the key of the transport, which stands beside `key`.

    The value has to be true, false, 'yes' or 'no' in any case.
    """
    if not (isinstance(stated, bool) or stated in ("yes", "no")):
        raise InputError(key, repr(stated), "true (or yes), or false (or no)")
    if kind in CLEAR and stated not in (True, "yes"):
        statement = key if key.startswith("--") else f"{key}=true"
        raise InputError(
            key.replace("in_the_clear", "transport").replace("in-the-clear", "transport"),
            f"{kind!r} between organisations",
            f"tls, or {statement}, which states that whoever reads the network may read keys, rows and weights",
        )


def check_seconds(group: str = "session.", **stated: object) -> None:
    """Raise InputError, which names the value's key after the name of its group, unless it is seconds above 0."""
    for key, value in stated.items():
        expected = f"seconds above 0, at most {LARGEST_SECONDS}"
        number(f"{group}{key}", value, expected, above=0, most=LARGEST_SECONDS)


def check_relay(relay: object, kind: str, name: str = "session.relay") -> None:
    """Raise InputError, under the name `name`, for a relay that is none, or that the transport `kind` cannot use.

    The transports in the clear are refused on every machine, since a relay could read and change what they send.
    """
    if relay is None:
        return
    parse_relay(relay, name)
    if kind != "tls":
        raise InputError(name, repr(relay), f"session.transport=tls: a relay could read and change what {kind} sends")


@dataclass(frozen=True)
class Transport:
    """How the parties are connected.

    Attributes:
        kind: 'tcp', 'gloo' or 'tls'.
        tls: This party's own folder of certificate files; only 'tls' needs it.
        freeze_timeout: The seconds without a sign of life after which a party counts as lost.
        data_owner_address: The 'tcp://host:port' at which the dealer reaches the data owner over tls. None takes the
            address that the data owner has on the way to the model owner, at a free port.
        roles: The roles that take part, in the order of their ranks.
        relay: The 'HOST:PORT' or 'HOST:PORT/NAME' of a relay that all parties dial; only 'tls' can use one.

    Raises InputError: `kind` is unknown, `freeze_timeout` is not a number above 0, or the relay does not fit.
    """

    kind: str = "tcp"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    data_owner_address: str | None = None
    roles: tuple[str, ...] = ROLES
    relay: str | None = None

    def __post_init__(self):
        check_seconds("", freeze_timeout=self.freeze_timeout)
        one_of("transport", self.kind, TRANSPORTS)
        check_relay(self.relay, self.kind)

    def connect(self, role: str, address: str | None, timeout: float, hosted: bool = False) -> Rendezvous | TlsLink:
        """Meet the other parties at `address` and return the connection.

        The arguments and the errors are those of `Rendezvous` and `TlsLink`; `hosted` has no effect over tls.
        """
        if self.kind == "tls":
            own = self.data_owner_address
            return TlsLink(role, address, timeout, self.tls, self.freeze_timeout, own, self.roles, self.relay)
        return Rendezvous(role, address, timeout, hosted, self.freeze_timeout, self.roles)
