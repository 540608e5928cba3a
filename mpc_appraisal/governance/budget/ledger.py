"""The privacy budget of one data set: charged before a value is opened, never given back.

    ledger = Ledger("seller.ledger", data="seller 2026", policy=Policy(epsilon=2.0))
    granted = ledger.charge(Question("acme", "influence", rows, subject, Mechanism("gaussian", sigma=5.0)))
    if isinstance(granted, Charge):
        ... open the value ...
        ledger.settle(granted, value)

In go questions of a counterparty, which is the party that asks; out comes, for each, a `Charge` (the permission to open
the value) or the recorded `Answer`. A charge whose session failed stays charged, because the value may have been
opened; the same question, asked again, is charged again. A question that was answered is answered from the record
without a charge. A budget renews only where its policy states a calendar: charges of earlier periods then count no
longer against the limits of a period, and stay in the file. Several questions at once (`consult`, `charge_all`) are
granted all or none. `state.py` reads what a ledger says, and `hash_chain.py` explains why no kill and no second process
loses a charge.

A field may be added to a line. No line may ever be removed or rewritten, a charge has to be on the disk before it is
returned, and every change has to be made under the lock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget import hash_chain as chain
from mpc_appraisal.governance.budget.accounting import warm_up
from mpc_appraisal.governance.budget.calendar import read_time
from mpc_appraisal.governance.budget.keys import key_of, keyed, twins
from mpc_appraisal.governance.budget.limits import Policy, Question, text
from mpc_appraisal.governance.budget.state import Answer, Charge, checked, recorded, replay

TOGETHER = " + "  # between the names of data sets that have one ledger


class Ledger:
    """The ledger in the file `path`, which is made if it is not there.

    Args:
        path: the ledger's file.
        data: the name of the data set. A new ledger needs it, and an old ledger must have it. A ledger of several
            candidates (data sets that are appraised) is called by all their names, with " + " between them, and fits
            each.
        policy: the policy of a new ledger, by default `Policy()`. An old ledger must have the same policy where one is
            stated; `amend` changes it.
        clock: a function that returns the time with its zone.
        content: a function that returns the digest of the data. A new ledger records the digest under its own key.

    Attributes:
        twins: the names of ledgers of the same data that lay beside this one when it was made.

    Raises InputError for a ledger that cannot be read or written, or that was tampered with.
    """

    twins: Sequence[str] = ()

    def __init__(
        self,
        path: str | Path,
        data: str | None = None,
        policy: Policy | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        content: Callable[[], str] | None = None,
    ):
        self.path, self._clock = Path(path).resolve(), clock  # resolved: one file has one lock
        if data is not None:
            text("ledger.data", data)
        with chain.locked(self.path):
            if not self.path.exists() and not chain.beside(self.path, ".head").exists():
                if data is None:
                    raise InputError("ledger.data", None, f"the data set's name: {self.path.name} is new")
                key = key_of(self.path)
                entry = {"kind": "open", "time": self._now(), "data": data, "policy": (policy or Policy()).entry()}
                entry |= {"check": keyed(key, "check", "")}
                if content is not None:
                    found = content()
                    entry["digest"], self.twins = keyed(key, "data", found), twins(self.path, found)
                chain.create(self.path, entry)
            state = replay(self.path)
        if data is not None and not set(data.split(TOGETHER)) <= set(state.data.split(TOGETHER)):
            raise InputError("ledger.data", repr(data), f"{state.data!r}, whose ledger {self.path.name} is")
        if policy is not None and policy != state.policy:
            keys = [key for key, value in asdict(policy).items() if value != getattr(state.policy, key)]
            stated, held = (", ".join(f"{key}={getattr(p, key)}" for key in keys) for p in (policy, state.policy))
            expected = f"{held}, which is in force in {self.path.name}; change it with `mpc-appraisal budget set`"
            raise InputError("ledger.policy", stated, expected)

    @property
    def keyed(self) -> bool:
        """Return whether the ledger was made with a key, so that no question in it holds a hash without a key."""
        return checked(self.path).check is not None

    def key(self) -> tuple[bytes, bool]:
        """Return the ledger's key (see `keys`), and whether it is the one that the ledger was made with."""
        with chain.locked(self.path):
            key, check = key_of(self.path), replay(self.path).check
        return key, check in (None, keyed(key, "check", ""))

    def consult(self, questions: Sequence[Question], identity: str | None = None) -> list[Answer | None]:
        """Return the recorded answer of each question, or None for one that `charge_all` would charge.

        Nothing is changed.

        Args:
            questions: the questions, in the order in which they would be charged.
            identity: the SHA-256 of the counterparty's certificate key, if it showed one.

        Raises InputError where charging the questions one after the other would be refused. Charges that other
        processes make in the meantime are not foreseen.
        """
        return recorded(checked(self.path).at(self.now()), questions, identity)

    def charge(self, question: Question) -> Charge | Answer:
        """Charge a question and return the permission to open its answer, or return the answer that is recorded.

        Raises InputError, and then nothing is granted: for too few rows, for a charge beyond the budget or the cap, and
        for a ledger that cannot be written or was tampered with.
        """
        return self.charge_all([question])[0]

    def charge_all(self, questions: Sequence[Question], identity: str | None = None) -> list[Charge | Answer]:
        """Charge the questions in order, as `charge` does: either all are granted or, with an InputError, none.

        A refusal comes before anything is written. A kill or a full disk in the middle leaves the first questions
        charged and not granted. A question without an answer that stands twice in the list is charged twice.
        """
        if any(not question.mechanism.plain for question in questions):
            warm_up()
        with chain.locked(self.path):
            state, now = replay(self.path), self._now()
            granted: list[Charge | Answer | None] = [*recorded(state.at(read_time(now)), questions, identity)]
            links = state.chain
            for k, question in enumerate(questions):
                if granted[k] is None:
                    entry = {"kind": "charge", "time": now, **asdict(question), "question": question.digest}
                    entry |= {} if identity is None else {"identity": identity}
                    links = chain.append(self.path, links, entry)
                    granted[k] = Charge(links.lines[-1].number, links.lines[-1].digest, question)
        return granted

    def settle(self, charge: Charge, value: Any, mark: str | None = None) -> Answer:
        """Record the value that was opened for `charge`. Repeating the call changes nothing.

        Args:
            charge: a charge of this ledger.
            value: any finite JSON value.
            mark: a text by which the owner recognises a repeated question, see `Answer`.

        Returns the recorded answer. Raises InputError for a charge of another ledger, and for a second value that
        differs.
        """
        try:
            value = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputError("answer", value, f"finite numbers, texts, lists and dictionaries ({error})") from error
        with chain.locked(self.path):
            state = replay(self.path)
            account = state.account(charge.question.counterparty)
            if account.charges.get(charge.line) != charge:
                raise InputError("charge", f"line {charge.line}", f"a charge of {self.path.name}")
            settled = account.answers.get(charge.line)
            if settled is not None and settled.value != value:
                raise InputError("answer", value, f"{settled.value}, which line {charge.line} was settled with")
            if settled is None:
                entry = {"kind": "answer", "time": self._now(), "charge": charge.line, "value": value}
                entry |= {} if mark is None else {"mark": mark}
                chain.append(self.path, state.chain, entry)
        return Answer(charge.line, charge.question, value, mark)

    def amend(self, policy: Policy | None = None, **limits: Any) -> tuple[Policy, Policy]:
        """Put another policy in force, or the old policy with some limits changed; return the old and the new policy.

        The ledger keeps both, and what is spent stays spent. If the new policy renews otherwise, everything that
        counted so far counts on until the new calendar's next period begins.
        """
        with chain.locked(self.path):
            state = replay(self.path)
            new = replace(state.policy if policy is None else policy, **limits)
            if new != state.policy:
                chain.append(self.path, state.chain, {"kind": "policy", "time": self._now(), "policy": new.entry()})
        return state.policy, new

    def now(self) -> datetime:
        """Return the time of this ledger's clock in UTC, to the second. Raises InputError for a time without a zone."""
        now = self._clock()
        if now.tzinfo is None:
            raise InputError("clock", now, "a time with its zone")
        return now.astimezone(timezone.utc).replace(microsecond=0)

    def _now(self) -> str:
        return self.now().isoformat(timespec="seconds")
