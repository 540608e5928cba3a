"""Channels, over which the engine sends ring elements of shapes that both ends know.

`Channel` is the base class; its subclasses are `GlooChannel` and `DryChannel` here, `tcp.TcpChannel` and
`tls.TlsChannel`. Parties are addressed by rank: the model owner is 0, the data owner 1, the dealer 2. The dealer sends
corrections to the model owner alone, because it shares a key with the data owner.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.net.gloo import PeerErrors, open_group
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.ring.buffers import empty
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

WINDOW = 32  # messages by which a sender may be ahead of the receiver


class Channel(ABC):
    """One party's connections. Sending does not wait for the receiver. Receiving waits, and counts as a round."""

    def __init__(self, meter: Meter):
        self.meter = meter

    def send(self, tensor: torch.Tensor, to: int) -> None:
        """Send ring elements (int64) or bytes (uint8)."""
        self.meter.sent(tensor.numel() * tensor.element_size())
        self._send(tensor.contiguous(), to)

    def receive(self, shape: Sequence[int], source: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
        """Receive the next tensor from `source`, whose shape and type both ends know."""
        if source != 2:  # the dealer runs ahead, so its messages are there before they are needed
            self.meter.waited()
        return self._receive(tuple(shape), source, dtype)

    @abstractmethod
    def _send(self, tensor: torch.Tensor, to: int) -> None: ...

    @abstractmethod
    def _receive(self, shape: tuple[int, ...], source: int, dtype: torch.dtype) -> torch.Tensor: ...

    @abstractmethod
    def close(self) -> None:
        """Send what is queued and close the connections."""


class GlooChannel(Channel):
    """A channel over torch.distributed's gloo, in the clear. The file `gloo` describes how losses are found."""

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
    """A channel of a dry run: it counts bytes, rounds and the bytes that the dealer would send here (`dealt`)."""

    dealt = 0

    def _send(self, tensor, to):
        pass

    def _receive(self, shape, source, dtype):
        if source == 2:
            self.dealt += math.prod(shape) * dtype.itemsize
        return shape_tensor(shape, dtype)

    def close(self):
        pass
