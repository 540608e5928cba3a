"""The process group of torch.distributed's gloo, made from a rendezvous, with errors that name the lost party.

Nothing can interrupt a wait in gloo, and gloo does not notice a frozen party. So after a loss the sockets that gloo
opened are shut down, and the wait ends with an error. That works on Linux; elsewhere the wait ends by gloo's time-out.
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
    """Connect the three parties. Raises PeerError if one is lost, and InputError for a wrong GLOO_SOCKET_IFNAME."""
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
    """Within the block gloo makes connections. A later loss ends all waits on them."""
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
    """Turns errors of torch.distributed into PeerError, with the name of the party and its reason if it gave one."""

    def __init__(self, rendezvous: Rendezvous, peer: str):
        self.rendezvous, self.peer = rendezvous, peer

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, RuntimeError):
            raise self.rendezvous.lost(self.peer) from error
        return False
