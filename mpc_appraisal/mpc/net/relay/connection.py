"""One party's connection at a relay: its first line, the wait for its other end, and then the bytes of a link.

A `Connection` is a protocol of asyncio. It is a newcomer until its first line has come, waits in its session until
another connection is paired with it, and forwards bytes from then on. `Owner` is what it asks of the relay, which
decides. A link ends once both directions have ended. What a newcomer sends must never be held beyond its first line.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from mpc_appraisal.mpc.net.relay.flow import Flow
from mpc_appraisal.mpc.net.relay.greeting import KINDS, LINE_BYTES, MET, WAIT, Greeting
from mpc_appraisal.mpc.net.relay.limits import BUFFER_BYTES, CHUNK_BYTES, GREETING_SECONDS, SMALL_BYTES, Limits


class Owner(Protocol):
    """What a connection asks of its relay."""

    limits: Limits

    def came(self, connection: Connection) -> None:
        """Count a newcomer."""

    def greeted(self, connection: Connection, greeting: Greeting | None) -> None:
        """Decide on a newcomer by its first line; None stands for a line that is no greeting."""

    def moved(self, connection: Connection, count: int) -> None:
        """Count bytes that a linked connection has sent."""

    def gone(self, connection: Connection) -> None:
        """Forget a connection that is closed."""


class Connection(asyncio.BufferedProtocol):
    """One party's connection.

    Attributes:
        address: The host and the port that it came from, as a text.
        greeting: Its first line, or None before this has come.
        other: The connection that it is linked with, or None.
        flow: The direction from this connection to the other.
        heard: When a byte came last, on the loop's clock.
    """

    def __init__(self, relay: Owner):
        self._relay, self._loop = relay, asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(LINE_BYTES))
        self._line = bytearray()
        self.greeting: Greeting | None = None
        self.other: Connection | None = None
        self.flow: Flow | None = None
        self.address, self.heard, self.came = "nowhere", self._loop.time(), self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """Return what the log calls it: the role that it claims, and its address."""
        return f"{self.greeting.role} at {self.address}" if self.greeting else self.address

    # -- what asyncio calls ------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        host, port = (transport.get_extra_info("peername") or ("nowhere", 0))[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self._timer = self._loop.call_later(GREETING_SECONDS, self.greet, None)
        self._relay.came(self)

    def get_buffer(self, hint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self.heard = self._loop.time()
        if self.flow is not None:
            self.flow.forward(bytes(self._buffer[:count]))
            self._relay.moved(self, count)
        elif self.greeting is not None:
            self.transport.close()  # it must be silent while it waits
        else:
            self._line += self._buffer[:count]
            line, end, rest = self._line.partition(b"\n")
            if end or len(self._line) >= LINE_BYTES:
                self.greet(None if rest or not end else Greeting.read(bytes(line)))

    def greet(self, greeting: Greeting | None) -> None:
        """Hand the first line on; None stands for a line that is none, or that did not come in time."""
        self._timer.cancel()
        self.greeting = greeting
        if not self.transport.is_closing():
            self._relay.greeted(self, greeting)

    def eof_received(self) -> bool:
        if self.flow is None:
            return False
        self.flow.end()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.flow.hold("sink")

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.flow.release("sink")

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        if self.flow is not None:
            self.flow.end(lost=True)
        self._relay.gone(self)

    # -- what the relay calls ----------------------------------------------------------------------------------------
    def wait(self) -> None:
        """Tell the party that it waits for its other end."""
        self.transport.write(WAIT + b"\n")
        self.heard = self._loop.time()

    def link(self, other: Connection, flow: Flow) -> None:
        """Forward from now on what comes, by `flow`, and tell the party so."""
        self.other, self.flow, self.heard = other, flow, self._loop.time()
        self._buffer = memoryview(bytearray(CHUNK_BYTES if self._relay.limits.mbit is None else SMALL_BYTES))
        self.transport.write(f"{MET} {other.greeting.instance}\n".encode("ascii"))

    def refuse(self, kind: str, words: str) -> None:
        """Tell the party why it is refused, and close its connection."""
        assert kind in KINDS
        self.say(f"refused {kind} {words}")

    def say(self, text: str) -> None:
        """Send a last line and close the connection."""
        self.transport.write(text.encode("ascii", "replace")[: LINE_BYTES - 1] + b"\n")
        self.transport.close()
