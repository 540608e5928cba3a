"""The process group of torch.distributed's gloo, made from a rendezvous, with errors that name the lost party.

In goes a `Rendezvous`, by which the parties have met; out comes torch's global process group, over which `channel` and
the engine stock send. Nothing can interrupt a wait in gloo, and gloo does not notice a frozen party. So after a loss
the sockets that gloo opened are shut down, and the wait ends with an error. That works on Linux; elsewhere the wait
ends by gloo's time-out. Every call that may wait in gloo has to stay inside `PeerErrors`, or its error names nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ROLES, rank_of
from mpc_appraisal.mpc.net.failure import BlockingCalls
from mpc_appraisal.mpc.net.rendezvous import Rendezvous


def open_group(rendezvous: Rendezvous, timeout: float) -> None:
    """Connect the three parties; one message may then take `timeout` seconds.

    Raises:
        PeerError: A party was lost.
        InputError: The environment's GLOO_SOCKET_IFNAME names a network interface that this machine does not have.
    """
    stated = os.environ.get("GLOO_SOCKET_IFNAME", "").strip()
    known = [name for _, name in socket.if_nameindex()]
    if not all(name.strip() in known for name in stated.split(",") if name.strip()):
        expected = f"some of {', '.join(known)}, or to be unset"
        raise InputError("the environment's GLOO_SOCKET_IFNAME", repr(stated), expected)
    if not stated and ("://127." in rendezvous.where or "://localhost" in rendezvous.where):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # parties on one machine use the loopback interface

    def join() -> None:
        dist.init_process_group(
            "gloo",
            store=dist.PrefixStore("gloo", rendezvous.store),
            rank=rank_of(rendezvous.role),
            world_size=len(ROLES),
            timeout=timedelta(seconds=timeout),
        )

    calls = BlockingCalls(rendezvous.check)
    with PeerErrors(rendezvous, "the other parties"), severable(rendezvous):
        calls.call(join)
    calls.end()


@contextmanager
def severable(rendezvous: Rendezvous) -> Iterator[None]:
    """Return a context in which gloo makes connections; a later loss of a party ends all waits on these connections."""
    before = _sockets().values()
    yield
    opened = [name for name in _sockets().values() if name not in before]

    def sever() -> None:
        for descriptor, name in _sockets().items():
            if name in opened:
                with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as s:
                    if not s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):  # a closed listener aborts gloo
                        s.shutdown(socket.SHUT_RDWR)

    rendezvous.when_lost(sever)


def _sockets() -> dict[int, str]:
    """Return the kernel's names of this process's sockets by descriptor, because descriptors are used again."""
    found = {}
    with suppress(OSError):
        for entry in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
    return {descriptor: name for descriptor, name in found.items() if name.startswith("socket:")}


class PeerErrors:
    """A context that turns errors of torch.distributed into PeerError, with the party's name and reason if it gave one.

    Args:
        rendezvous: The connection that knows which party was lost.
        peer: The name of the party that the calls in the context wait for.
    """

    def __init__(self, rendezvous: Rendezvous, peer: str):
        self.rendezvous, self.peer = rendezvous, peer

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, RuntimeError):
            raise self.rendezvous.lost(self.peer) from error
        return False
