"""Settings of the sessions that run on one machine, for appraisals and for the marketplace alike."""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS


@dataclass(frozen=True)
class PlainSettings:
    """Settings of a run in one process, in the clear."""

    engine: str = "plaintext"
    name = "plain"

    def __post_init__(self):
        if self.engine != "plaintext":
            raise InputError("session.engine", repr(self.engine), "session=spawn or join: plain runs no protocol")


@dataclass(frozen=True)
class SpawnSettings:
    """Settings of a run in which every party is a process of its own on this machine.

    Attributes:
        threads: torch threads of each process.
        join_timeout: seconds to wait for the processes to come up.
        timeout: seconds that one message may take.
        engine: 'fast', 'stock' for CrypTen as shipped, or 'rtas', whose dealer sees permuted logits: `protocols.rtas`.
        logit_bound: public bound on |logits|; None derives it from norms that the owners tell.
        transport, tls, freeze_timeout: see `Transport`; `tls` is the folder of all three parties' folders.
    """

    threads: int = 1
    join_timeout: float = 60.0
    timeout: float = 300.0
    engine: str = "fast"
    logit_bound: float | None = None
    transport: str = "tcp"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    name = "spawn"
