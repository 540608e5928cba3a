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

    Raises InputError: `kind` is unknown, or `freeze_timeout` is not a number above 0.
    """

    kind: str = "tcp"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    data_owner_address: str | None = None
    roles: tuple[str, ...] = ROLES

    def __post_init__(self):
        check_seconds("", freeze_timeout=self.freeze_timeout)
        one_of("transport", self.kind, TRANSPORTS)

    def connect(self, role: str, address: str | None, timeout: float, hosted: bool = False) -> Rendezvous | TlsLink:
        """Meet the other parties at `address` and return the connection.

        The arguments and the errors are those of `Rendezvous` and `TlsLink`; `hosted` has no effect over tls.
        """
        if self.kind == "tls":
            return TlsLink(role, address, timeout, self.tls, self.freeze_timeout, self.data_owner_address, self.roles)
        return Rendezvous(role, address, timeout, hosted, self.freeze_timeout, self.roles)
