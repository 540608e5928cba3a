"""One direction of a connection: frames out of a queue by a thread of its own, frames in by whoever asks.

Each direction is a TCP connection of its own, because one TLS connection must not be read and written by two threads at
once. Sockets never block: what waits, waits in poll, with an end and a way to be woken.
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

import torch

from mpc_appraisal.mpc.net.frames import HEADER, FrameError, Header, Kind, pack, unpack

BEAT_SECONDS = 0.5
INLINE_BYTES = 1 << 20  # what of a message up to this size the socket takes at once, the calling thread sends itself
JOINED_BYTES = 64 << 10  # up to this size a message is copied behind its header and sent as one
WINDOW_BYTES = 256 << 20  # what may wait to be sent before a sender that runs ahead waits for the receiver
CHUNK_BYTES = 1 << 20
TICK_SECONDS = 0.2
SPIN_SECONDS = 200e-6  # a small answer mostly comes within this: cheaper than to be put to sleep and woken
GONE = (OSError, ValueError)  # what a broken or closed TLS socket raises


class Woken(Exception):
    """The wait was ended from outside."""


class Incoming:
    """Frames from one peer. Whoever reads holds `lock`.

    Attributes:
        heard: when the last byte came.
        held: a header that was read and whose payload was not.
        ended: nothing more will come.
    """

    def __init__(self, sock: ssl.SSLSocket):
        sock.setblocking(False)
        self.sock, self.lock = sock, threading.Lock()
        self.heard, self.held, self.ended = time.monotonic(), None, False
        self._bytes, self._filled, self._next = bytearray(HEADER.size), 0, 0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._wake: int | None = None

    def wake_by(self, descriptor: int) -> None:
        """Let waits end with Woken once `descriptor` can be read."""
        self._wake = descriptor
        self._poll.register(descriptor, select.POLLIN)

    def _some(self, view: memoryview) -> int:
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
        """The next header if all of it is here. Raises EOFError, or FrameError if it is none or not the next."""
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
        """The next header; waits. Raises TimeoutError and Woken beside what `look` raises."""
        until = time.perf_counter() + SPIN_SECONDS if spin else 0.0
        while (header := self.look()) is None:
            while time.perf_counter() < until and not self._poll.poll(0):
                os.sched_yield()  # on a shared core the other party needs it to answer
            self._wait(deadline)
        return header

    def payload(self, view: memoryview, timeout: float, deadline: float = math.inf) -> None:
        """Fill `view` with the held frame's payload; `timeout` seconds without a byte, and the deadline, raise
        TimeoutError."""
        got = 0
        while got < len(view):
            count = self._some(view[got:])
            if count == 0:
                self._wait(min(self.heard + timeout, deadline))
            got += count
        self.held = None

    def text(self, limit: int, timeout: float, deadline: float = math.inf) -> bytes:
        """The held frame's payload where it is a short text."""
        if self.held.size > limit:
            raise FrameError(
                f"sent a {self.held.kind.name.lower()} of {self.held.size} bytes, expected at most {limit}"
            )
        data = bytearray(self.held.size)
        self.payload(memoryview(data), timeout, deadline)
        return bytes(data)

    def skip(self, timeout: float) -> None:
        """Read the held frame's payload and forget it."""
        left, scratch = self.held.size, bytearray(CHUNK_BYTES)
        while left:
            count = self._some(memoryview(scratch)[: min(left, CHUNK_BYTES)])
            if count == 0:
                self._wait(self.heard + timeout)
            left -= count
        self.held = None


class Outgoing:
    """Frames to one peer: small ones at once, others by a thread, which also sends the heartbeats.

    Attributes:
        broken: when the connection was found broken; None while it is not.
    """

    def __init__(self, sock: ssl.SSLSocket):
        sock.setblocking(False)
        self.sock, self.broken = sock, None
        self._queue: deque[memoryview] = deque()
        self._waiting, self._finishing, self._sequence = 0, False, 0
        self._cond = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sender")

    def start(self) -> None:
        """Send from now on by a thread, with heartbeats."""
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
        """Queue a frame. The payload is not copied: it must not change any more.

        Args:
            stop: given by a sender that runs ahead: while very much is under way it waits for the receiver until
                `stop()`. Two that keep step would wait for each other if both had to stop.
        """
        with self._cond:
            while stop is not None and self._waiting > WINDOW_BYTES and self.broken is None and not stop():
                self._cond.wait(TICK_SECONDS)
            if self.broken is not None or self._finishing:
                return  # whoever reads from this peer finds out why
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
                view = self._queue[0]  # it stays there while it is sent, so that nothing overtakes it
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
        """Send what waits and then the end of the stream."""
        with self._cond:
            self._finishing = True
            self._cond.notify_all()

    def join(self, seconds: float) -> None:
        """Wait until all is sent, at most so long, and close."""
        if self._thread.is_alive():
            self._thread.join(max(seconds, 0.0))
        if self._thread.is_alive():
            self.broken = time.monotonic()
            self._thread.join(2 * TICK_SECONDS)
        self.sock.close()
