"""A party's side of a relay: it dials another party through it, or takes a seat there, at which others reach it.

`RelayWay` is how a party reaches the others and is reached by them where session.relay names a relay. Its method `open`
connects to a party, and its `source` is what a listener takes connections from. Both give plain sockets, whose bytes
the relay forwards; TLS and certificates come on top (`handshake`), so that whoever sits at the other end is found out
there. A seat may be taken by a stranger, so that an attempt that ends at a wrong certificate is made again until the
deadline.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.relay.greeting import (
    ANYONE,
    DIAL,
    LINE_BYTES,
    LISTEN,
    MET,
    SEATS,
    WAIT,
    WHY,
    Greeting,
    parse_relay,
    session_token,
)
from mpc_appraisal.mpc.net.strangers import who_answers

ANSWER_SECONDS = 5.0  # a relay answers a first line within this time
ASK_SECONDS = 0.5  # a party that has lost another asks the relay for so long why
TICK_SECONDS = 0.2


class Asked:
    """A connection to a relay on which a first line was sent, and whose answers are read."""

    def __init__(self, place: tuple[str, int], greeting: Greeting, patience: float):
        self.sock = socket.create_connection(place, patience)
        self._line = bytearray()
        self.waits = False
        self.asked = time.monotonic()
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self.sock.sendall(greeting.line)
        except BaseException:
            self.sock.close()
            raise

    def line(self, seconds: float) -> bytes | None:
        """Return the next line without its end, or None if it has not all come within `seconds`.

        Nothing behind the line is read. Raises OSError at the end of the connection.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                byte = self.sock.recv(1)
            except TimeoutError:
                return None
            if byte == b"\n":
                line, self._line = bytes(self._line), bytearray()
                return line
            if not byte or len(self._line) >= LINE_BYTES:
                raise ConnectionResetError("the relay closed the connection")
            self._line += byte
        return None


