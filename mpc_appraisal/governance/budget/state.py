"""What a checked ledger says: accounts with their charges and answers, the policy in force, and what is left to spend.

In goes the path of a ledger; out comes a `State`, or an InputError that names the first bad line. An account is
everything that one counterparty, the party that asks, was charged for and answered. Nothing here changes a file or
takes a lock. `replay` reads every line in order and refuses the first line that the lines before it do not allow.

A budget whose policy states a calendar renews by the times of the lines: the first line of a new period is where the
limits of the period begin to count. The time of a line is taken for the latest that any line up to it states, so that a
clock that is set back gives no budget back. A clock that is set forward renews a budget early, once.

A new kind of line is entered in `_enter`. Lines of every earlier version have to stay readable, a charge that was
allowed when it was made has to stay allowed, and no question may be left out of an account's epsilon.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget import hash_chain as chain
from mpc_appraisal.governance.budget.accounts import Account, Answer, Charge, Checkpoint, epsilon_of, joined
from mpc_appraisal.governance.budget.calendar import NEVER, next_start, period_of, read_time
from mpc_appraisal.governance.budget.limits import Policy, Question, text

TOLERANCE = 1e-6  # the relative excess that is allowed for an epsilon that another release of the accountant computed


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
        time: the latest time that a line states, or the one that `at` was given if that is later.
        period: the name of the period that holds `time` (see `calendar`); '' where the budget does not renew.
        since: the number of the line from which charges count against the limits of the period.
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
    time: datetime | None = None
    period: str = ""
    since: int = 0

    def at(self, now: datetime) -> State:
        """Return what this state is at the time `now`, when another period may have begun. This state does not change.

        A time before the last line's is taken for the last line's, so that no clock that is set back gives anything
        back.
        """
        other = copy.copy(self)
        other.move(now, len(self.chain.lines) + 1)
        return other

    def move(self, time: datetime, line: int) -> None:
        """Take the time of the line of this number, at which another period may begin."""
        self.time = time if self.time is None else max(self.time, time)
        period = period_of(self.policy.renews, self.time)
        if period != self.period:
            self.period, self.since = period, line

    def amend(self, policy: Policy) -> None:
        """Put another policy in force. What counted before the change counts on until the next period begins.

        Charges of the new calendar's own period count too, even if the old calendar had begun another one since. Under
        a policy that never renews all charges count.
        """
        self.policy, self.period = policy, period_of(policy.renews, self.time)
        self.since = 0 if policy.renews == NEVER else min(self.since, self._first_line())

    def _first_line(self) -> int:
        """Return the number of the line with which the current period of the policy's calendar began."""
        latest = self.time
        for line in (line for line in self.chain.lines if line.entry is not None):
            stated = read_time(line.entry["time"])
            latest = stated if line.number == 1 else max(latest, stated)
            if period_of(self.policy.renews, latest) == self.period:
                return line.number
        return 0

    def account(self, name: str, identity: str | None = None) -> Account:
        """Return what was asked under this name, or under any name by the holder of this certificate key.

        The caller must not change what is returned, because it may be this state's own account.
        """
        first, other = self.names.get(name), self.identities.get(identity or "")
        found = [self.accounts[one] for one in dict.fromkeys((first, other)) if one is not None]
        return found[0] if len(found) == 1 else joined(found)

    def known_as(self, name: str) -> list[str]:
        """Return all names of the account that `name` belongs to."""
        return [each for each, first in self.names.items() if first == self.names.get(name)]

    def enter(self, name: str, identity: str | None) -> Account:
        """Return the account that a charge belongs to. Two accounts that turn out to be of one key become one."""
        first = self.names.setdefault(name, name)
        account = self.accounts.setdefault(first, Account())
        other = self.identities.get(identity or "", first)
        if other != first:
            self.accounts[other] = joined([self.accounts[other], self.accounts.pop(first)])
            for names in (self.names, self.identities):
                names.update({each: other for each, old in names.items() if old == first})
            account = self.accounts[other]
        if identity is not None:
            self.identities[identity] = self.names[name]
        return account


@dataclass(frozen=True)
class Spent:
    """What one counterparty has spent: a row of `budget show`.

    Attributes:
        counterparty: the counterparty's name, or all its names.
        questions, answers: the numbers of its charges and of its recorded answers.
        epsilon, epsilon_left: the epsilon at `delta` of the period's noised values, and what the policy leaves of it.
        delta: the delta of the policy in force.
        plain, plain_left: the number of values without noise of the period, and how many more the policy allows.
        epsilon_total, plain_total: the same over all periods. Privacy loss adds up over periods, so that this is what
            was really lost.
        renews, period, renews_at: the calendar, the name of the period and the start of the next one; 'never', '' and
            None for a budget that never renews.
    """

    counterparty: str
    questions: int
    answers: int
    epsilon: float
    epsilon_left: float
    delta: float
    plain: int
    plain_left: int
    epsilon_total: float
    plain_total: int
    renews: str = NEVER
    period: str = ""
    renews_at: datetime | None = None


