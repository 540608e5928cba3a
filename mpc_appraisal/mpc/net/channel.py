"""Channels, over which the engine sends ring elements (integers mod 2^64) of shapes that both ends know.

`Channel` is the base class; its subclasses are `GlooChannel` and `DryChannel` here, `tcp.TcpChannel` and
`tls.TlsChannel`. Parties are addressed by rank: the model owner is 0, the data owner 1, the dealer 2. In go tensors,
and at the other end come tensors of the same shape and type; a channel counts bytes and rounds in its meter. The dealer
sends corrections to the model owner alone, because it shares a key with the data owner.

A channel may be added for another transport. Two properties have to stay: messages keep their order, and
a send does not wait for the receiver while little is queued, since the owners send to each other at the same time.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.net.gloo import PeerErrors, open_group
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.ring.buffers import empty
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

WINDOW = 32  # A sender may be ahead of the receiver by so many messages.


@dataclass
class Transcript:
    """The messages of an owner, in their order: what it sent the other owner, what that one sent, what was dealt."""

    sent: list[torch.Tensor] = field(default_factory=list)
    received: list[torch.Tensor] = field(default_factory=list)
    dealt: list[torch.Tensor] = field(default_factory=list)


class Channel(ABC):
    """One party's connections to the others.

    Receiving waits for the message, and counts as a round unless the dealer is the source.

    Args:
        meter: What counts bytes and rounds.

    Attributes:
        transcript: Where an owner's messages are kept; None keeps nothing.
    """

    transcript: Transcript | None = None

    def __init__(self, meter: Meter):
        self.meter = meter

    def send(self, tensor: torch.Tensor, to: int) -> None:
        """Send ring elements (int64) or bytes (uint8) to the party of rank `to`."""
        self.meter.sent(tensor.numel() * tensor.element_size())
        if self.transcript is not None and to != 2:
            self.transcript.sent.append(tensor)
        self._send(tensor.contiguous(), to)

    def receive(
        self, shape: Sequence[int], source: int, dtype: torch.dtype = torch.int64, along: bool = False
    ) -> torch.Tensor:
        """Return the next tensor from the party of rank `source`; both ends know its shape and type.

        `along` says that the source sends its next message right after this one, whatever it receives before, so that
        both are one round.

        Raises PeerError: The party was lost or does not answer.
        """
        if source != 2 and not along:  # the dealer runs ahead, so its messages are there before they are needed
            self.meter.waited()
        start = time.perf_counter()
        tensor = self._receive(tuple(shape), source, dtype)
        self.meter.received(tensor.numel() * tensor.element_size(), time.perf_counter() - start)
        if self.transcript is not None:
            (self.transcript.dealt if source == 2 else self.transcript.received).append(tensor)
        return tensor

    @abstractmethod
    def _send(self, tensor: torch.Tensor, to: int) -> None: ...

    @abstractmethod
    def _receive(self, shape: tuple[int, ...], source: int, dtype: torch.dtype) -> torch.Tensor: ...

    @abstractmethod
    def close(self) -> None:
        """Send what is queued and close the connections."""


class GlooChannel(Channel):
    """A channel over torch.distributed's gloo, in the clear. The file `gloo` says how lost parties are noticed.

    Args:
        rendezvous: The connection by which the parties have met.
        meter: What counts bytes and rounds.
        timeout: The seconds that one message may take.
    """

    def __init__(self, rendezvous: Rendezvous, meter: Meter, timeout: float):
        super().__init__(meter)
        open_group(rendezvous, timeout)
        self._rendezvous = rendezvous
        self._pending: deque[tuple[Any, torch.Tensor]] = deque()

    def _errors(self, rank: int) -> PeerErrors:
        return PeerErrors(self._rendezvous, ROLES[rank])

    def _send(self, tensor, to):
        with self._errors(to):
            while self._pending and (len(self._pending) >= WINDOW or self._pending[0][0].is_completed()):
                self._pending.popleft()[0].wait()
            self._pending.append((dist.isend(tensor, to), tensor))  # the tensor must live until it is sent

    def _receive(self, shape, source, dtype):
        tensor = empty(shape, dtype)
        with self._errors(source):
            dist.recv(tensor, source)
        return tensor

    def close(self):
        with self._errors(0):
            while self._pending:
                self._pending.popleft()[0].wait()
        dist.destroy_process_group()


class DryChannel(Channel):
    """A channel of a dry run, which sends nothing. It counts bytes, rounds, and the bytes from the dealer (`dealt`)."""

    dealt = 0

    def _send(self, tensor, to):
        pass

    def _receive(self, shape, source, dtype):
        if source == 2:
            self.dealt += math.prod(shape) * dtype.itemsize
        return shape_tensor(shape, dtype)

    def close(self):
        pass
