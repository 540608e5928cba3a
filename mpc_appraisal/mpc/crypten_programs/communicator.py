"""CrypTen's communicator for two owners: every verb over the engine's channel, and every opening in the ledger.

`carry` puts a `ProgramCommunicator` in the place of CrypTen's, which sends over torch.distributed in the clear:

| in CrypTen | over the engine's channel |
|---|---|
| send, recv, isend, irecv, broadcast, scatter, gather, all_gather, reduce, all_reduce, barrier | the tensor's bytes, of any dense type, after the verb and the length, which have to be those that the other party expects |
| send_obj, recv_obj, broadcast_obj | JSON and tensors (`messages`); nothing is unpickled |
| get_communication_stats, print_communication_stats | what the meter of the session has counted, the engine's own messages and the dealer's among it, whether or not cfg.communicator.verbose is set |
| comm_rounds, comm_bytes, comm_time | CrypTen's own count of the program's verbs, while cfg.communicator.verbose is set |
| main_group | a process group of torch.distributed over the same channel (`process_group`) |
| get_world_size, get_ttp_rank | 2, and 2 for the dealer |

A world of one, as in a notebook, has nobody to send to: CrypTen's own communicator stays. crypten.init refuses a world
of three or more (see `meeting`), since the engine has two owners and a dealer.

A reduction that is no step of CrypTen's protocols for products opens a value. It is noted in the session's ledger, with
the place in the program, the count of numbers and the parties that learn it. Masked values of products (`primitives.
beaver`) are no openings; their messages have no header, since both owners have asked the dealer for the same product.
"""  # noqa: E501  a row of a table is one line

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed import ReduceOp

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.crypten_programs.messages import ForeignObjectError, packed, unpacked
from mpc_appraisal.mpc.protocols import crypten_adapter
from mpc_appraisal.mpc.session import Opening, Session

VERBS = ("send", "broadcast", "scatter", "gather", "all_gather", "reduce", "all_reduce", "barrier")
LONGEST_OBJECT = 1 << 30  # bytes
OPERATIONS: dict[Any, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    ReduceOp.SUM: torch.add,
    ReduceOp.PRODUCT: torch.mul,
    ReduceOp.MIN: torch.minimum,
    ReduceOp.MAX: torch.maximum,
    ReduceOp.BAND: torch.bitwise_and,
    ReduceOp.BOR: torch.bitwise_or,
    ReduceOp.BXOR: torch.bitwise_xor,
}
PROTOCOLS = "crypten.mpc.primitives.beaver"  # This module of CrypTen opens masked values.
INNER = ("crypten.", "mpc_appraisal.", "torch.")  # Frames of these packages are not the program's own.


class Pending:
    """What `isend` and `irecv` return; `wait` returns once the message has been sent, or is here."""

    def __init__(self, complete: Callable[[Pending], None] | None = None):
        self._complete = complete

    def wait(self, timeout: Any = None) -> bool:
        if self._complete is not None:
            self._complete(self)
        return True

    def is_completed(self) -> bool:
        return self.wait()


