"""What an appraisal keeps its ledgers with: several ledgers or a shared one, asked, charged and settled."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal

import budget_child as child
import pytest
from budget_child import question

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.governance.budget.state import verify
from mpc_appraisal.release import Answer, Charge, Ledger, LedgerSet, Mechanism, Policy, epsilon, ledger_beside, subject

PROCESSES = multiprocessing.get_context("fork")
METHODS = ("influence", "loo")
CAP = 150


def asked(*candidates: str, sigma: float | None = None, name: str = "", methods=METHODS) -> dict:
    """Each method's question about each candidate."""
    return {(m, c): question(f"{m} {c} {name}".strip(), sigma=sigma) for m in methods for c in candidates}


def contents(folder) -> dict:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def seller(tmp_path):
    """Two data sets with a ledger each."""
    places = {name: (ledger_beside(tmp_path / f"{name}.csv"), f"{name} 2026") for name in ("a", "b")}
    return LedgerSet.open("acme", places, Policy(plain_values=4))


@pytest.fixture
def buyer(tmp_path):
    """One model's ledger for both candidates."""
    place = tmp_path / "model.ledger", "model"
    return LedgerSet.open("acme", {"a": place, "b": place}, Policy(plain_values=4))


# --- places and digests


def test_the_ledger_is_beside_its_file(tmp_path):
    assert ledger_beside(tmp_path / "seller.csv") == tmp_path / "seller.csv.ledger"
    assert ledger_beside("data/shards/").as_posix() == "data/shards.ledger"
    for wrong in ("", ".", "/"):
        with pytest.raises(InputError, match="ledger: got .*; expected a file's name"):
            ledger_beside(wrong)


def test_a_subject_is_the_digest_of_its_parts():
    digest = subject(config={"b": 1, "a": [0.5, None]}, model="0f")
    assert digest == subject(model="0f", config={"a": [0.5, None], "b": 1})
    assert digest == hashlib.sha256(b'{"config":{"a":[0.5,null],"b":1},"model":"0f"}').hexdigest()
    others = [subject(config={"b": 1, "a": [0.5]}, model="0f"), subject(config={"b": 1, "a": [0.5, None]}, model="0e")]
    assert len({digest, *others}) == 3
    for wrong in (math.nan, math.inf, {1, 2}, b"x", object()):
        with pytest.raises(InputError, match="^subject: "):
            subject(part=wrong)
    question(digest)  # is a subject that a question takes


# --- asking, charging, settling


@pytest.mark.parametrize("which", ["seller", "buyer"])
def test_what_was_charged_and_settled_is_answered_the_next_time(which, request, tmp_path):
    ledgers, questions = request.getfixturevalue(which), asked("a", "b")
    before = contents(tmp_path)
    assert ledgers.consult(questions) == dict.fromkeys(questions) and contents(tmp_path) == before
    granted = ledgers.charge(questions)
    assert list(granted) == list(questions)
    for key, one in granted.items():
        assert isinstance(one, Charge) and one.question == questions[key]
        ledgers.settle(key, {"opened": None} if key[1] == "b" else {"opened": 0.25})
        ledgers.settle(key, {"opened": None} if key[1] == "b" else {"opened": 0.25})  # twice the same is once
    places = {name: (ledger.path, verify(ledger.path).data) for name, ledger in ledgers.ledgers.items()}
    later, before = LedgerSet.open("acme", places), contents(tmp_path)
    values = {key: {"opened": None if key[1] == "b" else 0.25} for key in questions}
    for act in (later.consult, later.charge):
        answers = act(questions)
        assert all(isinstance(one, Answer) for one in answers.values()) and list(answers) == list(questions)
        assert {key: one.value for key, one in answers.items()} == values
    assert contents(tmp_path) == before
    with pytest.raises(AppraisalError, match="influence of a was not charged in this appraisal"):
        later.settle(("influence", "a"), {"opened": 0.25})


def test_what_is_new_is_charged_beside_what_is_answered(seller):
    first = asked("a", methods=["influence"])
    seller.charge(first)
    seller.settle(("influence", "a"), 1)
    granted = seller.charge(asked("a", "b"))
    kinds = {key: type(one) for key, one in granted.items()}
    assert kinds.pop(("influence", "a")) is Answer and set(kinds.values()) == {Charge} and len(kinds) == 3


