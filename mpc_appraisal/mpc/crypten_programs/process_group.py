"""torch.distributed for a CrypTen program that calls it, over the engine's channel and not in the clear beside it.

A program of CrypTen's may call `torch.distributed` itself, since CrypTen's communicator is a process group of gloo. In
a carried program the default process group is a `ChannelGroup`, whose calls are the verbs of the communicator: the
bytes go where the engine's messages go, encrypted where these are. A session over gloo has a process group already,
with the dealer in it, and keeps it.

The base class and the options are torch's; a call that is not listed here raises torch's own error.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

BACKEND = "mpc_appraisal"


class _Done:
    """What a call of a process group returns: it has been done already, or `wait` does it."""

    def __init__(self, pending: Any = None):
        self._pending = pending

    def wait(self, timeout: Any = None) -> bool:
        return True if self._pending is None else self._pending.wait()

    def is_completed(self) -> bool:
        return self.wait()


class ChannelGroup(dist.ProcessGroup):
    """The two owners as a process group; `communicator` is this owner's `ProgramCommunicator`."""

    def __init__(self, communicator: Any):
        super().__init__(communicator.get_rank(), communicator.get_world_size())
        self.communicator = communicator

    def getBackendName(self) -> str:  # torch's name
        return BACKEND

    def send(self, tensors: list[torch.Tensor], dst: int, tag: int = 0) -> _Done:
        for tensor in tensors:
            self.communicator.send(tensor, dst)
        return _Done()

    def recv(self, tensors: list[torch.Tensor], src: int, tag: int = 0) -> _Done:
        pending = [self.communicator.irecv(tensor, src) for tensor in tensors]
        return _Done(pending[-1])

    def broadcast(self, tensors: list[torch.Tensor], opts: Any) -> _Done:
        """Send from the root, as `send` does, so that CrypTen's broadcast_obj may be the receiver."""
        for tensor in tensors:
            if self.communicator.get_rank() == opts.rootRank:
                self.communicator.send(tensor, 1 - opts.rootRank)
            else:
                tensor.data.copy_(self.communicator.recv(tensor, opts.rootRank))
        return _Done()

    def allreduce(self, tensors: list[torch.Tensor], opts: Any) -> _Done:
        for tensor in tensors:
            tensor.data.copy_(self.communicator.all_reduce(tensor, op=opts.reduceOp))
        return _Done()

    def reduce(self, tensors: list[torch.Tensor], opts: Any) -> _Done:
        for tensor in tensors:
            found = self.communicator.reduce(tensor, opts.rootRank, op=opts.reduceOp)
            if found is not None:
                tensor.data.copy_(found)
        return _Done()

    def allgather(self, outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], opts: Any = None) -> _Done:
        for output, tensor in zip(outputs, inputs, strict=True):
            for place, found in zip(output, self.communicator.all_gather(tensor), strict=True):
                place.data.copy_(found)
        return _Done()

    def barrier(self, opts: Any = None) -> _Done:
        self.communicator.barrier()
        return _Done()


_opened: list[ChannelGroup] = []  # the group of this process, while there is one


def open_group(communicator: Any) -> ChannelGroup | None:
    """Make a `ChannelGroup` torch's default process group, and return it; None if there is a group already."""
    if dist.is_initialized():
        return None
    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, lambda *arguments: _opened[-1], devices=["cpu"])
    _opened.append(ChannelGroup(communicator))
    dist.init_process_group(BACKEND, store=dist.HashStore(), rank=_opened[-1].rank(), world_size=_opened[-1].size())
    return _opened[-1]


def close_group() -> None:
    """Take the group away that `open_group` has made, if any; nothing is sent."""
    if _opened:
        _opened.clear()
        dist.destroy_process_group()
