"""The ledger set: all ledgers that one party charges in one appraisal.

A ledger is the file in which an owner records what was asked of its data or model, and a candidate is a data set that
is appraised. In go questions by method and candidate; out come permissions to open a value, or recorded answers. The
set is consulted before the other party is met, charged before a value is opened, and settled afterwards:

    ledgers = LedgerSet.open("acme", {"seller": (ledger_beside("seller.csv"), "seller")}, Policy(epsilon=2.0))
    asked = {("influence", "seller"): Question("acme", "influence", rows, subject(config=..., model=...), noise)}
    ledgers.consult(asked)  # before the other party is met
    granted = ledgers.charge(asked)
    ... open those values that came back as a Charge; the others are answered already ...
    ledgers.settle(("influence", "seller"), value)

What `left` states for the record may grow. The order of the three steps has to stay, questions to one file have to be
charged together, and `subject` has to give the same digest for the same parts, or a repeated question would be charged
again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.governance.budget.hash_chain import ENDING
from mpc_appraisal.governance.budget.ledger import TOGETHER, Ledger
from mpc_appraisal.governance.budget.limits import Policy, Question, text
from mpc_appraisal.governance.budget.state import Answer, Charge, Spent, checked, spent_by

Key = tuple[str, str]  # method and candidate
EVERY = ""  # stands for all candidates that have no ledger of their own; a candidate's name is never empty


def ledger_beside(file: str | Path) -> Path:
    """Return FILE.ledger, the ledger of a data file or of a model unless its owner names another path.

    Raises InputError for a path without a file's name.
    """
    file = Path(file)
    if not file.name:
        raise InputError("ledger", str(file), "a file's name")
    return file.with_name(file.name + ENDING)


def subject(**parts: Any) -> str:
    """Return the digest for `Question.subject`: the SHA-256 of the canonical JSON of the parts, 64 hex digits.

    Raises InputError for parts that are no finite JSON values.
    """
    try:
        content = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError("subject", parts, f"finite numbers, texts, lists and dictionaries ({error})") from error
    return hashlib.sha256(content.encode()).hexdigest()


def _period(row: Spent) -> dict[str, Any]:
    """Return what the record says of the period of a budget that renews; nothing of another budget."""
    if row.renews_at is None:
        return {}
    named = {"renews": row.renews, "period": row.period, "renews_at": row.renews_at.isoformat(timespec="seconds")}
    return named | {"epsilon_total": row.epsilon_total, "plain_total": row.plain_total}


@dataclass
class LedgerSet:
    """The ledgers of one party for one appraisal.

    Attributes:
        counterparty: the name of the party that asks, as its questions state it.
        ledgers: the ledgers by candidate; `EVERY` stands for all other candidates. At the model owner all candidates
            share the one ledger of its model, and what they spend adds up.
        identity: the SHA-256 of the certificate key that the counterparty showed in the handshake; None if it showed
            none.

    Raises InputError for a counterparty's name that `limits.text` refuses.
    """

    counterparty: str
    ledgers: dict[str, Ledger]
    identity: str | None = None
    _charges: dict[Key, tuple[Ledger, Charge]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        text("counterparty", self.counterparty)

    @staticmethod
    def open(
        counterparty: str,
        places: Mapping[str, tuple[str | Path, str]],
        policy: Policy | None = None,
        contents: Mapping[str, Callable[[], str]] | None = None,
    ) -> LedgerSet:
        """Open the ledgers of an appraisal, and make those that are not there.

        Args:
            counterparty: the name of the party that asks.
            places: for each candidate the path of its ledger and the name of its data set or model, 1 to 200 printable
                characters. Several candidates may have one ledger, which is then called by all their names.
            policy: the policy of new ledgers. An old ledger must have the same policy where one is stated.
            contents: by candidate, a function that returns the digest of its data. The function is called for a new
                ledger of one candidate alone.

        Raises InputError for a ledger of other data, under another policy, damaged, or in a folder that is not there.
        """
        text("counterparty", counterparty)  # before any ledger is made
        sharers: dict[Path, dict[str, str]] = {}  # by ledger's path: its candidates, with their data's names
        for candidate, (path, data) in places.items():
            sharers.setdefault(Path(path).resolve(), {})[candidate] = text("ledger.data", data)
        opened = {}
        for path, names in sharers.items():
            content = (contents or {}).get(next(iter(names))) if len(names) == 1 else None
            opened[path] = Ledger(path, TOGETHER.join(dict.fromkeys(names.values())), policy, content=content)
        return LedgerSet(
            counterparty, {candidate: opened[Path(path).resolve()] for candidate, (path, _) in places.items()}
        )

    def key(self, name: str) -> bytes:
        """Return the key of a candidate's ledger (see `keys`)."""
        return self._ledger(name).key()[0]

    def foreign_keys(self) -> list[str]:
        """Return the names of ledgers whose key is not the one that they were made with."""
        by_path = {ledger.path: ledger for ledger in self.ledgers.values()}
        return [ledger.path.name for ledger in by_path.values() if not ledger.key()[1]]

    def twins(self) -> dict[str, list[str]]:
        """Return, by the name of each ledger that was made now, the names of ledgers beside it of the same data."""
        return {ledger.path.name: list(ledger.twins) for ledger in self.ledgers.values() if ledger.twins}

    def older(self, questions: Mapping[Key, Question]) -> dict[Key, Question]:
        """Return the questions that a ledger without a key has answered; their subjects hold a hash without a key."""
        found = {}
        for ledger, keys in self._groups(questions):
            if not ledger.keyed:
                answers = checked(ledger.path).account(self.counterparty, self.identity).answers.values()
                known = {answer.question for answer in answers}
                found |= {key: questions[key] for key in keys if questions[key] in known}
        return found

    def marked(self, name: str, mark: str) -> list[Any]:
        """Return the values of the answers that were recorded for the candidate `name` under this mark."""
        account = checked(self._ledger(name).path).account(self.counterparty, self.identity)
        return [answer.value for answer in account.answers.values() if answer.mark == mark]

    def consult(self, questions: Mapping[Key, Question]) -> dict[Key, Answer | None]:
        """Return the recorded answers, and None for questions that would be charged. Nothing is changed.

        Raises InputError where a charge would be refused.
        """
        found = {}
        for ledger, keys in self._groups(questions):
            found.update(zip(keys, ledger.consult([questions[key] for key in keys], self.identity), strict=True))
        return {key: found[key] for key in questions}

    def charge(self, questions: Mapping[Key, Question]) -> dict[Key, Charge | Answer]:
        """Charge the questions and return for each the permission to open its value, or the recorded answer.

        All ledgers are consulted before the first one is charged. If another process spends the rest of a ledger in
        between, the ledgers before it stay charged although nothing is granted. Raises InputError for a refusal, and
        then nothing is granted.
        """
        self.consult(questions)
        granted: dict[Key, Charge | Answer] = {}
        for ledger, keys in self._groups(questions):
            charged = ledger.charge_all([questions[key] for key in keys], self.identity)
            for key, one in zip(keys, charged, strict=True):
                granted[key] = one
                if isinstance(one, Charge):
                    self._charges[key] = ledger, one
        return {key: granted[key] for key in questions}

    def settle(self, key: Key, value: Any, mark: str | None = None) -> None:
        """Record the value that was opened for a key that was charged here.

        Args:
            key: the method and the candidate.
            value: the value, or `{"opened": null}` where this party was not shown it.
            mark: a text by which `marked` finds the value again.

        Raises AppraisalError for a key that was not charged here, and InputError for a value that is no finite JSON.
        """
        if key not in self._charges:
            raise AppraisalError(f"{' of '.join(key)} was not charged in this appraisal, so no answer is recorded")
        ledger, charge = self._charges[key]
        ledger.settle(charge, value, mark)

    def left(self, name: str) -> dict[str, Any]:
        """Return what the counterparty has spent and has left of a candidate's ledger, for the record and the card.

        `ledger` is the file's name. `line` is the number of this appraisal's last charge for the candidate, or None.
        `head` is the SHA-256 of the ledger's last whole line, for `budget verify --head`. `epsilon` and `epsilon_left`
        are numbers at `delta`, and `plain_left` is how many more values without noise the policy allows. Of a budget
        that renews, they count the current period; `renews`, `period` and `renews_at` state it, and `epsilon_total` and
        `plain_total` add up all periods.
        """
        ledger = self._ledger(name)
        state = checked(ledger.path).at(ledger.now())
        row = spent_by(state, self.counterparty, self.identity)
        lines = [charge.line for (_, candidate), (_, charge) in self._charges.items() if candidate == name]
        return (
            {
                "ledger": ledger.path.name,
                "line": max(lines, default=None),
                "head": next(line.digest for line in reversed(state.chain.lines) if line.entry is not None),
                "counterparty": self.counterparty,
                "epsilon": row.epsilon,
                "epsilon_left": row.epsilon_left,
                "delta": row.delta,
                "plain_left": row.plain_left,
            }
            | ({} if self.identity is None else {"counterparty_key": self.identity})
            | _period(row)
        )

    def _ledger(self, name: str) -> Ledger:
        if name in self.ledgers or EVERY in self.ledgers:
            return self.ledgers[name if name in self.ledgers else EVERY]
        raise InputError("candidate", repr(name), f"one that has a ledger: {', '.join(self.ledgers) or 'none has'}")

    def _groups(self, questions: Mapping[Key, Question]) -> Iterator[tuple[Ledger, list[Key]]]:
        """Yield each ledger with the keys of its questions, grouped by file, so that charges to one file add up."""
        groups: dict[Path, tuple[Ledger, list[Key]]] = {}
        for key, question in questions.items():
            if question.counterparty != self.counterparty:
                raise InputError("question.counterparty", repr(question.counterparty), repr(self.counterparty))
            ledger = self._ledger(key[1])
            groups.setdefault(ledger.path, (ledger, []))[1].append(key)
        yield from groups.values()