def test_a_shared_ledger_adds_up_and_separate_ones_do_not(seller, buyer, tmp_path):
    questions = asked("a", "b", methods=["influence", "loo", "third"])  # three of each, six together; the cap is four
    before = contents(tmp_path)
    for act in (buyer.consult, buyer.charge):
        with pytest.raises(InputError, match="budget.plain_values: got 5; expected at most 4"):
            act(questions)
        assert contents(tmp_path) == before
    assert len(seller.charge(questions)) == 6
    noised = asked("a", "b", sigma=5.0)
    one, all_four = (epsilon([Mechanism("gaussian", sigma=5.0)] * k, 1e-6) for k in (1, 4))
    buyer.ledgers["a"].amend(epsilon=(one + all_four) / 2)
    with pytest.raises(InputError, match="budget.epsilon"):
        buyer.consult(noised)
    assert list(buyer.charge(asked("a", sigma=5.0, methods=["influence"]))) == [("influence", "a")]


def test_two_objects_of_one_file_are_one_ledger(tmp_path):
    path = tmp_path / "model.ledger"
    Ledger(path, "model", Policy(plain_values=3))
    ledgers = LedgerSet("acme", {"a": Ledger(path), "b": Ledger(path)})
    with pytest.raises(InputError, match="budget.plain_values"):
        ledgers.consult(asked("a", "b"))


def test_no_ledger_is_charged_when_one_refuses(seller, tmp_path):
    seller.ledgers["b"].amend(plain_values=1)
    before = contents(tmp_path)
    for act in (seller.consult, seller.charge):
        with pytest.raises(InputError, match="budget.plain_values: got 2; expected at most 1"):
            act(asked("a", "b"))
        assert contents(tmp_path) == before
    with pytest.raises(AppraisalError, match="not charged"):
        seller.settle(("influence", "a"), 1)


def test_a_ledger_spent_in_between_grants_nothing(seller, monkeypatch):
    """Another process spends the second ledger after both were asked: the first stays charged."""
    real = Ledger.charge_all

    def late(ledger, questions, *more):
        if ledger is seller.ledgers["b"]:
            real(ledger, [question(f"other {k}") for k in range(4)])
        return real(ledger, questions, *more)

    monkeypatch.setattr(Ledger, "charge_all", late)
    with pytest.raises(InputError, match="budget.plain_values"):
        seller.charge(asked("a", "b"))
    assert [len(verify(seller.ledgers[name].path).chain.lines) for name in ("a", "b")] == [3, 5]


def test_bad_keys_questions_and_values(seller, tmp_path):
    before = contents(tmp_path)
    for act in (seller.consult, seller.charge):
        with pytest.raises(InputError, match="candidate: got 'c'; expected one that has a ledger: a, b"):
            act(asked("a", "c"))
        with pytest.raises(InputError, match="question.counterparty: got 'other'; expected 'acme'"):
            act({("influence", "a"): question("a", "other")})
        assert act({}) == {}
    with pytest.raises(InputError, match="candidate: got 'c'"):
        seller.left("c")
    assert contents(tmp_path) == before
    seller.charge(asked("a"))
    with pytest.raises(AppraisalError, match="loo of b was not charged in this appraisal"):
        seller.settle(("loo", "b"), 1)
    for wrong in (math.nan, math.inf, {"opened": -math.inf}, {1, 2}, b"x"):
        with pytest.raises(InputError, match="^answer: "):
            seller.settle(("loo", "a"), wrong)
    seller.settle(("loo", "a"), {"opened": [1, 0.5, "text", None]})
    with pytest.raises(InputError, match="which line 3 was settled with"):
        seller.settle(("loo", "a"), {"opened": 2})


# --- what is left


def test_what_is_left_before_and_after(seller, buyer):
    fresh = seller.left("a")
    head = verify(seller.ledgers["a"].path).chain.lines[-1].digest
    assert fresh == {
        "ledger": "a.csv.ledger",
        "line": None,
        "head": head,
        "counterparty": "acme",
        "epsilon": 0.0,
        "epsilon_left": 1.0,
        "delta": 1e-6,
        "plain_left": 4,
    }
    for ledgers, file, lines, plain in ((seller, "a.csv.ledger", (3, 3), 2), (buyer, "model.ledger", (4, 5), 0)):
        granted = ledgers.charge(asked("a", "b"))
        found = [ledgers.left(name) for name in ("a", "b")]
        assert found[0]["ledger"] == file and tuple(left["line"] for left in found) == lines
        assert {left["plain_left"] for left in found} == {plain}
        for name, left in zip(("a", "b"), found, strict=True):
            assert left["line"] == max(one.line for key, one in granted.items() if key[1] == name)
            assert verify(ledgers.ledgers[name].path, left["head"]).chain.lines[-1].digest == left["head"]
            json.dumps(left, allow_nan=False)


