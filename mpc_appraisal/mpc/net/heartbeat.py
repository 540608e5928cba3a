"""Heartbeats over the transports in the clear: how a party learns that another was killed or is frozen.

Each two parties share a TCP connection that carries heartbeats alone. The kernel closes the connections of a killed
process at once. A frozen process keeps its connections and falls silent. A process that computes for long still sends
heartbeats, because a thread of its own sends them. `Heartbeats` reports each loss to a function that it is given, and
also makes the connections that carry data.

On the wire, a connection starts with the listener's token (random bytes that are announced to the parties alone), the
rank of the party that dials, and the byte `LIFE` or `DATA`. Then bytes 0 are heartbeats, a byte 1 is the goodbye, and
text before the goodbye is the reason for stopping. These bytes have to stay the same at all parties; the times and
limits below may change.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import ROLES, rank_of
from mpc_appraisal.mpc.net.failure import stopped

BEAT_SECONDS = 0.5
WATCH_SECONDS = 0.1
HELLO_SECONDS = 0.5  # a party that connects sends its token at once
MOST_NEWCOMERS = 64  # connections that have not sent a token yet; one more replaces the oldest
ABORT_BYTES = 4096
TOKEN_BYTES = 16
BEAT, BYE = b"\0", b"\1"
LIFE, DATA = 0, 1  # the uses of a connection


@dataclass
class PeerConnection:
    """The connection for heartbeats with one party.

    Attributes:
        sock: The socket.
        text: What the party has sent, without heartbeats.
        silent: The seconds for which the connection was watched without a byte.
        left: True once the party has said goodbye.
        lost: True once the party is dead or frozen.
    """

    sock: socket.socket
    text: bytearray = field(default_factory=bytearray)
    silent: float = 0.0
    left: bool = False
    lost: bool = False


@dataclass
class Newcomer:
    """A connection that has not sent its whole token yet, and must send it before the deadline (monotonic clock)."""

    sock: socket.socket
    deadline: float
    hello: bytearray = field(default_factory=bytearray)


class Heartbeats:
    """One party's connections, and the thread that watches the heartbeats on them.

    Args:
        role: The role of this party.
        towards: A host. The others reach this party at the address that this machine has on the way to the host.
        freeze: The seconds without a sign of life after which a party counts as lost.
        fail: A function that is called with each loss.
        tick: A function that the thread calls about every `WATCH_SECONDS`.
    """

    def __init__(
        self, role: str, towards: str, freeze: float, fail: Callable[[PeerError], Any], tick: Callable[[], None]
    ):
        self.role, self._freeze, self._fail, self._tick = role, freeze, fail, tick
        self.connections: dict[str, PeerConnection] = {}
        self._data: dict[str, deque[socket.socket]] = {name: deque() for name in ROLES}
        self._token = os.urandom(TOKEN_BYTES)
        self._newcomers: list[Newcomer] = []
        self._listener = socket.create_server((_own_address(towards), 0))
        self._listener.setblocking(False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="heartbeats")
        self._thread.start()

    def contact(self) -> dict[str, Any]:
        """Return what the others need to connect: host, port, and token as hex digits."""
        host, port = self._listener.getsockname()[:2]
        return {"host": host, "port": port, "token": self._token.hex()}

    def dial(self, role: str, contact: dict[str, Any], use: int = LIFE, patience: float | None = None) -> socket.socket:
        """Connect to the party `role`, and return the socket.

        Args:
            contact: What that party's method `contact` has returned.
            use: LIFE for heartbeats, or DATA.
            patience: The seconds that connecting may take, at most `freeze`; None takes `freeze`.

        Raises PeerError: The party cannot be reached.
        """
        try:
            patience = min(patience or self._freeze, self._freeze)
            sock = socket.create_connection((contact["host"], contact["port"]), patience)
            sock.sendall(bytes.fromhex(contact["token"]) + bytes([rank_of(self.role), use]))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise PeerError(f"cannot reach {role} at its address: {reason}") from error
        if use == LIFE:
            self._add(role, sock)
        return sock

    def taken(self, role: str) -> socket.socket | None:
        """Return the next connection for data that `role` has made, or None if there is none."""
        return self._data[role].popleft() if self._data[role] else None

    def _add(self, role: str, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.connections[role] = PeerConnection(sock)

    def _accept(self) -> None:
        """Accept a connection. Its first bytes are read later, as they come, so that no newcomer is waited for."""
        with suppress(OSError):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._newcomers.append(Newcomer(sock, time.monotonic() + HELLO_SECONDS))
        while len(self._newcomers) > MOST_NEWCOMERS:
            self._newcomers.pop(0).sock.close()

    def _greet(self, newcomer: Newcomer) -> bool:
        """Read what a newcomer has sent, and return whether more is expected of it."""
        try:
            data = newcomer.sock.recv(TOKEN_BYTES + 2 - len(newcomer.hello))
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        newcomer.hello += data or b""
        if len(newcomer.hello) == TOKEN_BYTES + 2:
            self._admit(newcomer.sock, bytes(newcomer.hello))
            return False
        if data == b"" or time.monotonic() > newcomer.deadline:
            newcomer.sock.close()
            return False
        return True

    def _admit(self, sock: socket.socket, hello: bytes) -> None:
        """Keep the connection if its token and its role are right, and close it otherwise."""
        known = hmac.compare_digest(hello[:TOKEN_BYTES], self._token)
        role = ROLES[hello[-2]] if known and hello[-2] < len(ROLES) else self.role
        if role != self.role and hello[-1] == DATA:
            self._data[role].append(sock)
        elif role != self.role and role not in self.connections:
            self._add(role, sock)
        else:
            sock.close()

    def _watch(self) -> None:
        before = beaten = time.monotonic()
        while not self._stop.is_set():
            watched = {role: peer for role, peer in list(self.connections.items()) if not (peer.left or peer.lost)}
            poll, newcomers = select.poll(), (newcomer.sock for newcomer in self._newcomers)
            for each in (self._listener, *newcomers, *(peer.sock for peer in watched.values())):
                poll.register(each, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(WATCH_SECONDS * 1000)}
            now = time.monotonic()
            for role, peer in watched.items():
                if peer.sock.fileno() in ready:
                    self._read(role, peer)
                else:  # a pause of this process does not count as silence of the other
                    peer.silent += min(now - before, 2 * WATCH_SECONDS)
                if peer.silent > self._freeze and not peer.lost:
                    peer.lost = True
                    self._fail(PeerError(f"{role} stopped: no sign of life for {self._freeze:g} s"))
                if now - beaten >= BEAT_SECONDS:
                    with suppress(OSError):
                        peer.sock.send(BEAT)
            before, beaten = now, now if now - beaten >= BEAT_SECONDS else beaten
            if self._listener.fileno() in ready:
                self._accept()
            self._newcomers = [newcomer for newcomer in self._newcomers if self._greet(newcomer)]
            self._tick()

    def _read(self, role: str, peer: PeerConnection) -> None:
        try:
            data = peer.sock.recv(ABORT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        peer.silent = 0.0
        peer.text += data.replace(BEAT, b"")
        words, bye, _ = peer.text.partition(BYE)
        if bye:
            peer.left = True
            if words:
                self._fail(stopped(words))
        elif not data or len(peer.text) > ABORT_BYTES:
            peer.lost = True
            self._fail(PeerError(f"{role} is gone: its process ended, or the network between us"))

    def leave(self, reason: str) -> None:
        """Say goodbye to all connected parties; a `reason` that is not empty announces why this party stops."""
        for peer in list(self.connections.values()):
            with suppress(OSError):
                peer.sock.send(reason.encode().replace(BYE, b"")[: ABORT_BYTES - 1] + BYE)

    def close(self) -> None:
        """End the thread and close all connections."""
        self._stop.set()
        self._thread.join(2.0)
        newcomers = (newcomer.sock for newcomer in self._newcomers)
        for sock in (self._listener, *newcomers, *(peer.sock for peer in self.connections.values())):
            sock.close()


def _own_address(host: str) -> str:
    """Return this machine's address on the way to `host`."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # connecting sends no packet
            probe.connect((host, 9))
            return probe.getsockname()[0]
    except OSError:
        return "127.0.0.1"
