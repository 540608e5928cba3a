"""Settings of sessions that run on one machine, which appraisals and the marketplace share.

In go values of the configuration; out come dataclasses that hold them. The fields are the keys of the configuration
groups `session=plain` and `session=spawn`. `check_connection` serves `session=join` too. A field may be added with a
default; a field's name has to stay the key of the configuration.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from mpc_appraisal.common.checks import integer, number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import INTEGRITY, OFF, ON
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.backends.registry import ENGINES
from mpc_appraisal.mpc.net.failure import FREEZE_SECONDS
from mpc_appraisal.mpc.net.transport import TRANSPORTS, check_seconds

AUTO = "auto"

# What session.integrity is where nobody states it, by kind of session. The files of conf/session state the same.
INTEGRITY_DEFAULTS = {"spawn": OFF, "join": OFF}


def checks_messages(stated: Any, name: str = INTEGRITY) -> bool:
    """Return whether the owners check each other's messages, from the value of session.integrity.

    YAML reads a bare on or off as true or false, so that both spellings count. Raises InputError for any other value.
    """
    if isinstance(stated, bool):
        return stated
    if stated in (ON, OFF):
        return stated == ON
    raise InputError(name, shown(repr(stated)), f"{ON} or {OFF}")


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
        threads: How many torch threads each process uses, an integer from 1 to 1024.
        join_timeout: The seconds within which the processes must start.
        timeout: The seconds that one message may take.
        engine: 'fast', 'stock' (CrypTen as shipped), or 'rtas', whose dealer sees permuted logits.
        logit_bound: The public bound on the absolute value of logits. None derives the bound from the norms that the
            owners announce, and so does 'auto', by which a softmax needs no bound where training may leave it.
        transport: 'tcp', 'gloo' or 'tls'; see `Transport`.
        tls: The folder that contains the three parties' folders of certificate files; only 'tls' needs it.
        freeze_timeout: The seconds without a sign of life after which a party counts as lost.
        integrity: Whether the owners check all of each other's messages before a value is opened: 'on' or True, 'off'
            or False.

    Raises InputError, which names the field, for a setting that does not fit.
    """

    threads: int = 1
    join_timeout: float = 60.0
    timeout: float = 300.0
    engine: str = "fast"
    logit_bound: float | str | None = AUTO
    transport: str = "tcp"
    tls: str | None = None
    freeze_timeout: float = FREEZE_SECONDS
    integrity: bool | str = INTEGRITY_DEFAULTS["spawn"]
    name = "spawn"

    def __post_init__(self):
        integer("threads", self.threads, 1, 1024)
        check_connection(self)
        object.__setattr__(self, "integrity", checks_messages(self.integrity, "integrity"))


def check_connection(session: Any) -> None:
    """Raise InputError, which names the field, for a setting of `SpawnSettings` or `Join` that does not fit.

    The settings of engine, bound, transport and times are checked; no file is read.
    """
    one_of("engine", session.engine, ENGINES)
    one_of("transport", session.transport, TRANSPORTS)
    if session.engine == "stock" and session.transport == "tls":
        raise InputError("transport", repr(session.transport), "gloo with engine=stock")
    times = {key: getattr(session, key) for key in ("join_timeout", "timeout", "freeze_timeout")}
    check_seconds("", **times)
    if session.logit_bound is not None and session.logit_bound != AUTO:
        number("logit_bound", session.logit_bound, f"a number above 0, null or {AUTO}", above=0)
    if session.tls is not None and not isinstance(session.tls, (str, os.PathLike)):
        raise InputError("tls", repr(session.tls), "the path of a folder, or null")