class RelayWay:
    """How one party reaches the others through a relay.

    Args:
        stated: 'HOST:PORT' or 'HOST:PORT/NAME', as session.relay states it.
        role: The role of this party.
        authority: The file of the authority's certificate.

    Attributes:
        where: The relay, for messages.
        check: A function that is called again and again in waits, and raises PeerError once the session is lost.
        several: Always True: who has a wrong certificate may be a stranger in the seat, and another one comes next.

    Raises InputError: The relay's address or the certificate is none.
    """

    several = True
    check: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, stated: str, role: str, authority: Path):
        self._met: dict[str, str] = {}  # by role, the instance of the party that was met at its seat
        self.host, self.port, name = parse_relay(stated)
        self._role, self._token = role, session_token(authority, name)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.where = f"the relay at {host}:{self.port}"
        self.address = f"tcp://{host}:{self.port}"

    def ask(self, verb: str, seat: str, patience: float, instance: str = ANYONE) -> Asked:
        """Send a first line to the relay. Raises OSError where it cannot be reached within `patience` seconds."""
        return Asked((self.host, self.port), Greeting(verb, self._token, seat, self._role, instance), patience)

    def answer(self, asked: Asked, seconds: float) -> str | None:
        """Read answers for `seconds`, and return the instance of the other end, or None if it has not come.

        Raises:
            PeerError: The relay refuses this party, or what answers is no relay.
            OSError: The connection ended, or too many others wait at the seat; another attempt may go better.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            line = asked.line(min(left, TICK_SECONDS))
            if line is None and not asked.waits and time.monotonic() - asked.asked >= ANSWER_SECONDS:
                raise PeerError(f"{self.where} does not answer as a relay{self._described()}")
            if line == WAIT:
                asked.waits = True
            elif line is not None:
                word, _, instance = line.decode("latin-1").partition(" ")
                if word != MET:
                    raise self._refusal(line.decode("latin-1"))
                return instance
        return None

    def _refusal(self, line: str) -> Exception:
        word, _, rest = line.partition(" ")
        kind, _, words = rest.partition(" ")
        if word != "refused":
            return PeerError(f"{self.where} does not answer as a relay{self._described()}")
        if kind == SEATS:
            return ConnectionRefusedError(f"{shown(words, 200)} at {self.where}")
        return PeerError(f"{self.where} refused this party: {shown(words, 200)}")

    def _described(self) -> str:
        found = who_answers(self.host, self.port)
        return "" if found is None else f": what listens there {found}"

    def open(self, peer: str, deadline: float, patience: float, again: bool = False) -> socket.socket:
        """Return a connection to whoever has the seat of `peer`, as soon as somebody takes it.

        With `again` it is a second connection to the one that was met last.

        Raises PeerError as `answer` does, TimeoutError at the deadline (monotonic clock), and OSError, after which
        another attempt may go better.
        """
        asked = self.ask(DIAL, peer, patience, self._met.get(peer, ANYONE) if again else ANYONE)
        try:
            met = self.answer(asked, max(deadline - time.monotonic(), patience))
            if met is None:
                raise TimeoutError(f"nobody took the seat of {peer}")
        except BaseException:
            asked.sock.close()
            raise
        self._met[peer] = met
        return asked.sock

    def source(self) -> RelaySeat:
        """Return this party's own seat."""
        return RelaySeat(self, self._role)

    def stranger(self, peer: str) -> str:
        """Return who it was that has shown a wrong certificate, for messages."""
        return f"whoever took the seat of {peer} at {self.where}"

    def absent(self, peer: str, timeout: float, error: Exception | None, reason: str) -> str:
        """Return what to say of a party that did not come, after an error whose reason may be empty."""
        if isinstance(error, TimeoutError) and error.args[:1] == (f"nobody took the seat of {peer}",):
            return f"{peer} did not come to {self.where} within {timeout:g} s; {ALIKE}"
        cause = reason or str(error) or type(error).__name__
        return (
            f"{peer} did not come to {self.where} within {timeout:g} s; the last attempt ended with {shown(cause, 120)}"
        )

    def why(self) -> str:
        """Return what the relay says of the end of this session, to be put after a message; mostly nothing."""
        try:
            asked = self.ask(WHY, self._role, ASK_SECONDS)
            with asked.sock:
                line = (asked.line(ASK_SECONDS) or b"").decode("latin-1")
        except OSError as error:
            return f"; {self.where} does not answer any more ({shown(error.strerror or error, 80)})"
        word, _, words = line.partition(" ")
        return f"; {self.where} ended the session: {shown(words, 200)}" if word == "why" and words else ""


ALIKE = "parties meet at a relay if all state one relay, one name of the session and the same certificates (ca.pem)"


class RelaySeat:
    """A party's own seat at a relay, from which its listener takes connections as from a socket.

    Attributes:
        port: The port of the relay.
        trouble: What went wrong with the relay last, or None.
    """

    def __init__(self, way: RelayWay, role: str):
        self._way, self._role, self.port = way, role, way.port
        self._instance = os.urandom(8).hex()
        self._asked: Asked | None = None
        self._closed = False
        self.trouble: str | None = None

    def accept(self) -> socket.socket:
        """Return the next connection.

        Raises TimeoutError where none comes within a moment, PeerError as `RelayWay.answer` does, and OSError where the
        relay cannot be reached, or after `close`.
        """
        try:
            if self._asked is None:
                self._asked = self._way.ask(LISTEN, self._role, ANSWER_SECONDS, self._instance)
            met = self._way.answer(self._asked, TICK_SECONDS)
        except (OSError, PeerError) as error:
            self._drop()
            self.trouble = f"{self._way.where}: {shown(getattr(error, 'strerror', None) or error, 120)}"
            if isinstance(error, TimeoutError):
                raise ConnectionError("the relay cannot be reached") from error
            raise
        if self._closed:
            self._drop()
            raise ConnectionAbortedError("the seat is given up")
        if met is None:
            raise TimeoutError
        sock, self._asked, self.trouble = self._asked.sock, None, None
        return sock

    def _drop(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.sock.close()

    def close(self) -> None:
        """Give up the seat. The thread that calls `accept` closes the connection."""
        self._closed = True
        asked = self._asked
        if asked is not None:
            with suppress(OSError):
                asked.sock.shutdown(socket.SHUT_RDWR)
