"""Everything that one counterparty was charged for and answered: its charges, answers and what has to be verified.

In go the charges of a ledger, one after the other; out come sums over the lines from a given number on. A budget that
renews counts the charges of its period, which begin at a line, and a lifetime limit counts all of them. No charge is
ever forgotten. A `Checkpoint` is the last noised charge of a period: what was spent then has to be within the policy
that was in force then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mpc_appraisal.governance.budget.accounting import epsilon
from mpc_appraisal.governance.budget.limits import Policy, Question


@dataclass(frozen=True)
class Charge:
    """A permission to open one value, which has been paid for.

    Attributes:
        line: the number of the ledger's line that records the charge.
        digest: the SHA-256 of that line, 64 hex digits.
        question: the question that the value answers.
    """

    line: int
    digest: str
    question: Question


@dataclass(frozen=True)
class Answer:
    """The recorded answer to a question.

    Attributes:
        line: the number of the line that records the charge.
        question: the question that is answered.
        value: the value that `Ledger.settle` was given, as JSON holds it.
        mark: a text by which the owner recognises a repeated question whose own fields do not show the repetition (see
            `LedgerSet.marked`); None where there is no such text.
    """

    line: int
    question: Question
    value: Any
    mark: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The last noised charge of a period, and what is compared with the limits there.

    Attributes:
        line: the number of the charge's line.
        policy: the policy that was in force then.
        since: the number of the line from which charges counted in that period.
        charges: the account's charges up to the line, where they are kept; empty for all that the account holds.
    """

    line: int
    policy: Policy
    since: int
    charges: tuple[Charge, ...] = ()


@dataclass
class Account:
    """Everything that one counterparty has asked.

    Attributes:
        charges: the charges, by the number of their line.
        answers: the recorded answers, by the number of the charge's line.
        last: the last noised charge; None before the first, and after two accounts became one.
        earlier: the last noised charges of earlier periods, with all charges that were made until then.
    """

    charges: dict[int, Charge] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    last: Checkpoint | None = None
    earlier: tuple[Checkpoint, ...] = ()

    def counted(self, since: int = 0) -> list[Question]:
        """Return the questions that were charged from the line `since` on."""
        return [charge.question for line, charge in self.charges.items() if line >= since]

    def plain(self, since: int = 0) -> int:
        """Return the number of values that were charged without noise from the line `since` on."""
        return sum(question.mechanism.plain for question in self.counted(since))

    def epsilon(self, delta: float, *more: Question, since: int = 0) -> float:
        """Return the epsilon at `delta` of the noised charges from the line `since` on and of `more` together.

        It is infinite if it is too large for a number.
        """
        return epsilon_of([*self.counted(since), *more], delta)

    def enter(self, charge: Charge, policy: Policy, since: int) -> None:
        """Add a charge that `policy` allowed where charges counted from the line `since` on."""
        self.charges[charge.line] = charge
        if not charge.question.mechanism.plain:
            if self.last is not None and self.last.since != since:
                self.earlier = self.closed()
            self.last = Checkpoint(charge.line, policy, since)

    def closed(self) -> tuple[Checkpoint, ...]:
        """Return all checkpoints, each with the charges of this account that were made until then."""
        if self.last is None:
            return self.earlier
        kept = tuple(charge for line, charge in self.charges.items() if line <= self.last.line)
        return (*self.earlier, Checkpoint(self.last.line, self.last.policy, self.last.since, kept))


def epsilon_of(questions: Sequence[Question], delta: float) -> float:
    """Return the epsilon at `delta` of all noised questions together; infinite if it is too large for a number."""
    try:
        return epsilon((q.mechanism for q in questions if not q.mechanism.plain), delta)
    except ArithmeticError:  # noise of next to nothing
        return math.inf


def joined(accounts: Sequence[Account]) -> Account:
    """Return one account of several, whose checkpoints stay what each account was allowed by itself."""
    found = Account()
    for account in accounts:
        found.charges |= account.charges
        found.answers |= account.answers
        found.earlier += account.closed()
    return found