def recorded(state: State, questions: Sequence[Question], identity: str | None = None) -> list[Answer | None]:
    """Return the recorded answer of each question, or None for a question that would have to be charged.

    Args:
        state: what the ledger says at the time of the questions (`State.at`).
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
            check_allowed(state.policy, account, question, earlier, since=state.since)
            earlier.append(question)
        found.append(answer)
    return found


def check_allowed(
    policy: Policy,
    account: Account,
    question: Question,
    earlier: Sequence[Question] = (),
    spend: bool = True,
    since: int = 0,
) -> None:
    """Raise InputError for a question that the policy does not allow.

    Args:
        policy: the policy in force.
        account: the account that the question would be charged to.
        question: the question.
        earlier: the questions that are to be charged to the account before this question.
        spend: True to compose epsilon too, which takes milliseconds.
        since: the number of the line from which charges count against the limits of the period.
    """
    who = question.counterparty
    if question.rows < policy.minimum_rows:
        raise InputError("budget.rows", question.rows, f"{policy.minimum_rows} rows or more")
    each = "" if policy.renews == NEVER else f" in each period ({policy.renews})"
    limits = [(policy.plain_values, policy.epsilon, since, each)]
    limits.append((policy.lifetime_plain_values, policy.lifetime_epsilon, 0, " over all periods"))
    for values, most, start, when in limits:
        if question.mechanism.plain and values is not None:
            plain = account.plain(start) + sum(q.mechanism.plain for q in earlier)
            if plain >= values:
                expected = f"at most {values} values without noise for {who}{when}"
                raise InputError("budget.plain_values", plain + 1, expected)
        elif not question.mechanism.plain and spend and most is not None:
            after = account.epsilon(policy.delta, *earlier, question, since=start)
            if not after <= most:  # NaN is refused too
                spent = account.epsilon(policy.delta, *earlier, since=start)
                expected = f"at most {most:g} at delta {policy.delta:g} for {who}{when}, of which {spent:.4g} is spent"
                raise InputError("budget.epsilon", f"{after:.4g}", expected)


def replay(path: Path) -> State:
    """Read and check a ledger without changing it. Only `verify` composes epsilon too.

    Raises InputError, which names the first bad line, and OSError.
    """
    *_, (_, state) = history(path)
    return state


def history(path: Path) -> Iterator[tuple[chain.LedgerLine, State]]:
    """Yield each readable line of a ledger with what the ledger says after it, in one state that grows.

    Raises what `replay` raises.
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
                state.move(read_time(first["time"]), 0)
            else:
                state.move(read_time(line.entry["time"]), line.number)
                _enter(state, line)
        except InputError as error:
            raise chain.bad_line(path, line.number, f"{error.name} {error.value}", error.expected) from error
        except (KeyError, TypeError) as error:
            raise chain.bad_line(path, line.number, f"{error}", "the entries of its kind") from error
        yield line, state


def _enter(state: State, line: chain.LedgerLine) -> None:
    entry, kind = line.entry, line.entry.get("kind")
    if kind == "charge":
        question = Question.from_entry(entry)
        account = state.enter(question.counterparty, _identity(entry))
        check_allowed(state.policy, account, question, spend=False, since=state.since)
        account.enter(Charge(line.number, line.digest, question), state.policy, state.since)
    elif kind == "answer":
        number = entry["charge"]
        account = next((a for a in state.accounts.values() if number in a.charges), None)
        if account is None or number in account.answers:
            raise InputError("charge", number, "the line of a charge that was not answered before")
        account.answers[number] = Answer(number, account.charges[number].question, entry["value"], entry.get("mark"))
    elif kind == "policy":
        state.amend(Policy(**entry["policy"]))
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
    account, policy, since = state.account(counterparty, identity), state.policy, state.since
    value, plain = account.epsilon(policy.delta, since=since), account.plain(since)
    total, plain_total = account.epsilon(policy.delta), account.plain()
    left, plain_left = policy.epsilon - value, policy.plain_values - plain
    if policy.lifetime_epsilon is not None:
        left = min(left, policy.lifetime_epsilon - total)
    if policy.lifetime_plain_values is not None:
        plain_left = min(plain_left, policy.lifetime_plain_values - plain_total)
    return Spent(
        counterparty=counterparty,
        questions=len(account.charges),
        answers=len(account.answers),
        epsilon=value,
        epsilon_left=max(0.0, left),
        delta=policy.delta,
        plain=plain,
        plain_left=max(0, plain_left),
        epsilon_total=total,
        plain_total=plain_total,
        renews=policy.renews,
        period=state.period,
        renews_at=None if state.time is None else next_start(policy.renews, state.time),
    )


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
        for point in account.closed():
            _check_spent(path, point)
    if head is not None and head not in {line.digest for line in state.chain.lines}:
        raise InputError(
            "--head", head, f"the hash of a line of {path.name}, whose last is {state.chain.lines[-1].digest}"
        )
    return state


def _check_spent(path: Path, point: Checkpoint) -> None:
    """Compare what was spent at a checkpoint with the policy of that time; raise InputError where it is too much."""
    policy = point.policy
    for most, since in ((policy.epsilon, point.since), (policy.lifetime_epsilon, 0)):
        asked = [charge.question for charge in point.charges if charge.line >= since]
        if most is not None and (value := epsilon_of(asked, policy.delta)) > most * (1 + TOLERANCE):
            raise chain.bad_line(path, point.line, f"epsilon {value:.6g}", f"at most {most:g}")
