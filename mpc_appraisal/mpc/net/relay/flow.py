"""How a relay forwards bytes from one connection to another, and how it delays them where it stands for a wide network.

`Flow` forwards one direction at once. `ShapedFlow` forwards it as a network would that has a latency and a bandwidth:

    start = max(now, line of the sender free)              the sender's line is free again at start + bits / rate
    arrival = max(start + delay, line of the receiver free) + bits / rate

Each party has one line to send and one to receive, which all of its connections share. A flow stops reading while too
many bytes wait, so that memory is bounded and the sender is slowed down. The order of bytes and the end of a connection
have to stay as they are: the parties' TLS finds every byte that is lost, doubled or moved.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from mpc_appraisal.mpc.net.relay.limits import DELAYED_BYTES, Limits

BACKLOG_SECONDS = 0.005  # a line that is taken for longer than this lets nobody read more


class Flow:
    """One direction of a link.

    Args:
        source, sink: The transports to read from and to write to.

    Attributes:
        bytes: The number of bytes that were read from the source.
        ended: True once the end of the source was forwarded.
        reverse: The other direction of the same link.
    """

    def __init__(self, source: asyncio.Transport, sink: asyncio.Transport):
        self.source, self.sink = source, sink
        self.bytes, self.ended, self._lost, self._finished = 0, False, False, False
        self.reverse: Flow | None = None
        self._held: set[str] = set()

    def forward(self, data: bytes) -> None:
        """Forward bytes that were read from the source."""
        self.bytes += len(data)
        if not self.sink.is_closing():
            self.sink.write(data)

    def end(self, lost: bool = False) -> None:
        """Forward the end of the source. With `lost` nothing can be sent to the source any more either."""
        self._lost, self._finished = self._lost or lost, True
        self._close()

    def _close(self) -> None:
        first, self.ended = not self.ended, True
        if self.sink.is_closing():
            return
        if self._lost:
            self.sink.close()  # what was written before is still sent
        elif self.reverse is not None and self.reverse.ended:
            self.sink.close()
            self.source.close()
        elif first:
            self.sink.write_eof()

    def hold(self, why: str) -> None:
        """Stop reading from the source until `release` is called with the same word."""
        if not self._held and not self.source.is_closing():
            self.source.pause_reading()
        self._held.add(why)

    def release(self, why: str) -> None:
        """Read from the source again, unless another word holds it."""
        self._held.discard(why)
        if not self._held and not self._finished and not self.source.is_closing():
            self.source.resume_reading()


@dataclass
class Line:
    """A party's line in one direction. free: when it is free again, on the loop's clock."""

    free: float = 0.0


class ShapedFlow(Flow):
    """One direction of a link, with a delay and a bandwidth.

    Args:
        source, sink: As of `Flow`.
        limits: The limits of the relay, of which `delay_ms` and `mbit` are used.
        up, down: The line by which the source's party sends, and that by which the sink's party receives.
    """

    def __init__(self, source: asyncio.Transport, sink: asyncio.Transport, limits: Limits, up: Line, down: Line):
        super().__init__(source, sink)
        self._delay, self._up, self._down = limits.delay_ms / 1e3, up, down
        self._seconds_a_byte = 0.0 if limits.mbit is None else 8e-6 / limits.mbit
        self._queue: deque[tuple[float, bytes | None]] = deque()  # times of arrival, and None for the end
        self._waiting, self._timer = 0, None
        self._loop = asyncio.get_running_loop()

    def forward(self, data: bytes) -> None:
        self.bytes += len(data)
        now, taken = self._loop.time(), len(data) * self._seconds_a_byte
        start = max(now, self._up.free)
        arrival = max(start + self._delay, self._down.free) + taken
        self._up.free, self._down.free = start + taken, arrival
        self._queue.append((arrival, data))
        self._waiting += len(data)
        self._schedule()
        backlog = max(self._up.free - now, self._down.free - now - self._delay)
        if backlog > BACKLOG_SECONDS:
            self.hold("line")
            self._loop.call_later(backlog - BACKLOG_SECONDS, self.release, "line")
        if self._waiting > DELAYED_BYTES:
            self.hold("delay")

    def end(self, lost: bool = False) -> None:
        self._lost, self._finished = self._lost or lost, True
        last = self._queue[-1][0] if self._queue else self._loop.time() + self._delay
        self._queue.append((last, None))
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        while self._queue and self._queue[0][0] <= self._loop.time():
            _, data = self._queue.popleft()
            if data is None:
                self._close()
                continue
            self._waiting -= len(data)
            if not self.sink.is_closing():
                self.sink.write(data)
        if self._waiting <= DELAYED_BYTES // 2:
            self.release("delay")
        self._schedule()
