"""What a checked ledger says: accounts with their charges and answers, the policy in force, and what is left to spend.

In goes the path of a ledger; out comes a `State`, or an InputError that names the first bad line. An account is
everything that one counterparty, the party that asks, was charged for and answered. Nothing here changes a file or
takes a lock. `replay` reads every line in order and refuses the first line that the lines before it do not allow.

A new kind of line is entered in `_enter`. Lines of every earlier version have to stay readable, a charge that was
allowed when it was made has to stay allowed, and no question may be left out of an account's epsilon.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget import hash_chain as chain
from mpc_appraisal.governance.budget.accounting import epsilon
from mpc_appraisal.governance.budget.limits import Policy, Question, text

TOLERANCE = 1e-6  # the relative excess that is allowed for an epsilon that another release of the accountant computed


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


@dataclass
class Account:
    """Everything that one counterparty has asked.

    Attributes:
        charges: the charges, by the number of their line.
        answers: the recorded answers, by the number of the charge's line.
        last: the line of the last noised charge, and the policy that was in force then; None before the first.
    """

    charges: dict[int, Charge] = field(default_factory=dict)
    answers: dict[int, Answer] = field(default_factory=dict)
    last: tuple[int, Policy] | None = None

    @property
    def plain(self) -> int:
        """Return the number of values that were charged without noise."""
        return sum(charge.question.mechanism.plain for charge in self.charges.values())

    def epsilon(self, delta: float, *more: Question) -> float:
        """Return the epsilon at `delta` of all noised charges and of `more` together; infinite if too large."""
        asked = [*(charge.question for charge in self.charges.values()), *more]
        try:
            return epsilon((q.mechanism for q in asked if not q.mechanism.plain), delta)
        except ArithmeticError:  # noise of next to nothing
            return math.inf


@dataclass
class State:
    """What a checked ledger says. Whoever shows one certificate key has one account, whatever names it gives.

    Attributes:
        chain: the lines of the file.
        data: the name of the data set, or the names of several.
        policy: the policy that is in force.
        accounts: the accounts, each by the name that its counterparty gave first.
        tears: the numbers of the lines that explain damage before them.
        names: by every name, the first name of the same account.
        identities: by the SHA-256 of every certificate key, the name that its account is stored under.
        check: the digest that the ledger's key must give (see `keys`); None in a ledger older than keys.
        digest: the keyed digest of the data; None where none was recorded.
    """

    chain: chain.Chain
    data: str
    policy: Policy
    accounts: dict[str, Account] = field(default_factory=dict)
    tears: list[int] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    check: str | None = None
    digest: str | None = None

    def account(self, name: str, identity: str | None = None) -> Account:
        """Return what was asked under this name, or under any name by the holder of this certificate key.

        The caller must not change what is returned, because it may be this state's own account.
        """
        first, other = self.names.get(name), self.identities.get(identity or "")
        found = [self.accounts[one] for one in dict.fromkeys((first, other)) if one is not None]
        return found[0] if len(found) == 1 else _joined(found)

    def known_as(self, name: str) -> list[str]:
        """Return all names of the account that `name` belongs to."""
        return [each for each, first in self.names.items() if first == self.names.get(name)]

    def enter(self, name: str, identity: str | None) -> Account:
        """Return the account that a charge belongs to. Two accounts that turn out to be of one key become one."""
        first = self.names.setdefault(name, name)
        account = self.accounts.setdefault(first, Account())
        other = self.identities.get(identity or "", first)
        if other != first:
            self.accounts[other] = _joined([self.accounts[other], self.accounts.pop(first)])
            for names in (self.names, self.identities):
                names.update({each: other for each, old in names.items() if old == first})
            account = self.accounts[other]
        if identity is not None:
            self.identities[identity] = self.names[name]
        return account


def _joined(accounts: Sequence[Account]) -> Account:
    found = Account()
    for account in accounts:
        found.charges |= account.charges
        found.answers |= account.answers
        found.last = max(filter(None, (found.last, account.last)), key=lambda last: last[0], default=None)
    return found


@dataclass(frozen=True)
class Spent:
    """What one counterparty has spent: a row of `budget show`.

    Attributes:
        counterparty: the counterparty's name, or all its names.
        questions, answers: the numbers of its charges and of its recorded answers.
        epsilon, epsilon_left: the epsilon at `delta` of its noised values, and what the policy leaves of it.
        delta: the delta of the policy in force.
        plain, plain_left: the number of values without noise, and how many more the policy allows.
    """

    counterparty: str
    questions: int
    answers: int
    epsilon: float
    epsilon_left: float
    delta: float
    plain: int
    plain_left: int


def recorded(state: State, questions: Sequence[Question], identity: str | None = None) -> list[Answer | None]:
    """Return the recorded answer of each question, or None for a question that would have to be charged.

    Args:
        state: what the ledger says.
        questions: the questions, in the order in which they would be charged.
        identity: the SHA-256 of the counterparty's certificate key, if it showed one.

    Raises InputError where the policy does not allow a charge after the charges before it in the list.
    """
    found: list[Answer | None] = []
    before: dict[str, list[Question]] = {}
    for question in questions:
        account = state.account(question.counterparty, identity)
        answer = next((answer for answer in account.answers.values() if answer.question == question), None)
        if answer is None:
            earlier = before.setdefault(identity or question.counterparty, [])
            check_allowed(state.policy, account, question, earlier)
            earlier.append(question)
        found.append(answer)
    return found


def check_allowed(
    policy: Policy, account: Account, question: Question, earlier: Sequence[Question] = (), spend: bool = True
) -> None:
    """Raise InputError for a question that the policy does not allow.

    Args:
        policy: the policy in force.
        account: the account that the question would be charged to.
        question: the question.
        earlier: the questions that are to be charged to the account before this question.
        spend: True to compose epsilon too, which takes milliseconds.
    """
    who = question.counterparty
    if question.rows < policy.minimum_rows:
        raise InputError("budget.rows", question.rows, f"{policy.minimum_rows} rows or more")
    if question.mechanism.plain:
        plain = account.plain + sum(q.mechanism.plain for q in earlier)
        if plain >= policy.plain_values:
            expected = f"at most {policy.plain_values} values without noise for {who}"
            raise InputError("budget.plain_values", plain + 1, expected)
    elif spend:
        after = account.epsilon(policy.delta, *earlier, question)
        if not after <= policy.epsilon:  # NaN is refused too
            spent = account.epsilon(policy.delta, *earlier)
            expected = f"at most {policy.epsilon:g} at delta {policy.delta:g} for {who}, of which {spent:.4g} is spent"
            raise InputError("budget.epsilon", f"{after:.4g}", expected)


def replay(path: Path) -> State:
    """Read and check a ledger without changing it. Only `verify` composes epsilon too.

    Raises InputError, which names the first bad line, and OSError.
    """
    checked = chain.read(path)
    first = checked.lines[0].entry
    if first is None or first.get("kind") != "open":
        raise chain.bad_line(path, 1, "no opening line", "the line that names data set and policy")
    state: State | None = None
    for line in checked.lines:
        if line.entry is None:
            continue
        try:
            if state is None:
                state = State(checked, text("data", first["data"]), Policy(**first["policy"]))
                state.check, state.digest = first.get("check"), first.get("digest")
            else:
                _enter(state, line)
        except InputError as error:
            raise chain.bad_line(path, line.number, f"{error.name} {error.value}", error.expected) from error
        except (KeyError, TypeError) as error:
            raise chain.bad_line(path, line.number, f"{error}", "the entries of its kind") from error
    return state


def _enter(state: State, line: chain.LedgerLine) -> None:
    entry, kind = line.entry, line.entry.get("kind")
    if kind == "charge":
        question = Question.from_entry(entry)
        account = state.enter(question.counterparty, _identity(entry))
        check_allowed(state.policy, account, question, spend=False)
        account.charges[line.number] = Charge(line.number, line.digest, question)
        if not question.mechanism.plain:
            account.last = line.number, state.policy
    elif kind == "answer":
        number = entry["charge"]
        account = next((a for a in state.accounts.values() if number in a.charges), None)
        if account is None or number in account.answers:
            raise InputError("charge", number, "the line of a charge that was not answered before")
        account.answers[number] = Answer(number, account.charges[number].question, entry["value"], entry.get("mark"))
    elif kind == "policy":
        state.policy = Policy(**entry["policy"])
    elif kind == "tear":
        state.tears.append(line.number)
    else:
        raise InputError("kind", kind, "charge, answer, policy or tear")


def _identity(entry: dict) -> str | None:
    found = entry.get("identity")
    if found is not None and not (isinstance(found, str) and re.fullmatch("[0-9a-f]{64}", found)):
        raise InputError("identity", found, "the SHA-256 of a certificate's key, 64 hex digits")
    return found


def spent(state: State) -> list[Spent]:
    """Return what each counterparty has spent, under all its names."""
    return [replace(spent_by(state, name), counterparty=", ".join(state.known_as(name))) for name in state.accounts]


def spent_by(state: State, counterparty: str, identity: str | None = None) -> Spent:
    """Return what one counterparty, who may have asked nothing yet, has spent under the policy in force."""
    account, policy = state.account(counterparty, identity), state.policy
    value, plain = account.epsilon(policy.delta), account.plain
    counts, left = (len(account.charges), len(account.answers)), max(0.0, policy.epsilon - value)
    return Spent(counterparty, *counts, value, left, policy.delta, plain, max(0, policy.plain_values - plain))


def checked(path: Path) -> State:
    """Do what `replay` does, and turn its OSError into InputError. An append at the same time does not disturb it."""
    try:
        return replay(path)
    except OSError as error:
        raise InputError("ledger", f"{path.name}: {error.strerror}", "a ledger that can be read") from error


def verify(path: str | Path, head: str | None = None) -> State:
    """Check the chain, the charges and the budgets of a ledger, and return what it says.

    Args:
        path: the ledger's file.
        head: a hash that was noted earlier, and that one of the lines must have; None for no such check.

    Raises InputError for the first bad line.
    """
    path = Path(path).resolve()
    state = checked(path)
    for account in state.accounts.values():
        if account.last is not None:
            number, policy = account.last
            value = account.epsilon(policy.delta)
            if value > policy.epsilon * (1 + TOLERANCE):
                raise chain.bad_line(path, number, f"epsilon {value:.6g}", f"at most {policy.epsilon:g}")
    if head is not None and head not in {line.digest for line in state.chain.lines}:
        raise InputError(
            "--head", head, f"the hash of a line of {path.name}, whose last is {state.chain.lines[-1].digest}"
        )
    return state
