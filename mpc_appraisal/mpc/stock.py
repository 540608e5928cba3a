"""CrypTen 0.4.1 as shipped, joined to a Session: its protocols, its dealer as a third process, its gloo transport.

What is replaced, because it is wrong or unsafe as shipped (see the README, "what is protected"): the process group is
made from the session's own rendezvous and has a time-out; bytes and rounds are counted; errors name the party; the
dealer answers a closed list of requests and draws its seeds from the operating system (CrypTen's would be the same in
every run: torch's default generator starts from a constant).
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

from mpc_appraisal.errors import AppraisalError, PeerError
from mpc_appraisal.mpc import _compat
from mpc_appraisal.mpc.meter import Meter
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.roles import DEALER, OWNERS, ROLES, rank_of

crypten = _compat.load()

from crypten.communicator.distributed_communicator import DistributedCommunicator  # noqa: E402
from crypten.mpc.provider.ttp_provider import TTPClient, TTPServer  # noqa: E402

REQUESTS = ("additive", "square", "binary", "wraps", "B2A")
TERMINATE, MARK = "terminate", "mark"


def _nbytes(tensors) -> int:
    tensors = tensors if isinstance(tensors, list) else [tensors]
    return sum(t.numel() * t.element_size() for t in tensors)


class Communicator(DistributedCommunicator):
    """CrypTen's communicator over torch.distributed's gloo, made from a rendezvous and metered.

    Bytes are what this party sends: in a ring of two an all-reduce of n bytes sends n bytes a party.
    """

    def __init__(self, rendezvous: Rendezvous, meter: Meter, timeout: float):
        self.rank, self.world_size, self.meter = rank_of(rendezvous.role), len(OWNERS), meter
        self._rendezvous, self._name = rendezvous, rendezvous.role
        if "://127." in rendezvous.where or "://localhost" in rendezvous.where:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # parties on one machine talk over loopback alone
        self.reset_communication_stats()
        with self._named("the other parties"):
            dist.init_process_group(
                "gloo",
                store=dist.PrefixStore("gloo", rendezvous.store),
                rank=self.rank,
                world_size=len(ROLES),
                timeout=timedelta(seconds=timeout),
            )
            self.ttp_group = dist.new_group([0, 1, 2])
            self.ttp_comm_group = dist.new_group([0, 2])
            self.main_group = dist.new_group([0, 1])
        self.ttp_initialized = True
        DistributedCommunicator.instance = self

    def _named(self, peer: str):
        return _PeerErrors(self._rendezvous, peer)

    def _other(self) -> str:
        return OWNERS[1 - self.rank] if self.rank < 2 else OWNERS[0]

    def _collective(self, name: str, size: int, *args, **kwargs):
        self.meter.sent(size)
        self.meter.waited()
        with self._named(self._other()):
            return getattr(super(), name)(*args, **kwargs)

    def all_reduce(self, input, *args, **kwargs):
        return self._collective("all_reduce", _nbytes(input), input, *args, **kwargs)

    def reduce(self, input, dst, *args, **kwargs):
        return self._collective("reduce", _nbytes(input) if dst != self.rank else 0, input, dst, *args, **kwargs)

    def gather(self, tensor, dst):
        return self._collective("gather", _nbytes(tensor) if dst != self.rank else 0, tensor, dst)

    def all_gather(self, tensor):
        return self._collective("all_gather", _nbytes(tensor), tensor)

    def scatter(self, scatter_list, src, *args, **kwargs):
        size = _nbytes(scatter_list[1 - self.rank]) if src == self.rank else 0
        return self._collective("scatter", size, scatter_list, src, *args, **kwargs)

    def broadcast(self, input, src, *args, **kwargs):
        size = _nbytes(input) if src == self.rank else 0
        return self._collective("broadcast", size, input, src, *args, **kwargs)

    def isend(self, tensor, dst):
        self.meter.sent(_nbytes(tensor))
        with self._named(ROLES[dst]):
            return super().isend(tensor, dst)

    def irecv(self, tensor, src=None):
        self.meter.waited()
        with self._named(self._other()):
            return super().irecv(tensor, src)

    def send_obj(self, obj, dst, group=None):
        self.meter.sent(len(repr(obj)))  # the object's own size; its pickled form is a little larger
        with self._named(ROLES[dst]):
            return super().send_obj(obj, dst, group)

    def recv_obj(self, src, group=None):
        self.meter.waited()
        with self._named(ROLES[src]):
            return super().recv_obj(src, group)


class _PeerErrors:
    """Turns torch.distributed's errors into PeerError with the party's name, and its reason where it left one."""

    def __init__(self, rendezvous: Rendezvous, peer: str):
        self.rendezvous, self.peer = rendezvous, peer

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, RuntimeError):
            reason = self.rendezvous.reason() or f"lost {self.peer} half way: its process ended or stopped answering"
            raise PeerError(reason) from error
        return False


class Dealer(TTPServer):
    """The dealer's side of CrypTen's trusted third party: sees shapes, sends shares of triples, nothing else."""

    def __init__(self, communicator: Communicator):
        self.comm, self.meter, self.device = communicator, communicator.meter, "cpu"
        self.ttp_group, self.comm_group = communicator.ttp_group, communicator.ttp_comm_group
        torch.manual_seed(int.from_bytes(os.urandom(8), "big") - 2**63)  # CrypTen draws the parties' seeds from here
        self._setup_generators()
        self.marks: list[int] = []

    def serve(self) -> list[int]:
        """Answer requests until the model owner ends the session. Returns the bytes sent by each mark."""
        while True:
            message = self.comm.recv_obj(0, self.ttp_group)
            if message == TERMINATE:
                return self.marks
            if message == MARK:
                self.marks.append(self.meter.bytes_sent)
                continue
            name = message.get("function") if isinstance(message, dict) else message
            if name not in REQUESTS:
                raise AppraisalError(f"{DEALER}: refused the request {name!r}; expected one of {', '.join(REQUESTS)}")
            result = getattr(self, name)(*message["args"], **message["kwargs"])
            self.comm.send_obj(result.size(), 0, self.ttp_group)
            self.comm.broadcast(result, self.comm.get_ttp_rank(), self.comm_group)


def start(rendezvous: Rendezvous, meter: Meter, timeout: float) -> Communicator:
    """Connect this party; afterwards CrypTen's secret tensors work in the owners' processes."""
    communicator = Communicator(rendezvous, meter, timeout)
    if rendezvous.role != DEALER:
        with communicator._named("the other parties"):
            crypten._setup_prng()
            TTPClient._init()
    return communicator


def mark(communicator: Communicator) -> None:
    """The model owner has the dealer note how much it has sent so far."""
    if communicator.rank == 0:
        communicator.send_obj(MARK, communicator.get_ttp_rank(), communicator.ttp_group)


def stop(communicator: Communicator, orderly: bool) -> None:
    """Leave the process group; an orderly model owner first sends the dealer home."""
    if orderly and communicator.rank == 0:
        communicator.send_obj(TERMINATE, communicator.get_ttp_rank(), communicator.ttp_group)
    TTPClient.uninit()
    DistributedCommunicator.instance = None
    if orderly and dist.is_initialized():
        dist.destroy_process_group()