def test_what_is_left_while_another_process_writes(seller):
    before = seller.left("a")
    with open(seller.ledgers["a"].path, "ab") as file:
        file.write(b'{"sequence":2,"prev')
    assert seller.left("a") == before  # the hash of a line that is not whole is no line's later


def test_what_is_left_of_epsilon_is_finite_whatever_happened(seller):
    seller.ledgers["a"].amend(epsilon=3.0)
    seller.charge(asked("a", sigma=5.0) | {("plain", "a"): question("plain")})
    left, spent = seller.left("a"), epsilon([Mechanism("gaussian", sigma=5.0)] * 2, 1e-6)
    assert (left["epsilon"], left["epsilon_left"]) == (spent, pytest.approx(3.0 - spent)) and left["plain_left"] == 3
    seller.ledgers["a"].amend(epsilon=0.1, delta=2e-300, plain_values=0)
    left = seller.left("a")
    assert left["epsilon"] > spent and left["epsilon_left"] == 0.0 and left["plain_left"] == 0
    json.dumps(left, allow_nan=False)


# --- opening


def test_ledgers_are_made_with_the_policy_and_opened_without(tmp_path):
    places = {"a": (tmp_path / "a.ledger", "a"), "b": (str(tmp_path / "b.ledger"), "b" * 200)}
    first = LedgerSet.open("acme", places, Policy(epsilon=2.0))
    for again in (LedgerSet.open("acme", places), LedgerSet.open("acme", places, Policy(epsilon=2.0))):
        assert {name: ledger.path for name, ledger in again.ledgers.items()} == {
            name: ledger.path for name, ledger in first.ledgers.items()
        }
    assert {verify(ledger.path).policy for ledger in first.ledgers.values()} == {Policy(epsilon=2.0)}
    LedgerSet.open("acme", {"c": (tmp_path / "c.ledger", "c")})
    assert verify(tmp_path / "c.ledger").policy == Policy()
    shared = LedgerSet.open("acme", {"x": places["a"], "y": (tmp_path / "." / "a.ledger", "a")})
    assert shared.ledgers["x"] is shared.ledgers["y"]


@pytest.mark.parametrize(
    ("name", "data", "policy", "message"),
    [
        ("a.ledger", "a", Policy(epsilon=3.0), "ledger.policy: got epsilon=3.0; .*`mpc-appraisal budget set`"),
        ("a.ledger", "other", None, "ledger.data: got 'other'; expected 'a', whose ledger a.ledger is"),
        ("new.ledger", "", None, "ledger.data: got ''; expected 1 to 200 printable characters"),
        ("new.ledger", "a" * 201, None, "ledger.data: got .*; expected 1 to 200 printable characters"),
        ("new.ledger", "a\nb", None, "ledger.data: got .*; expected 1 to 200 printable characters"),
        ("new.ledger", " a", None, "ledger.data: got ' a'; expected 1 to 200 printable characters"),
        ("none/new.ledger", "a", None, "a folder that is there"),
        ("foreign.ledger", "a", None, "a ledger, or no file yet"),
    ],
)
def test_what_is_no_ledger_of_this_data(tmp_path, name, data, policy, message):
    LedgerSet.open("acme", {"a": (tmp_path / "a.ledger", "a")}, Policy(epsilon=2.0))
    (tmp_path / "foreign.ledger").write_text("name,rows\n")
    with pytest.raises(InputError, match=message):
        LedgerSet.open("acme", {"x": (tmp_path / name, data)}, policy)
    assert not (tmp_path / "new.ledger").exists()


def test_one_ledger_is_of_one_data_set(tmp_path):
    path = tmp_path / "model.ledger"
    LedgerSet.open("acme", {"a": (path, "one")})
    with pytest.raises(InputError, match="ledger.data: got 'two'; expected 'one'"):
        LedgerSet.open("acme", {"b": (path, "two")})


