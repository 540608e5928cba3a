"""The engine's channel over plain TCP, for one machine or one trust domain: nothing is encrypted or authenticated.

In go the tensors of `Channel`, and their bytes travel without any framing: both ends know shapes and types. A socket
takes tens of microseconds for a small message, where gloo takes a fraction of a millisecond or more, and an appraisal
exchanges hundreds of them. Bytes that cannot be sent at once are queued here and sent while this party waits for the
other. So there are no threads, and no deadlock when both parties send at the same time. The sizes and times may change;
an owner that sends must never wait until its queue is short, or that deadlock returns.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import DEALER, ROLES
from mpc_appraisal.mpc.net.channel import Channel
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.ring.buffers import empty

WINDOW_BYTES = 16 << 20  # the dealer waits for the receiver once so many bytes are queued
BUFFER_BYTES = 4 << 20  # the size of the kernel's buffer for each direction of a socket
POLL_SECONDS = 0.5
SPIN_SECONDS = 200e-6  # small answers mostly come within this time, in which polling is cheaper than sleeping


class TcpChannel(Channel):
    """One party's sockets, one to each other party, which the rendezvous connects.

    Args:
        rendezvous: The connection by which the parties have met.
        meter: What counts bytes and rounds.
        timeout: The seconds without progress after which a message fails with PeerError.
        roles: The parties that the channel connects; None for all of the rendezvous.
    """

    def __init__(self, rendezvous: Rendezvous, meter: Meter, timeout: float, roles: Sequence[str] | None = None):
        super().__init__(meter)
        self._rendezvous, self._timeout = rendezvous, timeout
        self._waiting: dict[int, deque[memoryview]] = {}
        self._waiting_bytes: dict[int, int] = {}
        self._sockets = rendezvous.connections(timeout, roles)
        for rank, s in self._sockets.items():
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                s.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            s.setblocking(False)
            self._waiting[rank], self._waiting_bytes[rank] = deque(), 0

    def _push(self, rank: int) -> None:
        """Send what is queued for `rank`, as far as the socket takes it without waiting."""
        queue = self._waiting[rank]
        try:
            while queue:
                sent = self._sockets[rank].send(queue[0])
                self._waiting_bytes[rank] -= sent
                if sent == len(queue[0]):
                    queue.popleft()
                else:
                    queue[0] = queue[0][sent:]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise self._rendezvous.lost(ROLES[rank]) from error

    def _send(self, tensor, to):
        data = memoryview(tensor.numpy().reshape(-1).view(np.uint8))
        if len(data):
            self._waiting[to].append(data)
            self._waiting_bytes[to] += len(data)
            self._push(to)
        deadline = time.monotonic() + self._timeout
        # Only the dealer runs ahead. The owners send to each other, so both could wait for ever if they stopped here.
        while self._rendezvous.role == DEALER and self._waiting_bytes[to] > WINDOW_BYTES:
            self._wait(None, deadline, to)

    def _wait(self, source: int | None, deadline: float, peer: int) -> None:
        """Wait until bytes of rank `source` can be read, or queued bytes can be sent, for a short time at most.

        Raises PeerError, which names the rank `peer`, at the deadline (monotonic clock).
        """
        writable = [self._sockets[r] for r, queue in self._waiting.items() if queue]
        readable = [self._rendezvous.wake] if source is None else [self._rendezvous.wake, self._sockets[source]]
        ready, free, _ = select.select(readable, writable, [], POLL_SECONDS)
        for rank, s in self._sockets.items():
            if s in free:
                self._push(rank)
        if self._rendezvous.wake in ready:
            self._rendezvous.check()
        if not ready and not free and time.monotonic() > deadline:
            raise PeerError(f"{ROLES[peer]} stopped answering: no message within {self._timeout:g} s")

    def _receive(self, shape, source, dtype):
        tensor = empty(shape, dtype)
        view = memoryview(tensor.numpy().reshape(-1).view(np.uint8))
        s, got, deadline = self._sockets[source], 0, time.monotonic() + self._timeout
        spin = time.perf_counter() + SPIN_SECONDS
        while got < len(view):
            try:
                count = s.recv_into(view[got:])
            except (BlockingIOError, InterruptedError):
                if time.perf_counter() > spin or any(self._waiting.values()):
                    self._wait(source, deadline, source)
                else:
                    os.sched_yield()  # the other party may need this core
                continue
            except OSError as error:
                raise self._rendezvous.lost(ROLES[source]) from error
            if count == 0:
                raise self._rendezvous.lost(ROLES[source])
            got += count
            deadline = time.monotonic() + self._timeout
        return tensor

    def close(self):
        deadline = time.monotonic() + self._timeout
        while any(self._waiting.values()):
            self._wait(None, deadline, next(r for r, q in self._waiting.items() if q))
        for s in self._sockets.values():
            s.close()