class ProgramCommunicator(crypten_adapter.BridgeCommunicator):
    """One owner's communicator, with CrypTen's methods; see the table above.

    Args:
        session: this owner's session, whose engine, meter and ledger are used.
    """

    ttp_initialized = False

    def __init__(self, session: Session):
        self.session, self.main_group = session, None
        self._late: deque[tuple[Pending, torch.Tensor, int]] = deque()  # what irecv has asked for, in order
        self._name = f"rank{session.context.engine.me}"
        super().__init__(session.context.engine)

    # -- messages --------------------------------------------------------------------------------------------------
    def _send_tensors(self, verb: str, tensors: Sequence[torch.Tensor], header: bool = True) -> None:
        parts = [_octets(t) for t in tensors]
        message = torch.cat(parts) if len(parts) > 1 else parts[0].clone()  # The program may change what it has sent.
        if header:
            self.engine.channel.send(_header(verb, message.numel()), 1 - self.rank)
        if message.numel():
            self.engine.channel.send(message, 1 - self.rank)

    def _receive_tensors(self, verb: str, like: Sequence[torch.Tensor], header: bool = True) -> list[torch.Tensor]:
        """Return new tensors, of the types and shapes of `like`, from the other party."""
        sizes, other = [t.numel() * t.element_size() for t in like], 1 - self.rank
        if header:
            self._expect(verb, sum(sizes), self.engine.channel.receive((2,), other))
        if not sum(sizes):
            return [torch.empty_like(t) for t in like]
        message = self.engine.channel.receive((sum(sizes),), other, torch.uint8, along=header)
        parts = message.split(sizes) if len(sizes) > 1 else [message]
        return [_tensor_of(part, t) for part, t in zip(parts, like, strict=True)]

    def _expect(self, verb: str, size: int, header: torch.Tensor) -> None:
        if torch.equal(header, _header(verb, size)):
            return
        number, length = header.tolist()
        named = VERBS[number] if 0 <= number < len(VERBS) else "something else"
        raise PeerError(
            f"{OWNERS[1 - self.rank]} sent {named} of {length} bytes where this program takes {verb} of {size} bytes; "
            "expected the same program at both parties"
        )

    def settle(self) -> None:
        while self._late:
            self._take_next()

    def _take_next(self) -> None:
        _, tensor, _ = self._late.popleft()
        tensor.data.copy_(self._receive_tensors("send", [tensor.data])[0])

    def _complete(self, pending: Pending) -> None:
        while any(each is pending for each, _, _ in self._late):
            self._take_next()

    # -- one tensor ------------------------------------------------------------------------------------------------
    def send(self, tensor: torch.Tensor, dst: int) -> None:
        self._check_other("dst", dst)
        with self._verb(tensor.nelement(), settles=False):
            self._send_tensors("send", [tensor])

    def recv(self, tensor: torch.Tensor, src: int | None = None) -> torch.Tensor:
        self._check_other("src", 1 - self.rank if src is None else src)
        with self._verb(tensor.nelement()):
            return self._receive_tensors("send", [tensor])[0]

    def isend(self, tensor: torch.Tensor, dst: int) -> Pending:
        self.send(tensor, dst)
        return Pending()

    def irecv(self, tensor: torch.Tensor, src: int | None = None) -> Pending:
        self._check_other("src", 1 - self.rank if src is None else src)
        with self._verb(tensor.nelement(), settles=False):
            pending = Pending(self._complete)
            self._late.append((pending, tensor, self.rank))
        return pending

    def broadcast(self, input: Any, src: int, group: Any = None, batched: bool = False) -> Any:
        """Give both parties the source's tensors, in place."""
        tensors = _listed(input, batched)
        self._check_party("src", src)
        with self._verb(sum(t.nelement() for t in tensors)):
            if self.rank == src:
                self._send_tensors("broadcast", tensors)
            else:
                found = self._receive_tensors("broadcast", [t.data for t in tensors])
                for t, new in zip(tensors, found, strict=True):
                    t.data.copy_(new)
        return input

    def scatter(self, scatter_list: list[torch.Tensor], src: int, size: Any = None, device: Any = None) -> torch.Tensor:
        """Give each party its tensor of the source's list; another party states the size, or a list of its own."""
        self._check_party("src", src)
        if self.rank == src:
            with self._verb(scatter_list[1 - src].nelement()):
                self._send_tensors("scatter", [scatter_list[1 - src]])
            return scatter_list[src]
        size = scatter_list[self.rank].size() if size is None else size
        with self._verb(torch.Size(size).numel()):
            return self._receive_tensors("scatter", [torch.empty(size, dtype=torch.int64)])[0]

    def gather(self, tensor: torch.Tensor, dst: int) -> list[torch.Tensor | None]:
        """Return both parties' tensors, of one size, at `dst`, and [None] elsewhere."""
        self._check_party("dst", dst)
        self._note([tensor], (dst,))
        with self._verb(tensor.nelement()):
            if self.rank != dst:
                self._send_tensors("gather", [tensor])
                return [None]
            return self._in_order(tensor, self._receive_tensors("gather", [tensor])[0])

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return both parties' tensors, of one size, in the order of their ranks."""
        self._note([tensor], (0, 1))
        with self._verb(2 * tensor.nelement()):
            self._send_tensors("all_gather", [tensor])
            return self._in_order(tensor, self._receive_tensors("all_gather", [tensor])[0])

    def _in_order(self, mine: torch.Tensor, theirs: torch.Tensor) -> list[torch.Tensor]:
        return [mine.clone(), theirs] if self.rank == 0 else [theirs, mine.clone()]

    # -- reductions ------------------------------------------------------------------------------------------------
    def reduce(self, input: Any, dst: int, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """Return both parties' tensors combined, at `dst`, and None elsewhere."""
        tensors, combine = _listed(input, batched), _operation(op)
        self._check_party("dst", dst)
        self._note(tensors, (dst,))
        with self._verb(sum(t.nelement() for t in tensors)):
            if self.rank != dst:
                self._send_tensors("reduce", tensors)
                return None
            theirs = self._receive_tensors("reduce", tensors)
        found = [combine(mine.data, other) for mine, other in zip(tensors, theirs, strict=True)]
        return found if batched else found[0]

    def all_reduce(self, input: Any, op: Any = ReduceOp.SUM, batched: bool = False) -> Any:
        """Return both parties' tensors combined, at both."""
        tensors, combine = _listed(input, batched), _operation(op)
        opened = self._note(tensors, (0, 1))
        with self._verb(2 * sum(t.nelement() for t in tensors)):
            self._send_tensors("all_reduce", tensors, header=opened)
            theirs = self._receive_tensors("all_reduce", tensors, header=opened)
        found = [combine(mine.data, other) for mine, other in zip(tensors, theirs, strict=True)]
        return found if batched else found[0]

    def barrier(self) -> None:
        """Return once the other party has come here too."""
        with self._verb(0):
            self._send_tensors("barrier", [torch.empty(0)])
            self._receive_tensors("barrier", [torch.empty(0)])

    # -- objects ---------------------------------------------------------------------------------------------------
    def send_obj(self, obj: Any, dst: int, group: Any = None) -> None:
        """Send an object of the kinds that `messages` lists. Raises InputError for any other."""
        self._check_other("dst", dst)
        message = torch.frombuffer(bytearray(packed(obj)), dtype=torch.uint8)
        with self._verb(message.numel() / 8, settles=False):
            self._send_tensors("send", [torch.tensor(message.numel(), dtype=torch.int32)])
            self._send_tensors("send", [message])

    def recv_obj(self, src: int, group: Any = None) -> Any:
        """Return the other party's object. Raises ForeignObjectError for bytes that are refused."""
        self._check_other("src", src)
        with self._verb(0):
            length = int(self._receive_tensors("send", [torch.empty((), dtype=torch.int32)])[0])
            if not 0 < length <= LONGEST_OBJECT:
                raise ForeignObjectError(f"{OWNERS[1 - self.rank]} sent an object of {length} bytes; expected less")
            message = self._receive_tensors("send", [torch.empty(length, dtype=torch.uint8)])[0]
        return unpacked(message.numpy().tobytes(), _registered(), OWNERS[1 - self.rank])

    def broadcast_obj(self, obj: Any, src: int, group: Any = None) -> Any:
        """Return the source's object at both parties."""
        self._check_party("src", src)
        if self.rank != src:
            return self.recv_obj(src)
        if obj is None:
            raise InputError("broadcast_obj", None, "an object at its source")
        self.send_obj(obj, 1 - src)
        return obj

    # -- names and counts ------------------------------------------------------------------------------------------
    def get_ttp_rank(self) -> int:
        return self.world_size

    def set_name(self, name: str) -> None:
        assert isinstance(name, str), f"set_name: got {name!r}; expected a text"  # CrypTen's own kind of error
        self._name = name

    def get_name(self) -> str:
        return self._name

    def get_distributed_backend(self) -> str:
        return "mpc_appraisal"

    def reset_communication_stats(self) -> None:
        meter = self.session.meter
        self.comm_rounds = self.comm_bytes = self.comm_time = 0
        self._start = (meter.rounds, meter.bytes_sent + meter.bytes_received, meter.waiting)

    def get_communication_stats(self) -> dict[str, float]:
        """Return rounds, bytes that this party sent and received, and the seconds in which it received."""
        meter = self.session.meter
        now = (meter.rounds, meter.bytes_sent + meter.bytes_received, meter.waiting)
        rounds, size, seconds = (a - b for a, b in zip(now, self._start, strict=True))
        return {"rounds": rounds, "bytes": size, "time": seconds}

    def print_communication_stats(self) -> None:
        import crypten

        found = self.get_communication_stats()
        crypten.log("====Communication Stats====")
        for words, key in (("Rounds", "rounds"), ("Bytes", "bytes"), ("Communication time", "time")):
            crypten.log(f"{words}: {found[key]}")

    @contextmanager
    def _verb(self, elements: float, settles: bool = True) -> Iterator[None]:
        """Take late messages first, and count the verb as CrypTen does while cfg.communicator.verbose is set."""
        if settles:
            self.settle()
        verbose = crypten_adapter.crypten.cfg.communicator.verbose
        if not verbose:
            yield
            return
        self._log_communication(elements)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._log_communication_time(time.perf_counter() - start)

    def _note(self, tensors: Sequence[torch.Tensor], to: tuple[int, ...]) -> bool:
        """Enter an opening into the ledger, and return True; return False for masked values of CrypTen's products."""
        place = _place()
        if place is None:
            return False
        numbers = sum(t.nelement() for t in tensors)
        self.session.ledger.append(Opening(place, tuple(OWNERS[k] for k in to), numbers, "the program opens it"))
        return True

    def openings(self) -> list[dict[str, Any]]:
        """Return what the program has opened so far: the place, the parties that learnt it, and how many numbers."""
        return [opening.as_dict() for opening in self.session.ledger]

    def _check_party(self, name: str, rank: Any) -> None:
        if rank not in (0, 1):
            raise InputError(name, rank, "0 or 1: a program has two owners, and a dealer beside them")

    def _check_other(self, name: str, rank: Any) -> None:
        if rank != 1 - self.rank:
            raise InputError(name, rank, f"{1 - self.rank}, the other of two owners")


def _header(verb: str, size: int) -> torch.Tensor:
    return torch.tensor([VERBS.index(verb), size])


def _octets(tensor: torch.Tensor) -> torch.Tensor:
    flat = tensor.detach().contiguous().reshape(-1)
    return flat.as_strided((flat.numel(),), (1,)).view(torch.uint8)  # a single element may have any stride


def _tensor_of(message: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    whole = message if message.storage_offset() % like.element_size() == 0 else message.clone()
    return whole.view(like.dtype).reshape(like.shape)


def _listed(input: Any, batched: bool) -> list[torch.Tensor]:
    if isinstance(input, list) != batched:
        raise InputError("input", type(input).__name__, "a list of tensors if batched, else a tensor")
    return input if batched else [input]


def _operation(op: Any) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    for each, combine in OPERATIONS.items():
        if op == each:
            return combine
    raise InputError("op", op, "SUM, PRODUCT, MIN, MAX, BAND, BOR or BXOR of torch.distributed.ReduceOp")


def _registered() -> dict[str, type]:
    """Return the classes of modules that the program has registered with CrypTen, by their full names."""
    from crypten.common.serial import RestrictedUnpickler

    known = vars(RestrictedUnpickler)["_RestrictedUnpickler__SAFE_CLASSES"]
    return {k: v for k, v in known.items() if isinstance(v, type) and issubclass(v, torch.nn.Module)}


def _place() -> str | None:
    """Return which function of CrypTen opens a value, and where the program calls it; None for masked values.

    The place is the name of a file and a line, without a folder.
    """
    frame, called = sys._getframe(2), "a reduction"
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module == PROTOCOLS:
            return None
        if not module.startswith(INNER) and module != "crypten":
            return f"{called} at {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        if module.startswith("crypten."):
            called = frame.f_code.co_name
        frame = frame.f_back
    return called
