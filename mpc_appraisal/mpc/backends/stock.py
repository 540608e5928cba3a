"""The engine `stock`: a session on CrypTen 0.4.1 as shipped, with its protocols, its dealer and its gloo transport.

It is the baseline that the other engines are compared with. Therefore CrypTen's protocols and its generators of
randomness have to stay as shipped. What is wrong or unsafe around them is replaced: the process group is made from the
session's rendezvous and has a time-out; bytes and rounds are counted; errors name the party; the dealer answers a
closed list of requests and draws its seeds from the operating system; and the owners commit to a result that goes to
both before either owner opens it (see `protocols.committed_opening`).

The dealer answers the model owner's requests one by one. The owners make no script of requests, so the check in
`protocols.orders` does not cover this engine, and a cheating model owner may ask for what the program does not need.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.roles import DEALER, OWNERS, ROLES, rank_of
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.net.gloo import PeerErrors, open_group, severable
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.protocols import crypten_compat as _compat
from mpc_appraisal.mpc.protocols.committed_opening import NONCE_BYTES, check_opening, commitment
from mpc_appraisal.mpc.protocols.orders import bytes_of, tensor_of
from mpc_appraisal.mpc.ring.fixed_point import decode, encode
from mpc_appraisal.mpc.session import Session, check_owner

crypten = _compat.load()

from crypten.communicator.distributed_communicator import DistributedCommunicator  # noqa: E402
from crypten.mpc.provider.ttp_provider import TTPClient, TTPServer  # noqa: E402

REQUESTS = ("additive", "square", "binary", "wraps", "B2A")
TERMINATE, MARK = "terminate", "mark"


def _nbytes(tensors) -> int:
    """Return the size of a tensor, or of a list of tensors, in bytes."""
    tensors = tensors if isinstance(tensors, list) else [tensors]
    return sum(t.numel() * t.element_size() for t in tensors)


class Communicator(DistributedCommunicator):
    """CrypTen's communicator over torch.distributed's gloo, made from a rendezvous; it counts bytes and rounds.

    The methods are CrypTen's; here they also count, and turn errors into PeerError. The counted bytes are those that
    this party sends: in an all-reduce of n bytes, each of two parties sends n bytes.

    Args:
        rendezvous: The connection to the other parties.
        meter: What counts the bytes and rounds.
        timeout: The seconds that one message may take.
    """

    def __init__(self, rendezvous: Rendezvous, meter: Meter, timeout: float):
        self.rank, self.world_size, self.meter = rank_of(rendezvous.role), len(OWNERS), meter
        self._rendezvous, self._name = rendezvous, rendezvous.role
        self.reset_communication_stats()
        open_group(rendezvous, timeout)
        with self.naming("the other parties"), severable(rendezvous):
            self.ttp_group = dist.new_group([0, 1, 2])
            self.ttp_comm_group = dist.new_group([0, 2])
            self.main_group = dist.new_group([0, 1])
        self.ttp_initialized = True
        DistributedCommunicator.instance = self

    def naming(self, peer: str) -> PeerErrors:
        """Return a context in which errors of torch.distributed become PeerError, which names `peer`."""
        return PeerErrors(self._rendezvous, peer)

    def _other(self) -> str:
        return OWNERS[1 - self.rank] if self.rank < 2 else OWNERS[0]

    def _collective(self, name: str, size: int, *args, **kwargs):
        self.meter.sent(size)
        self.meter.waited()
        with self.naming(self._other()):
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
        self.meter.sent(size)
        self.meter.waited()
        with self.naming(self._other() if src == self.rank else ROLES[src]):  # triples come from the dealer
            return super().broadcast(input, src, *args, **kwargs)

    def isend(self, tensor, dst):
        self.meter.sent(_nbytes(tensor))
        with self.naming(ROLES[dst]):
            return super().isend(tensor, dst)

    def irecv(self, tensor, src=None):
        self.meter.waited()
        with self.naming(self._other()):
            return super().irecv(tensor, src)

    def send_obj(self, obj, dst, group=None):
        self.meter.sent(len(repr(obj)))  # the size of the object; its pickled form is a little larger
        with self.naming(ROLES[dst]):
            return super().send_obj(obj, dst, group)

    def recv_obj(self, src, group=None):
        self.meter.waited()
        with self.naming(ROLES[src]):
            return super().recv_obj(src, group)


class StockDealer(TTPServer):
    """The dealer's side of CrypTen's trusted third party, which sees shapes and sends shares of triples.

    A triple is a set of random numbers, such as a, b and a b, by which the owners multiply shares.
    """

    def __init__(self, communicator: Communicator):
        self.comm, self.meter, self.device = communicator, communicator.meter, "cpu"
        self.ttp_group, self.comm_group = communicator.ttp_group, communicator.ttp_comm_group
        torch.manual_seed(int.from_bytes(os.urandom(8), "big") - 2**63)  # CrypTen draws the parties' seeds from here
        self._setup_generators()
        self.marks: list[int] = []

    def serve(self) -> list[int]:
        """Answer requests until the model owner ends the session, and return the bytes that had been sent at each mark.

        Raises AppraisalError: A request is not in REQUESTS.
        """
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


class StockSession(Session):
    """An owner's session on CrypTen as shipped. `Session` describes the methods.

    Args:
        rendezvous: The connection to the other parties.
        timeout: The seconds that one message may take.
    """

    engine = "stock"
    _opened = 0  # the number of openings to both owners

    def __init__(self, rendezvous: Rendezvous, timeout: float):
        super().__init__()
        self.role = rendezvous.role
        self.communicator = Communicator(rendezvous, self.meter, timeout)
        with self.communicator.naming("the other parties"):
            crypten._setup_prng()
            TTPClient._init()

    def input(self, owner, read, shape, name, grid=None):
        check_owner(owner, name)
        share = crypten.mpc.primitives.ArithmeticSharedTensor.PRZS(torch.Size(shape)).share
        if self.role == owner:
            share += encode(self._real(owner, read, shape, name, grid), name)
        return crypten.mpc.MPCTensor.from_shares(share)

    def _open(self, secret, to):
        if len(to) == 2:
            opened = self._committed(secret.share)
        else:
            opened = self.communicator.reduce(secret.share, OWNERS.index(to[0]))
        return None if opened is None else decode(opened, int(secret.encoder.scale).bit_length() - 1)

    def _committed(self, share):
        """Return the sum of both owners' shares, opened as in `protocols.committed_opening`."""
        self._opened += 1
        me, nonce, context = self.communicator.rank, os.urandom(NONCE_BYTES), self._opened.to_bytes(8, "big")
        mine = tensor_of(commitment(nonce, context, me, share)).view(torch.int64)  # the only type that CrypTen gathers
        committed = self.communicator.all_gather(mine)[1 - me]
        words = tensor_of(nonce).view(torch.int64)
        opening = self.communicator.all_gather(torch.cat([words, share.reshape(-1)]))[1 - me]
        theirs = opening[len(words) :].reshape(share.shape)
        check_opening(bytes_of(committed), bytes_of(opening[: len(words)]), context, 1 - me, theirs)
        return share + theirs

    def mark(self):
        if self.role == ROLES[0]:
            self.communicator.send_obj(MARK, self.communicator.get_ttp_rank(), self.communicator.ttp_group)

    def close(self, orderly=True):
        if orderly and self.role == ROLES[0]:
            self.communicator.send_obj(TERMINATE, self.communicator.get_ttp_rank(), self.communicator.ttp_group)
        TTPClient.uninit()
        DistributedCommunicator.instance = None
        if orderly and dist.is_initialized():
            dist.destroy_process_group()


@ops.rectified.register(crypten.mpc.MPCTensor)
def _rectified(z, bits):
    positive = z.gt(0.0)
    return z.mul(positive), positive


@ops.gated.register(crypten.mpc.MPCTensor)
def _gated(positive, value, bits):
    return value.mul(positive)


@ops.join.register(crypten.mpc.MPCTensor)
def _join(first, tensors):
    return crypten.cat(list(tensors))


@ops.to_crypten.register(crypten.mpc.MPCTensor)
def _to_crypten(value):
    from mpc_appraisal.mpc.crypten_programs import method_tensors  # it replaces names in CrypTen, for methods that ask

    return method_tensors.of_stock(value)


@ops.from_crypten.register(crypten.mpc.MPCTensor)
def _from_crypten(like, tensor):
    return tensor


@ops.log_sigmoid.register(crypten.mpc.MPCTensor)
def _log_sigmoid(value):
    return crypten.cat([value / 2, value / -2], dim=1).log_softmax(1)[:, :1]  # value is (n, 1)


def deal(rendezvous: Rendezvous, timeout: float) -> list[int]:
    """Be the dealer until the session ends, and return the bytes that had been sent at each mark."""
    return StockDealer(Communicator(rendezvous, Meter(), timeout)).serve()
