"""Settings of sessions that run on one machine, which appraisals and the marketplace share.

The fields are the keys of the configuration groups `session=plain` and `session=spawn`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS


@dataclass(frozen=True)
class PlainSettings:
    """Settings of a run in one process, in the clear.

    Attributes:
        engine: It is always 'plaintext'.
    """

    engine: str = "plaintext"
    name = "plain"

    def __post_init__(self):
        if self.engine != "plaintext":
            raise InputError("session.engine", repr(self.engine), "session=spawn or join: plain runs no protocol")


@dataclass(frozen=True)
class SpawnSettings:
    """Settings of a run in which each party is a process on this machine.

    Attributes:
        threads: Each process uses so many torch threads.
        join_timeout: The processes must start within so many seconds.
        timeout: One message may take so many seconds.
        engine: The engine is 'fast', 'stock' (CrypTen as shipped), or 'rtas', whose dealer sees permuted logits.
        logit_bound: It is the public bound on the absolute value of logits. None derives it from the norms that the
            owners announce.
        transport: The transport is 'tcp', 'gloo' or 'tls'; see `Transport`.
        tls: It is the folder that contains the three parties' folders of certificate files.
        freeze_timeout: A party that gives no sign of life for so many seconds counts as lost.
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
