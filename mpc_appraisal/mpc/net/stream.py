"""Sending and receiving frames over TLS connections, one for each direction.

A frame is a header and a payload (see `frames`), and a peer is the party at the other end. `Outgoing` sends frames to a
peer, large frames by a thread of its own. `Incoming` reads the frames of a peer. `Peer` holds both of a connected
party. Each direction has its own connection, because two threads must not read and write one TLS connection at the same
time.

The sizes and times below may change. Sockets must never block: waits are in poll, with a deadline and a descriptor that
ends them. Frames must leave in the order of their sequence numbers.
"""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from mpc_appraisal.mpc.net.frames import HEADER, FrameError, Header, Kind, pack, unpack

BEAT_SECONDS = 0.5
INLINE_BYTES = 1 << 20  # the calling thread sends frames up to this size itself, as far as the socket takes them
JOINED_BYTES = 64 << 10  # a payload up to this size is copied behind its header and sent with it
WINDOW_BYTES = 256 << 20  # a sender that runs ahead waits once so many bytes are queued
CHUNK_BYTES = 1 << 20
TICK_SECONDS = 0.2
SPIN_SECONDS = 200e-6  # small answers mostly come within this time, in which polling is cheaper than sleeping
GONE = (OSError, ValueError)  # raised by a broken or closed TLS socket


class Woken(Exception):
    """What a wait raises that was ended by the descriptor of `Incoming.wake_by`."""


