"""How a party reaches another one directly: it dials the other's address, or listens at its own.

`StraightWay` opens connections to an address, and `BoundSocket` is what a listener takes connections from. A relay
offers the same in `relay.client`: `RelayWay` and `RelaySeat`. A way to reach parties may be added. Both ends of every
way give plain sockets; TLS and the check of certificates come on top, in `handshake`.
"""

from __future__ import annotations

import socket

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.rendezvous import parse_address
from mpc_appraisal.mpc.net.strangers import cannot_listen, who_answers

BACKLOG = 32
TICK_SECONDS = 0.2


def address_of(host: str, port: int) -> str:
    """Return 'tcp://host:port', with an IPv6 host in brackets."""
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class StraightWay:
    """The way to a party that listens at an address.

    Attributes:
        where: The address, 'tcp://host:port'.
        several: Always False: nobody else will answer at the address on another attempt.
    """

    several = False

    def __init__(self, address: str):
        self.where, self._place = address, parse_address(address)

    def open(self, peer: str, deadline: float, patience: float, again: bool = False) -> socket.socket:
        """Return a connection to the party, or raise OSError after `patience` seconds.

        The deadline and `again` have no effect; see `RelayWay`.
        """
        return socket.create_connection(self._place, patience)

    def stranger(self, peer: str) -> str:
        """Return who it was that has shown a wrong certificate, for messages."""
        return f"the listener at {self.where}"

    def absent(self, peer: str, timeout: float, error: Exception, reason: str) -> str:
        """Return what to say of a party that did not come, after an error whose reason may be empty."""
        message = f"{peer} did not come: no party answered at {self.where} within {timeout:g} s"
        if not isinstance(error, ConnectionRefusedError):
            cause = reason or str(error) or type(error).__name__
            message += f"; the last attempt ended with {shown(cause, 120)}"
        host, port = self._place
        if (found := who_answers(host, port)) is not None:
            message += f"; {host}:{port} {found}; it is not the {peer} of an appraisal over tls"
        return message


class BoundSocket:
    """A socket that listens at an address, from which a listener takes connections.

    Args:
        host, port: The address. Port 0 chooses a free port.
        name: The configuration key of the address, for error messages.

    Attributes:
        port: The port.
        trouble: Always None: once it listens, nothing goes wrong with it.

    Raises InputError: Nothing can listen at the address.
    """

    trouble = None

    def __init__(self, host: str, port: int, name: str):
        self._socket = bind(host, port, name)
        self._socket.settimeout(TICK_SECONDS)
        self.port = self._socket.getsockname()[1]

    def accept(self) -> socket.socket:
        """Return the next connection. Raises TimeoutError after a moment, and OSError once it is closed."""
        return self._socket.accept()[0]

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def bind(host: str, port: int, name: str) -> socket.socket:
    """Return a socket that listens at `host`, or at all of this machine's addresses if it cannot listen at `host`.

    Raises InputError, which names the key `name`, if nothing can listen there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(
            name, address_of(host, port), f"an address of this machine to listen on ({error.strerror})"
        ) from error
    try:
        return socket.create_server(found[4][:2], family=found[0], backlog=BACKLOG)
    except OSError:
        try:
            return socket.create_server(("", port), family=socket.AF_INET, backlog=BACKLOG)
        except OSError as error:
            raise cannot_listen(name, address_of(host, port), host, port, error) from error
