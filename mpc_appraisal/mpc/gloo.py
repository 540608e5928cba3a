"""torch.distributed's gloo, joined to a rendezvous: the process group, and its errors with a name."""

from __future__ import annotations

import os
from datetime import timedelta

import torch.distributed as dist

from mpc_appraisal.errors import PeerError
from mpc_appraisal.mpc.rendezvous import Rendezvous
from mpc_appraisal.mpc.roles import ROLES, rank_of


def open_group(rendezvous: Rendezvous, timeout: float) -> None:
    """Connect the three parties; raises PeerError if one is lost on the way."""
    if "://127." in rendezvous.where or "://localhost" in rendezvous.where:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # parties on one machine talk over loopback alone
    with PeerErrors(rendezvous, "the other parties"):
        dist.init_process_group(
            "gloo",
            store=dist.PrefixStore("gloo", rendezvous.store),
            rank=rank_of(rendezvous.role),
            world_size=len(ROLES),
            timeout=timedelta(seconds=timeout),
        )


class PeerErrors:
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