class Incoming:
    """The receiving end of one peer's frames.

    Attributes:
        lock: The lock that a thread must hold while it reads.
        heard: The time of the last byte, on the monotonic clock.
        held: The header of a frame whose payload has not been read yet, or None.
        ended: True once nothing more will come.
        key: The SHA-256 of the certificate key that the peer showed; a connection that has ended no longer tells it.
    """

    def __init__(self, sock: ssl.SSLSocket, key: str = ""):
        sock.setblocking(False)
        self.sock, self.key, self.lock = sock, key, threading.Lock()
        self.heard, self.held, self.ended = time.monotonic(), None, False
        self._bytes, self._filled, self._next = bytearray(HEADER.size), 0, 0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._wake: int | None = None

    def wake_by(self, descriptor: int) -> None:
        """Let all waits raise Woken once `descriptor` can be read."""
        self._wake = descriptor
        self._poll.register(descriptor, select.POLLIN)

    def _some(self, view: memoryview) -> int:
        """Read some bytes into `view` and return how many, 0 if there are none yet."""
        if self.ended:
            raise EOFError("nothing more comes")
        try:
            count = self.sock.recv_into(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except ssl.SSLError as error:
            self.ended = True
            raise FrameError(f"broke the encrypted connection ({error.reason})") from error
        except GONE as error:
            self.ended = True
            raise EOFError(str(error)) from error
        if count == 0:
            self.ended = True
            raise EOFError("the connection closed")
        self.heard = time.monotonic()
        return count

    def look(self) -> Header | None:
        """Return the next header if all of it has come, or else None.

        Raises EOFError at the end of the connection, and FrameError for what is not the next frame.
        """
        while self.held is None:
            count = self._some(memoryview(self._bytes)[self._filled :])
            if count == 0:
                return None
            self._filled += count
            if self._filled == HEADER.size:
                self.held = unpack(self._bytes, self._next)
                self._next, self._filled = self._next + 1, 0
        return self.held

    def _wait(self, deadline: float | None) -> None:
        left = TICK_SECONDS if deadline is None else deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        for descriptor, _ in self._poll.poll(min(left, TICK_SECONDS) * 1000):
            if descriptor == self._wake:
                raise Woken

    def header(self, deadline: float | None, spin: bool = False) -> Header:
        """Wait for the next header and return it. With `spin` the first moments of the wait are polled.

        Raises TimeoutError at the deadline (monotonic clock; None never ends), Woken, and what `look` raises.
        """
        until = time.perf_counter() + SPIN_SECONDS if spin else 0.0
        while (header := self.look()) is None:
            while time.perf_counter() < until and not self._poll.poll(0):
                os.sched_yield()  # the other party may need this core to answer
            self._wait(deadline)
        return header

    def payload(self, view: memoryview, timeout: float, deadline: float = math.inf) -> None:
        """Read the payload of the held frame into `view`.

        Raises TimeoutError after `timeout` seconds without a byte, and at the deadline; Woken, EOFError and FrameError.
        """
        got = 0
        while got < len(view):
            count = self._some(view[got:])
            if count == 0:
                self._wait(min(self.heard + timeout, deadline))
            got += count
        self.held = None

    def text(self, limit: int, timeout: float, deadline: float = math.inf) -> bytes:
        """Return the payload of the held frame, a text.

        Raises FrameError if the text is longer than `limit` bytes, and what `payload` raises.
        """
        if self.held.size > limit:
            raise FrameError(
                f"sent a {self.held.kind.name.lower()} of {self.held.size} bytes, expected at most {limit}"
            )
        data = bytearray(self.held.size)
        self.payload(memoryview(data), timeout, deadline)
        return bytes(data)

    def skip(self, timeout: float) -> None:
        """Read the payload of the held frame and discard it. Raises what `payload` raises."""
        left, scratch = self.held.size, bytearray(CHUNK_BYTES)
        while left:
            count = self._some(memoryview(scratch)[: min(left, CHUNK_BYTES)])
            if count == 0:
                self._wait(self.heard + timeout)
            left -= count
        self.held = None


class Outgoing:
    """The sending end of frames to one peer: small frames leave at once, others by a thread, as do the heartbeats.

    Attributes:
        broken: The time at which the connection was found broken, on the monotonic clock, or None.
        key: The SHA-256 of the certificate key that the peer showed.
    """

    def __init__(self, sock: ssl.SSLSocket, key: str = ""):
        sock.setblocking(False)
        self.sock, self.key, self.broken = sock, key, None
        self._queue: deque[memoryview] = deque()
        self._waiting, self._finishing, self._sequence = 0, False, 0
        self._cond = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sender")

    def start(self) -> None:
        """Start the thread, which sends heartbeats from now on."""
        self._thread.start()

    def send(
        self,
        kind: Kind,
        payload: bytes | memoryview = b"",
        dtype: torch.dtype = torch.uint8,
        shape: Sequence[int] = (),
        site: str = "",
        stop: Callable[[], object] | None = None,
    ) -> None:
        """Queue a frame, or drop it if the connection is broken. The payload must not change, since it is not copied.

        Args:
            kind: What the frame contains.
            payload: The bytes of the payload.
            dtype, shape: The type and the shape of a tensor.
            site: The line of code that sends the frame.
            stop: A function for a sender that runs ahead, as the dealer does: the call then waits while more than
                `WINDOW_BYTES` are queued, until `stop()` is true. Two parties that send to each other must not pass a
                function, or both could wait for ever.
        """
        with self._cond:
            while stop is not None and self._waiting > WINDOW_BYTES and self.broken is None and not stop():
                self._cond.wait(TICK_SECONDS)
            if self.broken is not None or self._finishing:
                return  # the reader of this peer finds out why
            header = pack(Header(kind, dtype, tuple(shape), self._sequence, len(payload), site))
            self._sequence += 1
            parts = [header + bytes(payload)] if len(payload) <= JOINED_BYTES else [header, payload]
            for view in map(memoryview, parts):
                if len(payload) <= INLINE_BYTES and not self._queue:
                    view = view[self._push(view) :]
                if len(view):
                    self._queue.append(view)
                    self._waiting += len(view)
                    self._cond.notify_all()

    def _push(self, view: memoryview) -> int:
        """Send some bytes of `view` without waiting and return how many."""
        try:
            return self.sock.send(view[:CHUNK_BYTES])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except GONE:
            self.broken = time.monotonic()
            return len(view)

    def _run(self) -> None:
        writable = select.poll()
        try:
            writable.register(self.sock, select.POLLOUT)
        except GONE:
            return
        while True:
            with self._cond:
                if not self._queue and not self._finishing:
                    self._cond.wait(BEAT_SECONDS)
                if not self._queue and not self._finishing:
                    self.send(Kind.HEARTBEAT)
                if not self._queue:
                    if self._finishing or self.broken is not None:
                        break
                    continue
                view = self._queue[0]  # it stays in the queue while it is sent, so that no frame overtakes it
            while len(view) and self.broken is None:
                count = self._push(view)
                view = view[count:]
                if count == 0:
                    writable.poll(TICK_SECONDS * 1000)
            with self._cond:
                self._waiting -= len(self._queue.popleft())
                if self.broken is not None:
                    self._queue.clear()
                    self._waiting = 0
                self._cond.notify_all()
        with suppress(*GONE):
            self.sock.shutdown(socket.SHUT_WR)

    def finish(self) -> None:
        """Let the thread send what is queued and then close this direction."""
        with self._cond:
            self._finishing = True
            self._cond.notify_all()

    def join(self, seconds: float) -> None:
        """Wait until everything is sent, at most about `seconds`, and close the socket."""
        if self._thread.is_alive():
            self._thread.join(max(seconds, 0.0))
        if self._thread.is_alive():
            self.broken = time.monotonic()
            self._thread.join(2 * TICK_SECONDS)
        self.sock.close()


@dataclass
class Peer:
    """One connected party.

    Attributes:
        incoming, outgoing: The two connections with the party.
        left: True once the party has said goodbye.
        lost: True once the party is dead or frozen.
        inbox: The messages that were read before they were asked for.
    """

    role: str
    incoming: Incoming
    outgoing: Outgoing
    left: bool = False
    lost: bool = False
    inbox: deque[tuple[Header, bytes]] = field(default_factory=deque)
