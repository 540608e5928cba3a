"""What the child processes of test_ledger.py and test_ledger_set.py do; importing it costs little."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.accounting import Mechanism, warm_up
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.governance.budget.state import Charge

warm_up()
CALLS = ("open", "write", "fsync", "close", "replace")


def question(subject: str, counterparty: str = "acme", sigma: float | None = None, rows: int = 500) -> Question:
    """A plain question, or one with Gaussian noise."""
    noise = Mechanism("gaussian", sigma=sigma) if sigma else Mechanism()
    return Question(counterparty, "influence", rows, subject, noise)


def charge_forever(path: Path, name: str, report: Connection) -> None:
    """Charge and settle question after question; each charge granted is a line on the pipe before anything else."""
    ledger = Ledger(path)
    for k in count():
        granted = ledger.charge(question(f"{name} {k}"))
        os.write(report.fileno(), f"{granted.line} {granted.digest} {granted.question.subject}\n".encode())
        ledger.settle(granted, k)


def charge_until_refused(path: Path, name: str, report: Connection, sigma: float | None) -> None:
    """The same until the budget or the cap is spent, but every other charge is not settled."""
    ledger = Ledger(path)
    try:
        for k in count():
            granted = ledger.charge(question(f"{name} {k}", sigma=sigma))
            os.write(report.fileno(), f"{granted.line} {granted.digest} {granted.question.subject}\n".encode())
            if k % 2:
                ledger.settle(granted, k)
    except InputError as error:
        os.write(report.fileno(), f"refused {error.name}\n".encode())


def charge_all_until_refused(path: Path, name: str, report: Connection, sigma: float | None, size: int) -> None:
    """The same with `size` questions at once, of which the first is settled."""
    ledger = Ledger(path)
    try:
        for k in count():
            granted = ledger.charge_all([question(f"{name} {k} {i}", sigma=sigma) for i in range(size)])
            lines = [f"{one.line} {one.digest} {one.question.subject}\n" for one in granted]
            os.write(report.fileno(), "".join(lines).encode())
            ledger.settle(granted[0], k)
    except InputError as error:
        os.write(report.fileno(), f"refused {error.name}\n".encode())


def stopped_at(
    path: Path,
    stop: int,
    report: Connection,
    manner: str,
    size: int = 1,
    clock: Callable[[], datetime] | None = None,
) -> None:
    """Charge and settle one question, or `size` at once ("the one", "the one 1", ...); at the system call number `stop`
    of those that concern the ledger, kill -9.

    manner: before or after the call, or half: after half of what is to be written (before it, for other calls).
    """
    made = 0
    real = {name: getattr(os, name) for name in CALLS}

    def counted(name: str):
        def call(*arguments, **named):
            nonlocal made
            made += 1
            if made != stop:
                return real[name](*arguments, **named)
            with suppress(OSError):  # the lock's file may be there already
                if manner == "half" and name == "write":
                    real[name](arguments[0], arguments[1][: len(arguments[1]) // 2])
                elif manner == "but one" and name == "write":
                    real[name](arguments[0], arguments[1][:-1])
                elif manner == "after":
                    real[name](*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        return call

    write = os.write
    for name in CALLS:
        setattr(os, name, counted(name))
    ledger = Ledger(path, data="seller", **({} if clock is None else {"clock": clock}))
    asked = [question(f"the one {k}" if k else "the one") for k in range(size)]
    granted = [ledger.charge(asked[0])] if size == 1 else ledger.charge_all(asked)
    charged = [one for one in granted if isinstance(one, Charge)]
    lines = [f"{one.line} {one.digest} {one.question.subject}\n" for one in charged]
    write(report.fileno(), "".join(lines).encode())
    for one in charged:
        ledger.settle(one, 0.25)
    write(report.fileno(), b"ended\n")


def charge_at(path: Path, name: str, report: Connection, clock: Callable[[], datetime], sigma: float | None) -> None:
    """Charge question after question at the time of `clock` until one is refused; each charge granted is a line."""
    ledger = Ledger(path, clock=clock)
    try:
        for k in count():
            granted = ledger.charge(question(f"{name} {k}", sigma=sigma))
            os.write(report.fileno(), f"{granted.line} {granted.digest} {granted.question.subject}\n".encode())
    except InputError as error:
        os.write(report.fileno(), f"refused {error.name}\n".encode())
