"""Plain TCP between the three parties, for one machine or one trust domain: nothing is encrypted, nobody is checked.

It exists because gloo's point-to-point messages take a fraction of a millisecond or more where a socket takes tens of
microseconds, and an appraisal exchanges hundreds of small messages. What cannot be sent at once waits here and goes out
while this party waits for the other's message: no threads, and no deadlock when both send at once.
"""

from __future__ import annotations

import hmac
import os
import select
import socket
import time
from collections import deque

import numpy as np
import torch

from mpc_appraisal.errors import PeerError
from mpc_appraisal.mpc.channel import Channel
from mpc_appraisal.mpc.meter import Meter
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.roles import DEALER, ROLES, rank_of

WINDOW_BYTES = 64 << 20  # what may wait to be sent before the dealer waits for the receiver
TOKEN_BYTES = 16
BUFFER_BYTES = 4 << 20
POLL_SECONDS = 0.5
SPIN_SECONDS = 200e-6


class TcpChannel(Channel):
    """One party's two sockets. Made from a rendezvous, which tells who listens where."""

    def __init__(self, rendezvous: Rendezvous, meter: Meter, timeout: float):
        super().__init__(meter)
        self._rendezvous, self._timeout = rendezvous, timeout
        self._waiting: dict[int, deque[memoryview]] = {}
        self._waiting_bytes: dict[int, int] = {}
        self._sockets = _connect(rendezvous, timeout)
        for rank, s in self._sockets.items():
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                s.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            s.setblocking(False)
            self._waiting[rank], self._waiting_bytes[rank] = deque(), 0

    def _lost(self, rank: int, error: OSError | None = None) -> PeerError:
        for _ in range(10):  # a party that failed by itself says why; its note may come a moment after its end
            reason = self._rendezvous.reason()
            if reason:
                return PeerError(reason)
            time.sleep(0.1)
        return PeerError(f"lost {ROLES[rank]} half way: its process ended or stopped answering")

    def _push(self, rank: int) -> None:
        """Send what waits for `rank` as far as it goes without waiting."""
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
            raise self._lost(rank, error) from error

    def _send(self, tensor, to):
        data = memoryview(tensor.numpy().reshape(-1).view(np.uint8))
        if len(data):
            self._waiting[to].append(data)
            self._waiting_bytes[to] += len(data)
            self._push(to)
        deadline = time.monotonic() + self._timeout
        # Only the dealer runs ahead of the others. Owners keep step, and would wait for each other if both had to stop.
        while self._rendezvous.role == DEALER and self._waiting_bytes[to] > WINDOW_BYTES:
            self._wait(None, deadline, to)

    def _wait(self, source: int | None, deadline: float, peer: int) -> None:
        """Until something can be read from `source` or sent to anybody."""
        writable = [self._sockets[r] for r, queue in self._waiting.items() if queue]
        readable = [] if source is None else [self._sockets[source]]
        ready, free, _ = select.select(readable, writable, [], POLL_SECONDS)
        for rank, s in self._sockets.items():
            if s in free:
                self._push(rank)
        if not ready and not free:
            reason = self._rendezvous.reason()
            if reason:
                raise PeerError(reason)
            if time.monotonic() > deadline:
                raise PeerError(f"{ROLES[peer]} stopped answering: no message within {self._timeout:g} s")

    def _receive(self, shape, source, dtype):
        tensor = torch.empty(shape, dtype=dtype)
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
                    os.sched_yield()  # the other party may want this very core
                continue
            except OSError as error:
                raise self._lost(source, error) from error
            if count == 0:
                raise self._lost(source)
            got += count
            deadline = time.monotonic() + self._timeout
        return tensor

    def close(self):
        deadline = time.monotonic() + self._timeout
        while any(self._waiting.values()):
            self._wait(None, deadline, next(r for r, q in self._waiting.items() if q))
        for s in self._sockets.values():
            s.close()


def _connect(rendezvous: Rendezvous, timeout: float) -> dict[int, socket.socket]:
    """Lower ranks listen, higher ones connect and show the token that the listener posted."""
    me, sockets = rank_of(rendezvous.role), {}
    token = os.urandom(TOKEN_BYTES)
    host = rendezvous.where.removeprefix("tcp://").rsplit(":", 1)[0]
    with socket.create_server((_own_address(host), 0)) as listener:
        address = listener.getsockname()[:2]
        notes = rendezvous.exchange("addresses", {"host": address[0], "port": address[1], "token": token.hex()})
        for rank in range(me):
            note = notes[ROLES[rank]]
            try:
                s = socket.create_connection((note["host"], note["port"]), timeout)
                s.sendall(bytes.fromhex(note["token"]) + bytes([me]))
            except OSError as error:
                raise PeerError(f"cannot reach {ROLES[rank]} at its address: {error.strerror or error}") from error
            sockets[rank] = s
        deadline = time.monotonic() + timeout
        while len(sockets) < len(ROLES) - 1:
            listener.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                s, _ = listener.accept()
                s.settimeout(5.0)
                hello = s.recv(TOKEN_BYTES + 1, socket.MSG_WAITALL)
            except OSError as error:
                if time.monotonic() > deadline:
                    missing = [ROLES[r] for r in range(me + 1, len(ROLES)) if r not in sockets]
                    raise PeerError(f"{' and '.join(missing)} did not connect within {timeout:g} s") from error
                continue
            known = len(hello) == TOKEN_BYTES + 1 and hmac.compare_digest(hello[:-1], token)
            if known and me < hello[-1] < len(ROLES) and hello[-1] not in sockets:
                sockets[hello[-1]] = s
            else:
                s.close()  # a stranger
    return sockets


def _own_address(host: str) -> str:
    """This machine's address on the way to `host`."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # no packet leaves
            probe.connect((host, 9))
            return probe.getsockname()[0]
    except OSError:
        return "127.0.0.1"
