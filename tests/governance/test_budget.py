"""The ledger of privacy budgets: processes killed and several at once; every line damaged; epsilon by an oracle."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime, timedelta, timezone

import budget_child as child
import numpy as np
import pytest
from budget_child import question

from mpc_appraisal.cli.commands import budget
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.ledger import replay, spent
from mpc_appraisal.release import Answer, Charge, Ledger, Mechanism, Policy, Question, epsilon, verify

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


# --- a policy from a file


@pytest.mark.parametrize(
    ("content", "policy"),
    [
        ("epsilon: 2\n", Policy(epsilon=2.0)),
        ("epsilon: 0.5  # each\ndelta: 1e-7\nminimum_rows: 50\nplain_values: 0\n", Policy(0.5, 1e-7, 50, 0)),
        ('{"plain_values": 3, "delta": 1.0e-5}', Policy(delta=1e-5, plain_values=3)),
    ],
)
def test_a_policy_from_a_file(tmp_path, content, policy):
    file = tmp_path / "policy.yaml"
    file.write_text(content)
    assert Policy.read(file) == Policy.read(str(file)) == policy


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "policy: got policy.yaml with nothing; expected lines `key: number`, of epsilon, delta, minimum_rows"),
        ("# none\n---\n", "policy: got policy.yaml with nothing"),
        ("{}", "policy: got policy.yaml with nothing"),
        ("5", "policy: got policy.yaml with no keys"),
        ("- epsilon\n", "policy: got policy.yaml with no keys"),
        ("epsilon: 1\nsigma: 5\n", "policy: got 'sigma'; expected one of epsilon, delta, minimum_rows, plain_values"),
        ("epsilon: 1\nepsilon: 2\n", "policy.epsilon: got 2, after 1; expected one value"),
        ("epsilon:\n", "policy.epsilon: got nothing; expected a number"),
        ("epsilon: much\n", "policy.epsilon: got much; expected a number"),
        ("epsilon: '2'\n", "policy.epsilon: got '2'; expected a number"),
        ("epsilon: true\n", "policy.epsilon: got true; expected a number"),
        ("epsilon: [1]\n", "policy.epsilon: got a list; expected a number"),
        ("epsilon: {a: 1}\n", "policy.epsilon: got keys; expected a number"),
        ("epsilon: -1\n", "policy.epsilon: got -1.0; expected a number above 0"),
        ("epsilon: .inf\n", "policy.epsilon: got .inf; expected a number"),
        ("epsilon: inf\n", "policy.epsilon: got inf; expected a number above 0 and below inf"),
        ("delta: 1\n", "policy.delta: got 1.0; expected a number above 1e-300 and below 1"),
        ("minimum_rows: 10.5\n", "policy.minimum_rows: got 10.5; expected a whole number"),
        ("plain_values: -1\n", "policy.plain_values: got -1; expected a whole number, 0 or more"),
        ("plain_values: yes\n", "policy.plain_values: got yes; expected a whole number"),
        ("a: b: c\n", "policy: got policy.yaml: .*; expected a YAML file"),
        ("epsilon: 1\n---\nepsilon: 2\n", "policy: got policy.yaml: .*; expected a YAML file"),
        ("[" * 5000, "policy: got policy.yaml: .*; expected a YAML file"),
        ("? [a, b]\n: 1\n", "policy: got .*; expected one of epsilon"),
        (b"\x00\xff\xfe", "policy: got policy.yaml: .*; expected a YAML file"),
        (None, "policy: got policy.yaml: No such file or directory; expected a YAML file that can be read"),
    ],
)
def test_what_is_no_policy_file(tmp_path, content, message):
    file = tmp_path / "policy.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"^{message}"):
        Policy.read(file)


def test_a_folder_is_no_policy_file(tmp_path):
    with pytest.raises(InputError, match="Is a directory"):
        Policy.read(tmp_path)


# --- composition, against an oracle of its own: the hockey-stick divergence by numerical integration


def exact_epsilon(sigmas, pures, delta) -> float:
    """Smallest epsilon whose divergence is delta: a Gaussian shift mu and randomised responses, on a grid."""
    mu = math.sqrt(sum(1 / s**2 for s in sigmas))
    x = np.linspace(-12, 12 + mu, 400_001)
    weight = np.exp(-((x - mu) ** 2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    loss = mu * x - mu**2 / 2
    responses = [(0.0, 1.0)]  # losses and probabilities of the randomised responses under the first hypothesis
    for e in pures:
        p = 1 / (1 + math.exp(-e))
        responses = [(total + sign * e, q * r) for total, q in responses for sign, r in ((1, p), (-1, 1 - p))]

    def divergence(eps):
        return sum(q * (weight * np.clip(1 - np.exp(eps - loss - extra), 0, None)).sum() for extra, q in responses)

    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize(
    ("sigmas", "pures", "delta"),
    [
        ([5.0] * 20, [], 1e-6),
        ([5.0] * 20, [], 1e-5),
        ([1.0, 3.0, 50.0], [], 1e-6),
        ([5.0] * 20, [0.1, 0.5, 1.0], 1e-5),
        ([30.0], [0.25] * 4, 1e-6),
    ],
)
def test_epsilon_against_integration(sigmas, pures, delta):
    oracle = exact_epsilon(sigmas, pures, delta)
    found = epsilon(
        [Mechanism("gaussian", sigma=s) for s in sigmas] + [Mechanism("pure", epsilon=e) for e in pures], delta
    )
    assert oracle - 1e-6 <= found <= oracle + 1e-3  # losses are rounded up to a grid of 1e-4: above, never below


def test_twenty_releases_cost_a_quarter_of_their_sum():
    one, twenty = (epsilon([Mechanism("gaussian", sigma=5.0)] * k, 1e-6) for k in (1, 20))
    assert twenty == pytest.approx(4.306, abs=2e-3) and 20 * one == pytest.approx(16.68, abs=0.02)
    assert epsilon([Mechanism("gaussian", sigma=5.0)] * 20, 1e-5) == pytest.approx(3.849, abs=2e-3)


def test_other_compositions():
    assert epsilon([], 1e-6) == 0
    assert epsilon([Mechanism(), Mechanism("gaussian", sigma=5.0)], 1e-6) == math.inf
    assert epsilon([Mechanism("pure", epsilon=0.5)], 1e-6) <= 0.5
    assert epsilon([Mechanism("gaussian", sigma=1e-4)], 1e-6) > 1e4  # at once, by the closed bound
    assert epsilon([Mechanism("gaussian", sigma=0.05)], 1e-5) == pytest.approx(284.392, abs=0.01)  # scipy, closed form


@pytest.mark.parametrize(("sigma", "step"), [(5.0, 1.0), (3.0, 1.0), (5.0, 0.01)])
def test_a_discrete_gaussian_costs_no_more_than_it_is_charged(sigma, step):
    """The exact hockey-stick divergence of the discrete distribution and its shift, at the charged epsilon."""
    k = np.arange(-round(40 * sigma / step), round(40 * sigma / step) + 1)
    p = np.exp(-((k * step) ** 2) / (2 * sigma**2))
    p /= p.sum()
    shift = round(1 / step)
    q = np.roll(p, shift)
    for delta in (1e-3, 1e-5, 1e-7):
        charged = epsilon([Mechanism("discrete_gaussian", sigma=sigma, step=step)], delta)
        assert np.clip(p - math.exp(charged) * q, 0, None)[shift:].sum() <= delta
        assert charged <= 1.2 * epsilon([Mechanism("gaussian", sigma=sigma)], delta)


# --- kill -9


def test_no_granted_charge_is_lost_when_the_writer_is_killed_at_random(path):
    Ledger(path, "seller", MANY)
    chance, granted, kills = random.Random(1), [], 0
    while kills < 45:
        process, reader = started(child.charge_forever, path, f"run {kills}")
        reader.poll(60)  # until the first is granted
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        granted += reported(reader)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        verify(path)
    Ledger(path).charge(question("afterwards"))
    found = charges(path)
    assert len(granted) > 45 and {tuple(one) for one in granted} <= set(found)
    assert len(found) <= len(granted) + kills + 1  # at most one charge a kill that was not granted
    assert not verify(path).chain.torn


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("manner", ["before", "after", "half", "but one"])
def test_no_granted_charge_is_lost_at_any_system_call(tmp_path, manner, size):
    """Of one question, and of three that are charged at once."""
    counted: set[int] = set()
    ended, stop, tears, unanswered = False, 0, 0, 0
    while not ended:
        stop += 1
        path = tmp_path / f"{stop}.ledger"
        process, reader = started(child.stopped_at, path, stop, manner, size)
        said = reported(reader)
        process.join()
        ended = ["ended"] in said
        assert process.exitcode == (0 if ended else -signal.SIGKILL)
        granted = {tuple(one) for one in said if one != ["ended"]}
        assert len(granted) in (0, size)  # all at once or none
        if path.exists():
            subjects = [subject for _, _, subject in charges(path)]
            assert granted <= set(charges(path)) and subjects == ["the one", "the one 1", "the one 2"][: len(subjects)]
            counted.add(len(subjects))
            torn = verify(path).chain.torn
        else:
            assert not granted
            torn = False
        # The next one repairs, says so, and loses nothing.
        ledger = Ledger(path, "seller")
        again = ledger.charge(question("the next"))
        found, state = charges(path), verify(path)
        assert granted <= set(found) and (str(again.line), again.digest, "the next") in found
        assert bool(state.tears) == torn and not state.chain.torn
        tears += torn
        unanswered += any(subject == "the one" and not answers for (_, _, subject), answers in found.items())
    assert stop > 35 * size**0.5 and unanswered > 3
    assert counted == set(range(size + 1))  # it was killed between any two lines
    assert tears == {"half": 2 * size, "but one": 2 * size}.get(manner, 0)


def test_a_kill_during_the_repair_of_a_tear(tmp_path):
    """Every kill while a tear is repaired, and the repair of that one killed again."""
    for manner in ("before", "after", "half", "but one"):
        for stop in range(1, 30):
            path = tmp_path / f"{manner} {stop}.ledger"
            Ledger(path, "seller").charge(question("early"))
            with open(path, "ab") as file:
                file.write(b'{"sequence":3,"previ')
            for again in range(2):
                process, reader = started(child.stopped_at, path, stop + again, manner)
                granted = {tuple(one) for one in reported(reader) if one != ["ended"]}
                process.join()
                assert granted <= set(charges(path))
            Ledger(path).charge(question("late"))
            state = verify(path)
            assert state.tears and not state.chain.torn
            assert {"early", "late"} <= {subject for _, _, subject in charges(path)}


def test_a_line_that_lacks_only_its_end_counts(full):
    """As if its writer was killed in the write, before head and grant."""
    before = lines_of(full)
    Ledger(full).charge(question("torn"))
    head = full.with_name(full.name + ".head")
    kept = f"10 {verify(full).chain.lines[9].digest}\n"
    head.write_text(kept)
    full.write_bytes(full.read_bytes()[:-1])
    assert "torn" in {subject for _, _, subject in charges(full)}
    Ledger(full).charge(question("next"))
    assert lines_of(full)[:10] == before and json.loads(lines_of(full)[11])["kind"] == "tear"
    assert {"torn", "next"} <= {subject for _, _, subject in charges(full)}


# --- several at once


@pytest.mark.parametrize("number", [2, 4])
@pytest.mark.parametrize(("sigma", "policy", "most"), [(None, Policy(plain_values=60), 60), (5.0, Policy(3.0), None)])
def test_processes_at_once_never_exceed_the_budget(path, number, sigma, policy, most):
    Ledger(path, "seller", policy)
    running = [started(child.charge_until_refused, path, f"p{k}", sigma) for k in range(number)]
    said = [line for _, reader in running for line in reported(reader)]
    for process, _ in running:
        process.join()
        assert process.exitcode == 0
    refused = [line for line in said if line[0] == "refused"]
    granted = {tuple(line) for line in said if line[0] != "refused"}
    assert [line[1] for line in refused] == ["budget.epsilon" if sigma else "budget.plain_values"] * number
    found, state = charges(path), verify(path)
    assert granted == set(found) and len(granted) == len(said) - number
    assert not state.tears and sum(found.values()) == len(lines_of(path)) - 1 - len(found)
    if most is None:
        most = max(k for k in range(1, 40) if epsilon([Mechanism("gaussian", sigma=sigma)] * k, policy.delta) <= 3.0)
    assert len(found) == most
    assert {subject.split()[0] for _, _, subject in found} <= {f"p{k}" for k in range(number)}


@pytest.mark.parametrize(("sigma", "policy", "most"), [(None, Policy(plain_values=60), 60), (5.0, Policy(3.0), None)])
def test_several_at_once_by_two_processes_never_exceed_the_budget(path, sigma, policy, most):
    size = 7 if sigma is None else 3
    Ledger(path, "seller", policy)
    running = [started(child.charge_all_until_refused, path, f"p{k}", sigma, size) for k in range(2)]
    said = [line for _, reader in running for line in reported(reader)]
    for process, _ in running:
        process.join()
        assert process.exitcode == 0
    granted = {tuple(line) for line in said if line[0] != "refused"}
    assert [line[1] for line in said if line[0] == "refused"] == [
        "budget.epsilon" if sigma else "budget.plain_values"
    ] * 2
    if most is None:
        most = max(k for k in range(1, 40) if epsilon([Mechanism("gaussian", sigma=sigma)] * k, policy.delta) <= 3.0)
    assert granted == set(charges(path)) and len(granted) == most // size * size
    subjects = [subject.rsplit(" ", 1) for _, _, subject in charges(path)]
    for k in range(0, len(subjects), size):  # those of one call stand together, and are all there
        assert [i for _, i in subjects[k : k + size]] == [str(i) for i in range(size)]
        assert len({name for name, _ in subjects[k : k + size]}) == 1
    assert not verify(path).tears


def test_two_names_of_one_file(full):
    alias = full.with_name("alias.ledger")
    alias.symlink_to(full)
    assert Ledger(alias).path == full.resolve()  # one lock
    os.link(full, full.with_name("hard.ledger"))
    with pytest.raises(InputError, match="of several names"):
        Ledger(full).charge(question("x"))


# --- tampering


def refused(path, number):
    """verify names the line, and so does a ledger that is to be charged."""
    for act in (lambda: verify(path), lambda: Ledger(path).charge(question("x"))):
        with pytest.raises(InputError, match=rf"^{path.name}, line {number}: "):
            act()


@pytest.mark.parametrize("number", range(1, 11))
def test_a_changed_line_is_named(full, number):
    lines = lines_of(full)
    for old, new in ((b"2026-01-01", b"2026-01-02"), (b"{", b"["), (b'"}\n', b'"\n')):
        full.write_bytes(b"".join([*lines[: number - 1], lines[number - 1].replace(old, new, 1), *lines[number:]]))
        refused(full, number)


@pytest.mark.parametrize("number", range(1, 11))
def test_a_removed_line_is_named(full, number):
    lines = lines_of(full)
    full.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
    refused(full, number)


@pytest.mark.parametrize("number", range(1, 10))
def test_swapped_lines_are_named(full, number):
    lines = lines_of(full)
    lines[number - 1 : number + 1] = lines[number - 1 : number + 1][::-1]
    full.write_bytes(b"".join(lines))
    refused(full, number)


def test_every_truncation_is_found(full):
    content, ends = full.read_bytes(), np.cumsum([len(line) for line in lines_of(full)])
    for size in [*range(0, len(content), 37), len(content) - 1]:
        full.write_bytes(content[:size])
        number = int(np.searchsorted(ends, size, side="right")) + 1
        with pytest.raises(InputError, match=rf"line {number}: "):
            verify(full)
    full.unlink()
    refused(full, 1)


def test_a_forged_line_with_a_right_seal_is_found(full):
    """Resealed by one who knows the format: the next line's hash, or the head's, does not fit."""
    from mpc_appraisal.governance.budget.hash_chain import _sealed

    lines = lines_of(full)
    for number in (2, 10):
        entry = json.loads(lines[number - 1])
        del entry["seal"]
        entry["time"] = "2025-01-01T12:00:00+00:00"
        forged = [*lines[: number - 1], _sealed(entry) + b"\n", *lines[number:]]
        full.write_bytes(b"".join(forged))
        refused(full, min(number + 1, 10))


def test_a_rewritten_ledger_is_found_by_a_noted_hash(full):
    noted = verify(full).chain.lines[-1].digest
    Ledger(full).charge(question("later"))
    verify(full, noted)
    for file in full.parent.iterdir():
        file.unlink()
    Ledger(full, "seller")
    with pytest.raises(InputError, match="--head"):
        verify(full, noted)


def test_heads(full):
    head = full.with_name(full.name + ".head")
    head.write_text("nonsense")
    with pytest.raises(InputError, match="head, damaged"):
        verify(full)
    head.unlink()
    with pytest.raises(InputError, match="without seller.ledger.head"):
        verify(full)


def test_a_charge_beyond_the_budget_is_named(path):
    """As a writer with another program might have left it: sealed, chained, but over the limits."""
    from mpc_appraisal.governance.budget import hash_chain as chain

    Ledger(path, "seller", Policy(epsilon=1.0, plain_values=1))
    for asked, number in ((question("a", sigma=0.5), 2), (question("b", rows=9), 3)):
        entry = {"kind": "charge", "time": "now", **asdict(asked), "question": asked.digest}
        with chain.locked(path):
            chain.append(path, chain.read(path), entry)
        with pytest.raises(InputError, match=rf"line {number}: got (epsilon|budget.rows)"):
            verify(path)


# --- files that cannot be had


def test_foreign_files_are_left_alone(path):
    for content in (b"", b"name,rows\nacme,5\n", b'{"method": "influence"}\n', b"\x00\xff"):
        path.write_bytes(content)
        for act in (lambda: Ledger(path, "seller"), lambda: verify(path)):
            with pytest.raises(InputError, match="a ledger, or no file yet"):
                act()
        assert path.read_bytes() == content
    with pytest.raises(InputError, match="No such file"):
        verify(path.with_name("none.ledger"))
    with pytest.raises(InputError, match="a folder that is there"):
        Ledger(path.parent / "none" / "a.ledger", "seller")
    with pytest.raises(InputError):
        Ledger(path.parent, "seller")


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
@pytest.mark.parametrize("good", range(5))
def test_a_full_disk_refuses_before_anything_is_granted(full, monkeypatch, name, good):
    """Every call after the first `good` fails; of a failing write, half goes to the disk first."""
    real, before, made = getattr(os, name), len(charges(full)), []

    def failing(*arguments, **named):
        made.append(name)
        if len(made) <= good:
            return real(*arguments, **named)
        if name == "write" and len(made) == good + 1 and len(arguments[1]) > 1:
            return real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ledger, granted = Ledger(full), []
    monkeypatch.setattr(os, name, failing)
    for k in range(6):
        try:
            granted.append(ledger.charge(question(f"full {k}")))
        except InputError as error:
            assert "No space left" in str(error) and "nothing was granted" in str(error)
            break
    else:
        pytest.fail("the disk was full")
    monkeypatch.undo()
    found = charges(full)
    assert len(found) >= before and {(str(c.line), c.digest, c.question.subject) for c in granted} <= set(found)
    assert isinstance(ledger.charge(question("afterwards")), Charge)
    assert set(found) <= set(charges(full)) and not verify(full).chain.torn


@pytest.mark.parametrize("name", ["write", "fsync", "replace"])
def test_a_disk_that_is_full_in_the_middle_of_several_grants_none(full, monkeypatch, name):
    Ledger(full).amend(plain_values=1000)
    real, before = getattr(os, name), set(charges(full))
    asked, charged = [question(f"full {k}") for k in range(3)], set()
    for good in range(30):
        made = []

        def failing(*arguments, good=good, made=made, **named):
            made.append(name)
            if len(made) > good:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **named)

        ledger, start = Ledger(full), len(charges(full))
        monkeypatch.setattr(os, name, failing)
        try:
            ledger.charge_all([*asked, question("q0")])
            break
        except InputError as error:
            assert "nothing was granted" in str(error)
        finally:
            monkeypatch.undo()
        charged.add(len(charges(full)) - start)
    else:
        pytest.fail("it was never enough")
    assert charged >= {1, 2, 3} and before <= set(charges(full))
    assert not verify(full).chain.torn


def test_no_permission(full, monkeypatch):
    """By a failing open where the tests run as root, who is denied nothing."""
    real = os.open

    def denied(path, flags, *rest, **named):
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *rest, **named)

    ledger, before = Ledger(full), full.read_bytes()
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InputError, match="Permission denied.*nothing was granted"):
        ledger.charge(question("x"))
    monkeypatch.undo()
    assert full.read_bytes() == before


# --- the command


def test_the_command(full):
    def run(*arguments):
        command = [sys.executable, "-m", "mpc_appraisal.cli.app", "budget", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("verify", full)
    assert (code, err) == (0, "") and "10 lines, whole; last hash" in out
    code, out, err = run("show", full.parent)
    assert code == 0 and "Privacy budget of seller" in out and "acme" in out and "other" in out
    full.write_bytes(full.read_bytes().replace(b"q1", b"q9"))
    code, out, err = run("verify", full)
    assert code == 2 and err.startswith("error: seller.ledger, line 4: got a changed line")


def test_the_table(full, capsys):
    row, other = spent(verify(full))
    assert (row.counterparty, row.questions, row.answers, row.plain, row.plain_left) == ("acme", 4, 3, 3, 17)
    assert row.epsilon == pytest.approx(exact_epsilon([5.0], [], 1e-6), abs=1e-3)
    assert row.epsilon_left == pytest.approx(3.0 - row.epsilon)
    assert (other.questions, other.answers, other.epsilon, other.epsilon_left) == (1, 0, 0.0, 3.0)
    with open(full, "ab") as file:
        file.write(b'{"seq')
    assert "The last line is unfinished" in " ".join(budget.table(verify(full)).notes)
    Ledger(full).charge(question("repairs"))
    assert "Line 12: a writer was stopped" in " ".join(budget.table(verify(full)).notes)
    with pytest.raises(InputError, match="PLACE"):
        (full.parent / "empty").mkdir()
        budget.main(["show", str(full.parent / "empty")])


def test_set_amends_the_policy_in_force(full, capsys):
    budget.main(["set", str(full), "epsilon=4", "delta=1e-5", "plain_values=20"])
    out = capsys.readouterr().out
    assert out.startswith("epsilon: 3.0 -> 4.0\ndelta: 1e-06 -> 1e-05\n") and "plain_values: " not in out
    assert "Privacy budget of seller" in out and "epsilon 4 at delta 1e-05" in " ".join(out.split())
    state = verify(full)
    assert state.policy == Policy(epsilon=4.0, delta=1e-5) and len(lines_of(full)) == 11
    assert f"{spent(state)[0].epsilon:.4g}" in out  # what acme has spent already stays spent
    budget.main(["set", str(full), "epsilon=4"])
    assert capsys.readouterr().out.startswith("nothing changed") and len(lines_of(full)) == 11
    budget.main(["set", str(full), "plain_values=1"])
    with pytest.raises(InputError, match="budget.plain_values: got 4; expected at most 1"):
        Ledger(full).charge(question("more"))
    assert Ledger(full).charge(question("q0")).value == 0.0


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (["sigma=5"], "policy: got 'sigma'; expected one of epsilon"),
        (["epsilon"], "KEY=VALUE: got 'epsilon'"),
        (["epsilon="], "policy.epsilon: got nothing"),
        (["epsilon=2", "epsilon=3"], "policy.epsilon: got 3, after 2"),
        (["epsilon=2", "delta=2"], "policy.delta: got 2.0"),
        (["epsilon=nan"], "policy.epsilon: got nan"),
        (["plain_values=1.5"], "policy.plain_values: got 1.5; expected a whole number"),
    ],
)
def test_set_refuses_what_is_no_limit(full, stated, message):
    before = full.read_bytes()
    with pytest.raises(InputError, match=message):
        budget.main(["set", str(full), *stated])
    assert full.read_bytes() == before


def test_set_needs_a_ledger_that_is_there_and_whole(full, capsys):
    with pytest.raises(
        InputError, match="FILE: got none.ledger; expected .*the first appraisal of a data set makes it"
    ):
        budget.main(["set", str(full.parent / "none.ledger"), "epsilon=2"])
    assert {file.name for file in full.parent.iterdir()} == {full.name + end for end in ("", ".head", ".lock", ".salt")}
    with pytest.raises(SystemExit):
        budget.main(["set", str(full)])
    assert "KEY=VALUE" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        budget.main(["set", "--help"])
    assert "Spent budget stays spent" in " ".join(capsys.readouterr().out.split())
    full.write_bytes(full.read_bytes().replace(b"q1", b"q9"))
    with pytest.raises(InputError, match="line 4"):
        budget.main(["set", str(full), "epsilon=2"])
    full.unlink()
    with pytest.raises(InputError, match="line 1: got no file"):
        budget.main(["set", str(full), "epsilon=2"])


def test_a_change_keeps_what_another_process_changed_just_before(path, monkeypatch):
    """It changes what is in force under the lock, not what was read before."""
    Ledger(path, "seller")

    def overtaken(file):
        state = verify(file)
        Ledger(file).amend(minimum_rows=7)
        return state

    monkeypatch.setattr(budget, "verify", overtaken)
    assert budget.amend(path, ["epsilon=7"]) == ["epsilon: 1.0 -> 7.0"]
    assert verify(path).policy == Policy(epsilon=7.0, minimum_rows=7)
