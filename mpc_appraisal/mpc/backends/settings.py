"""Settings of sessions that run on one machine, which appraisals and the marketplace share.

In go values of the configuration; out come dataclasses that hold them. The fields are the keys of the configuration
groups `session=plain` and `session=spawn`. A field may be added with a default; a field's name has to stay the key of
the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import INTEGRITY, OFF, ON
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS

# What session.integrity is where nobody states it, by kind of session. The files of conf/session state the same.
INTEGRITY_DEFAULTS = {"spawn": OFF, "join": OFF}


def checks_messages(stated: Any) -> bool:
    """Return whether the owners check each other's messages, from the value of session.integrity.

    YAML reads a bare on or off as true or false, so that both spellings count. Raises InputError for any other value.
    """
    if isinstance(stated, bool):
        return stated
    if stated in (ON, OFF):
        return stated == ON
    raise InputError(INTEGRITY, shown(repr(stated)), f"{ON} or {OFF}")


def refuse_integrity(session: Any, what: str) -> None:
    """Raise InputError where the settings `session` ask for the check of messages in `what`, which has none."""
    if checks_messages(getattr(session, "integrity", False)):
        raise InputError(INTEGRITY, f"{ON} for {what}", f"{OFF}: the check of messages covers appraisals alone")


@dataclass(frozen=True)
class PlainSettings:
    """Settings of a run in one process, in the clear.

    Attributes:
        engine: Always 'plaintext'; any other value raises InputError.
    """

    engine: str = "plaintext"
    name = "plain"

    def __post_init__(self):
        if self.engine != "plaintext":
            raise InputError("engine", repr(self.engine), "plaintext, or session=spawn or join: plain runs no protocol")


@dataclass(frozen=True)
class SpawnSettings:
    """Settings of a run in which each party is a process on this machine.

    Attributes:
        threads: How many torch threads each process uses, an integer from 1 to 1024; InputError refuses any other.
        join_timeout: The seconds within which the processes must start.
        timeout: The seconds that one message may take.
        engine: 'fast', 'stock' (CrypTen as shipped), or 'rtas', whose dealer sees permuted logits.
        logit_bound: The public bound on the absolute value of logits. None derives the bound from the norms that the
            owners announce, and so does 'auto', by which a softmax needs no bound where training may leave it.
        transport: 'tcp', 'gloo' or 'tls'; see `Transport`.
        tls: The folder that contains the three parties' folders of certificate files; only 'tls' needs it.
        freeze_timeout: The seconds without a sign of life after which a party counts as lost.
        integrity: Whether the owners check all of each other's messages before a value is opened: 'on' or True, 'off'
            or False; InputError refuses any other.
    """

    threads: int = 1
    join_timeout: float = 60.0
    timeout: float = 300.0
    engine: str = "fast"
    logit_bound: float | str | None = "auto"
    transport: str = "tcp"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    integrity: bool | str = INTEGRITY_DEFAULTS["spawn"]
    name = "spawn"

    def __post_init__(self):
        integer("threads", self.threads, 1, 1024)
        checks_messages(self.integrity)
