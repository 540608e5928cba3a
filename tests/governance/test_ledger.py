"""The ledger of a privacy budget: what it charges, answers and refuses."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from datetime import datetime, timedelta, timezone

import pytest
from budget_child import question

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.state import replay
from mpc_appraisal.release import Answer, Charge, Ledger, Mechanism, Policy, Question

PROCESSES = multiprocessing.get_context("fork")  # hundreds are started, and imports take seconds
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
MANY = Policy(plain_values=10**6)


def started(target, *arguments):
    """A process of a function of budget_child and the end of the pipe that it reports on."""
    reader, writer = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=target, args=(*arguments[:2], writer, *arguments[2:]), daemon=True)
    process.start()
    writer.close()
    return process, reader


def reported(reader) -> list[list[str]]:
    """All whole lines until the last writer is gone."""
    content = b""
    while piece := os.read(reader.fileno(), 1 << 16):
        content += piece
    reader.close()
    return [line.split(" ", 2) for line in content.decode().split("\n")[:-1]]


def charges(path) -> dict[tuple[str, str, str], int]:
    """(line, digest, subject) of every charge, with its number of answers."""
    state = replay(path)
    return {
        (str(line), c.digest, c.question.subject): int(line in account.answers)
        for account in state.accounts.values()
        for line, c in account.charges.items()
    }


def lines_of(path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "seller.ledger"


@pytest.fixture
def full(path):
    """A ledger of ten lines: opening, three charges with answers, one without, an amendment, one noised charge."""
    ledger = Ledger(path, "seller", clock=lambda: NOON)
    for k in range(3):
        ledger.settle(ledger.charge(question(f"q{k}")), k / 4)
    ledger.charge(question("failed", "other"))
    ledger.amend(Policy(epsilon=3.0))
    ledger.charge(question("noised", sigma=5.0))
    assert len(lines_of(path)) == 10
    return path


# --- what the ledger does


def test_a_charge_is_on_file_before_it_is_granted_and_the_answer_after(path):
    times = iter(NOON + timedelta(seconds=k) for k in range(9))
    ledger = Ledger(path, "seller", Policy(), clock=lambda: next(times))
    charge = ledger.charge(question("a"))
    assert isinstance(charge, Charge) and charge.line == 2
    entry = json.loads(lines_of(path)[1])
    assert entry["time"] == "2026-01-01T12:00:01+00:00"
    assert (entry["counterparty"], entry["method"], entry["rows"]) == ("acme", "influence", 500)
    assert entry["mechanism"] == {"kind": "plain", "epsilon": None, "sigma": None, "step": None}
    ledger.settle(charge, {"value": 0.1})
    assert json.loads(lines_of(path)[2])["value"] == {"value": 0.1}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_repeated_question_is_free_even_when_all_is_spent(path):
    ledger = Ledger(path, "seller", Policy(epsilon=0.9, plain_values=1))
    plain, noised = question("a"), question("a", sigma=5.0)
    for asked, value in ((plain, 1.5), (noised, 1.25)):
        ledger.settle(ledger.charge(asked), value)
    before = path.read_bytes()
    assert ledger.charge(plain) == Answer(2, plain, 1.5) and ledger.charge(noised) == Answer(4, noised, 1.25)
    assert Ledger(path).charge(plain).value == 1.5
    assert path.read_bytes() == before
    with pytest.raises(
        InputError, match="budget.plain_values: got 2; expected at most 1 values without noise for acme"
    ):
        ledger.charge(question("b"))
    with pytest.raises(InputError, match="budget.epsilon: got .*; expected at most 0.9 at delta 1e-06 for acme"):
        ledger.charge(question("b", sigma=5.0))
    assert path.read_bytes() == before
    assert isinstance(ledger.charge(question("b", "another")), Charge)  # each counterparty has a budget of its own


@pytest.mark.parametrize("change", ["counterparty", "method", "rows", "subject", "mechanism"])
def test_another_question_is_not_a_repeated_one(path, change):
    ledger = Ledger(path, "seller")
    asked = question("a", sigma=50.0)
    ledger.settle(ledger.charge(asked), 1)
    other = {"rows": 501, "mechanism": Mechanism("gaussian", sigma=51.0)}.get(change, "other")
    fields = {key: getattr(asked, key) for key in ("counterparty", "method", "rows", "subject", "mechanism")}
    assert isinstance(ledger.charge(Question(**(fields | {change: other}))), Charge)


def test_a_failed_session_stays_charged(path):
    ledger = Ledger(path, "seller", Policy(plain_values=2))
    assert ledger.charge(question("a")) != ledger.charge(question("a"))  # no answer was recorded, so charged again
    with pytest.raises(InputError, match="budget.plain_values: got 3"):
        ledger.charge(question("a"))


def test_several_at_once_are_charged_as_one_after_the_other(path):
    ledger = Ledger(path, "seller", clock=lambda: NOON)
    shutil.copy(f"{path}.salt", path.with_name("other.ledger.salt"))  # each ledger has a key of its own otherwise
    one_by_one = Ledger(path.with_name("other.ledger"), "seller", clock=lambda: NOON)
    asked = [question("a"), question("b", sigma=5.0), question("a", "other"), question("a")]
    before = path.read_bytes()
    assert ledger.consult(asked) == [None] * 4 and path.read_bytes() == before
    assert ledger.charge_all(asked) == [one_by_one.charge(q) for q in asked]  # the repeated one is charged twice
    assert path.read_bytes() == one_by_one.path.read_bytes() and len(lines_of(path)) == 5
    assert ledger.charge_all([]) == ledger.consult([]) == []


def test_several_at_once_of_which_some_are_answered(path):
    ledger = Ledger(path, "seller", Policy(plain_values=3))
    known, hidden = ledger.charge_all([question("a"), question("b")])
    answers = [ledger.settle(known, 0.5), ledger.settle(hidden, {"opened": None})]
    asked = [question("b"), question("c"), question("a"), question("b")]
    b, a = Answer(3, question("b"), {"opened": None}), Answer(2, question("a"), 0.5)
    assert answers == [a, b] and ledger.consult(asked) == [b, None, a, b]
    found = ledger.charge_all(asked)
    assert found == [b, Charge(6, replay(path).chain.lines[-1].digest, question("c")), a, b]
    before = path.read_bytes()
    assert ledger.charge_all([question("b"), question("a")]) == [b, a] and path.read_bytes() == before
    with pytest.raises(InputError, match="budget.plain_values: got 4"):  # "c" has no answer yet
        ledger.consult(asked)


@pytest.mark.parametrize(
    ("policy", "asked", "name"),
    [
        (Policy(plain_values=5), [question(f"q{k}") for k in range(6)], "budget.plain_values"),
        (Policy(plain_values=5), [question("q")] * 6, "budget.plain_values"),
        (Policy(epsilon=2.0), [question(f"q{k}", sigma=5.0) for k in range(9)], "budget.epsilon"),
        (Policy(epsilon=2.0), [question("q", sigma=5.0)] * 9, "budget.epsilon"),
        (Policy(), [question("q"), question("q", "other", sigma=0.01), question("r")], "budget.epsilon"),
        (Policy(), [question("q"), question("q", rows=99), question("r")], "budget.rows"),
        (Policy(), [question("q"), question("q", sigma=1e-200)], "budget.epsilon"),  # beyond what floats hold
    ],
)
def test_a_refusal_of_some_is_one_of_all_and_the_file_stays_the_same(path, policy, asked, name):
    ledger, one_by_one = (Ledger(p, "seller", policy) for p in (path, path.with_name("other.ledger")))
    with pytest.raises(InputError) as expected:
        for q in asked:
            one_by_one.charge(q)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    for act in (ledger.consult, ledger.charge_all):
        with pytest.raises(InputError) as refusal:
            act(asked)
        assert str(refusal.value) == str(expected.value) and refusal.value.name == name
        assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    granted = len(lines_of(one_by_one.path)) - 1
    assert granted < len(asked) and len(ledger.charge_all(asked[:granted])) == granted


def test_each_counterparty_has_a_sum_of_its_own(path):
    ledger = Ledger(path, "seller", Policy(plain_values=2))
    asked = [question(f"q{k}", who) for k in range(2) for who in ("acme", "other", "third")]
    assert ledger.consult(asked) == [None] * 6 and len(ledger.charge_all(asked)) == 6


def test_consulting_does_not_wait_and_needs_no_leave_to_write(full, monkeypatch):
    from mpc_appraisal.governance.budget import hash_chain as chain

    ledger = Ledger(full)
    monkeypatch.setattr(chain, "PATIENCE", 0.1)
    with chain.locked(full):  # as another process has it
        assert ledger.consult([question("q0"), question("new")])[1] is None
    with open(full, "ab") as file:
        file.write(b'{"sequence":11,"prev')  # which a writer is about to end
    before = full.read_bytes()
    assert ledger.consult([question("q0")])[0].value == 0.0 and full.read_bytes() == before
    full.write_bytes(before.replace(b"q1", b"q9"))
    with pytest.raises(InputError, match="seller.ledger, line 4"):
        ledger.consult([question("q0")])
    full.unlink()
    with pytest.raises(InputError, match="line 1: got no file"):
        ledger.consult([question("q0")])
    full.with_name(full.name + ".head").unlink()
    with pytest.raises(InputError, match="No such file.*a ledger that can be read"):
        ledger.consult([question("q0")])


def test_too_few_rows(path):
    with pytest.raises(InputError, match="budget.rows: got 99; expected 100 rows or more"):
        Ledger(path, "seller").charge(question("a", rows=99))
    assert len(lines_of(path)) == 1


def test_settling_twice_or_strange_things(path):
    ledger = Ledger(path, "seller")
    charge = ledger.charge(question("a"))
    assert ledger.settle(charge, 1.0) == ledger.settle(charge, 1.0)
    assert len(lines_of(path)) == 3
    with pytest.raises(InputError, match="answer: got 2.0; expected 1.0, which line 2 was settled with"):
        ledger.settle(charge, 2.0)
    with pytest.raises(InputError, match="answer: got nan"):
        ledger.settle(charge, math.nan)
    with pytest.raises(InputError, match="charge: got line 7"):
        ledger.settle(Charge(7, charge.digest, charge.question), 1.0)


def test_policies(path):
    ledger = Ledger(path, "seller", Policy(epsilon=2.0))
    with pytest.raises(InputError, match="ledger.policy"):
        Ledger(path, "seller", Policy(epsilon=3.0))
    with pytest.raises(InputError, match="ledger.data: got 'another'"):
        Ledger(path, "another")
    ledger.amend(Policy(epsilon=3.0))
    Ledger(path, "seller", Policy(epsilon=3.0))
    with pytest.raises(
        InputError, match="got epsilon=2.0; expected epsilon=3.0, which is in force.*mpc-appraisal budget set"
    ):
        Ledger(path, "seller", Policy(epsilon=2.0))
    assert ledger.amend(plain_values=4) == (Policy(epsilon=3.0), Policy(epsilon=3.0, plain_values=4))
    before = path.read_bytes()
    ledger.amend(plain_values=4)
    assert path.read_bytes() == before and len(lines_of(path)) == 3  # what changes nothing is no line
    with pytest.raises(InputError, match="ledger.data"):
        Ledger(path.with_name("new.ledger"))
    with pytest.raises(InputError, match="clock"):
        Ledger(path, clock=lambda: datetime(2026, 1, 1)).charge(question("a"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Policy(epsilon=0.0),
        lambda: Policy(epsilon=math.inf),
        lambda: Policy(delta=1.0),
        lambda: Policy(delta=math.nan),
        lambda: Policy(delta=5e-324),
        lambda: Policy(minimum_rows=-1),
        lambda: Policy(plain_values=True),
        lambda: Mechanism("laplace"),
        lambda: Mechanism("gaussian"),
        lambda: Mechanism("gaussian", sigma=-1.0),
        lambda: Mechanism("gaussian", sigma=math.nan),
        lambda: Mechanism("pure", epsilon=0.0),
        lambda: Mechanism("plain", sigma=1.0),
        lambda: Mechanism("discrete_gaussian", sigma=1.0, step=0.5),
        lambda: question(""),
        lambda: question("a", " acme"),
        lambda: question("a", "ac\nme"),
        lambda: question("a", rows=-1),
    ],
)
def test_what_is_no_policy_no_noise_and_no_question(wrong):
    with pytest.raises(InputError):
        wrong()