@pytest.mark.parametrize("who", ["", " acme", "ac\nme", "a" * 201])
def test_a_counterparty_has_a_name(tmp_path, who):
    with pytest.raises(InputError, match="^counterparty: "):
        LedgerSet.open(who, {"a": (tmp_path / "a.ledger", "a")})
    assert not list(tmp_path.iterdir())


# --- several at once, and kill -9


def appraise_until_refused(places: dict, name: str, report) -> None:
    """Appraisal after appraisal of both candidates until a ledger refuses; a line on the pipe for each charge."""
    ledgers = LedgerSet.open("acme", places)
    try:
        for k in range(1000):
            granted = ledgers.charge(asked("a", "b", name=f"{name} {k}"))
            lines = [f"{key[1]} {one.line} {one.digest}\n" for key, one in granted.items()]
            os.write(report.fileno(), "".join(lines).encode())
            ledgers.settle(("loo", "b"), {"opened": None})
    except InputError as error:
        os.write(report.fileno(), f"refused {error.name}\n".encode())


def started(target, *arguments):
    reader, writer = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=target, args=(*arguments, writer), daemon=True)
    process.start()
    writer.close()
    return process, reader


def reported(reader) -> list[list[str]]:
    content = b""
    while piece := os.read(reader.fileno(), 1 << 16):
        content += piece
    reader.close()
    return [line.split(" ") for line in content.decode().split("\n")[:-1]]


def charged(path) -> set[tuple[str, str]]:
    accounts = verify(path).accounts.values()
    return {(str(line), charge.digest) for account in accounts for line, charge in account.charges.items()}


@pytest.mark.parametrize("shared", [True, False])
def test_appraisals_at_once_never_exceed_the_cap(tmp_path, shared):
    paths = {name: tmp_path / ("model.ledger" if shared else f"{name}.ledger") for name in ("a", "b")}
    places = {name: (path, path.stem) for name, path in paths.items()}
    LedgerSet.open("acme", places, Policy(plain_values=CAP))
    running = [started(appraise_until_refused, places, f"p{k}") for k in range(2)]
    said = [reported(reader) for _, reader in running]
    for process, _ in running:
        process.join()
        assert process.exitcode == 0
    assert [lines[-1] for lines in said] == [["refused", "budget.plain_values"]] * 2
    for name, path in paths.items():
        granted = {(line, digest) for lines in said for who, line, digest in lines[:-1] if shared or who == name}
        found = charged(path)
        # Of separate ledgers one may be charged for an appraisal that the other then refused, for each process once.
        assert granted <= found and len(found) <= CAP and len(found - granted) <= (0 if shared else 4)
        assert len(found) > CAP - (4 if shared else 6)


def killed_at(places: dict, stop: int, report) -> None:
    """One appraisal; kill -9 before the system call number `stop` of those that concern ledgers."""
    made, write = 0, os.write

    def counted(real):
        def call(*arguments, **named):
            nonlocal made
            made += 1
            if made == stop:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)

        return call

    for name in child.CALLS:
        setattr(os, name, counted(getattr(os, name)))
    ledgers = LedgerSet.open("acme", places)
    granted = ledgers.charge(asked("a", "b"))
    lines = [f"{key[1]} {one.line} {one.digest}\n" for key, one in granted.items()]
    write(report.fileno(), "".join(lines).encode())
    for key in granted:
        ledgers.settle(key, 0.25)
    write(report.fileno(), b"ended\n")


def test_nothing_is_granted_without_a_line_when_an_appraisal_is_killed(tmp_path):
    stop, counts, ended = 0, set(), False
    while not ended:
        stop += 1
        places = {name: (tmp_path / f"{stop} {name}.ledger", name) for name in ("a", "b")}
        process, reader = started(killed_at, places, stop)
        said = reported(reader)
        process.join()
        ended = ["ended"] in said
        assert process.exitcode == (0 if ended else -signal.SIGKILL)
        granted = [tuple(line) for line in said if line != ["ended"]]
        assert len(granted) in (0, 4)
        LedgerSet.open("acme", places)  # ledgers that the killed one did not come to
        found = {name: charged(path) for name, (path, _) in places.items()}
        assert all((line, digest) in found[name] for name, line, digest in granted)
        counts.add((len(found["a"]), len(found["b"])))
    assert counts == {(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)}  # every state between, and no other
