"""Two organisations agree on a request, approve it, charge their ledgers and repeat it: real processes, real files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import struct
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch.distributed as dist
from processes import (
    APP,
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    ROLES,
    Ended,
    Process,
    Processes,
    free_port,
    problem,
    stretched,
    write_csv,
    write_npz,
)

from mpc_appraisal import Dataset
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.governance.budget.ledger import spent
from mpc_appraisal.methods import Influence, plaintext
from mpc_appraisal.models.training import fit
from mpc_appraisal.release import Ledger, Policy, Question, verify
from mpc_appraisal.reporting.record import Record, read

TRAIN, TEST, OTHER_TRAIN = (problem(n, seed=k) for k, n in enumerate((60, 40, 60), start=1))
SELLER, SECOND, THIRD = problem(120, seed=11), problem(130, seed=12), problem(125, seed=13)
WAITS = re.compile(r"request ([0-9a-f]{12}) waits for a yes: mpc-appraisal approval yes \1 in=(\S+) ")
OWNERS = (MODEL_OWNER, DATA_OWNER)


def value_of(candidate, train=TRAIN) -> float:
    """The oracle: influence in float64, in the clear."""
    sets = [Dataset.of(*xy, classes=3, name="set") for xy in (train, TEST, candidate)]
    return plaintext(Influence(), fit(sets[0], 1e-2), *sets)[0]


def close(value: float, expected: float) -> bool:
    return abs(value - expected) <= 1e-3 * abs(expected) + 2e-4


class Market:
    """Both sides' files under one folder, and sessions about them. By default each side keeps a ledger and the model
    owner a salt; the data owner is asked."""

    def __init__(self, processes: Processes, name: str, **candidates):
        self.processes, self.root, self.desk = processes, processes.folder / name, processes.folder / name / "desk"
        self.name, self.sessions = name, 0
        self.train = write_npz(self.root / "buyer" / "train.npz", *TRAIN)
        self.test = write_npz(self.root / "buyer" / "test.npz", *TEST)
        self.files = {each: write_csv(self.root / "seller" / f"{each}.csv", *xy) for each, xy in candidates.items()}

    def start(self, *public: str, port: int | None = None, **own: list[str]) -> Session:
        """own: by role, overrides beside the defaults of a role, or in their place."""
        self.sessions += 1
        place = f"{self.name}/{self.sessions}"
        files = ",".join(map(str, self.files.values()))
        default = {
            MODEL_OWNER: {"party.train": self.train, "party.test": self.test, "party.salt": "null"},
            DATA_OWNER: {"party.data": f"[{files}]", "party.approval": "ask", "party.requests": self.desk},
            DEALER: {},
        }
        port = port or free_port()
        stated = {
            "session": "join",
            "session.rendezvous": f"tcp://127.0.0.1:{port}",
            "session.join_timeout": 60,
            "session.freeze_timeout": 60,  # a party that a test froze is not the one that is lost
            "appraisal": "influence",
            "model.l2": "1e-2",
        } | dict(each.split("=", 1) for each in public)
        started = {}
        for role in ROLES:
            party = {"session.role": role, "party.ledger": "null", **default[role]}
            party |= dict(each.split("=", 1) for each in own.get(role, ()))
            overrides = [f"{key}={value}" for key, value in (stated | party).items()]
            started[role] = self.processes.app(f"{place}/{role}", *overrides)
        return Session(started, self.root / str(self.sessions), port)

    def ledger(self, name: str | None = None) -> Path:
        """Of a candidate; without a name, of the model."""
        file = self.train if name is None else self.files[name]
        return file.with_name(f"{file.name}.ledger")

    def ledgers(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.root.glob("*/*.ledger"))}

    def entries(self, name: str | None = None, kind: str = "charge") -> list[dict]:
        lines = map(json.loads, self.ledger(name).read_text().splitlines())
        return [line for line in lines if line["kind"] == kind]

    def charged(self) -> dict[str, int]:
        """Charges in each ledger that was made."""
        found = {path.name: path.read_text().count('"kind":"charge"') for path in self.root.glob("*/*.ledger")}
        assert found, "no ledger was made"
        return found


class Session:
    """Three processes, started."""

    def __init__(self, started: dict[str, Process], root: Path, port: int):
        self.started, self.root, self.port = started, root, port

    def __getitem__(self, role: str) -> Process:
        return self.started[role]

    def asked(self) -> str:
        """The id of the request that the data owner is told to answer."""
        self[DATA_OWNER].until(" waits for a yes: ", 90)
        return WAITS.search(self[DATA_OWNER].err)[1]

    def await_notes(self, *notes: str) -> dist.Store:
        """Wait until these notes lie at the rendezvous; returns it."""
        deadline, patience = time.monotonic() + 60, timedelta(seconds=30)
        store = dist.TCPStore("127.0.0.1", self.port, None, False, patience, wait_for_workers=False)
        while not store.check([f"note/{note}" for note in notes]):
            assert time.monotonic() < deadline, (notes, [process.err[-500:] for process in self.started.values()])
            time.sleep(0.02)
        return store

    def charge_and_stop(self, desk: Path, topic: str = "charged") -> dist.Store:
        """Say yes, and let the session come no further than both owners' notes on a topic, which they leave once their
        ledgers are charged: the dealer is frozen."""
        id = self.asked()
        self.await_notes(f"approval/{DEALER}")
        os.killpg(self[DEALER].popen.pid, signal.SIGSTOP)
        RequestQueue(desk).say(id, True)
        return self.await_notes(*(f"{topic}/{role}" for role in OWNERS))

    def kill(self, role: str) -> dict[str, Ended]:
        """kill -9; the others have to end by themselves within seconds, with an error that names it."""
        start = time.monotonic()
        self[role].kill()
        os.killpg(self[DEALER].popen.pid, signal.SIGCONT)
        ended = {each: self[each].wait(30) for each in ROLES if each != role}
        seconds = time.monotonic() - start
        assert seconds < stretched(6), seconds
        for each in ended.values():
            assert each.code == 2 and role in each.err.split("error: ")[1], each.err[-1500:]
        return ended

    def end(self, code: int = 0) -> dict[str, Ended]:
        """All three end with this status."""
        ended = {role: process.wait(120) for role, process in self.started.items()}
        assert {each.code for each in ended.values()} == {code}, {r: (e.code, e.err[-1500:]) for r, e in ended.items()}
        return ended

    def run(self, role: str) -> Path:
        return self.root / role / "run"

    def records(self, role: str) -> list[Record]:
        return read(self.run(role) / "records.jsonl")

    def error(self, role: str) -> str:
        """Its error message alone."""
        return self[role].err.split("error: ", 1)[1]

    def without_records(self) -> bool:
        return not [*self.root.rglob("records.jsonl"), *self.root.rglob("card-*")]

    def written(self, role: str) -> bytes:
        """All that the session left with this party, its console included."""
        return b"\n".join(path.read_bytes() for path in self.root.joinpath(role).rglob("*") if path.is_file())


def commands(market: Market, **arguments: list[str]) -> list[str]:
    """Other programs of the same owner, on the command line, by a name each; what they print."""
    started = [
        market.processes.start(f"{market.name}/{name}", [*APP, *map(str, stated)]) for name, stated in arguments.items()
    ]
    ended = [process.wait(60) for process in started]
    assert all(each.code == 0 for each in ended), ended
    return [each.out for each in ended]


# ---- asked, approved, charged, computed -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def market(module_processes):
    return Market(module_processes, "market", seller=SELLER, second=SECOND)


@pytest.fixture(scope="module")
def first(market):
    """The first session about this market: what was there while it waited for a yes, and then all that it left."""
    session = market.start()
    id = session.asked()
    store = session.await_notes(f"approval/{MODEL_OWNER}", f"approval/{DEALER}")
    desk = f"in={market.desk}"
    shown, listed = commands(market, show=["approval", "show", id, desk], list=["approval", "list", desk])
    waiting = SimpleNamespace(
        alive=[process.popen.poll() is None for process in session.started.values()],
        charged=market.charged(),
        notes={note: store.check([f"note/{note}"]) for note in (f"approval/{DATA_OWNER}", f"charged/{MODEL_OWNER}")},
        bare=session.without_records(),
        requests={role: (session.run(role) / "request.md").read_bytes() for role in OWNERS},
    )
    (said,) = commands(market, yes=["approval", "yes", id, desk])
    ended = session.end()
    return SimpleNamespace(id=id, session=session, waiting=waiting, listed=listed, shown=shown, said=said, ended=ended)


def test_nothing_is_charged_or_shared_before_the_yes(first):
    waiting = first.waiting
    assert waiting.alive == [True] * 3
    assert waiting.charged == {"train.npz.ledger": 0, "seller.csv.ledger": 0, "second.csv.ledger": 0}
    assert waiting.notes == {f"approval/{DATA_OWNER}": False, f"charged/{MODEL_OWNER}": False}
    assert waiting.bare


def test_the_data_owner_reads_and_answers_by_command(first, market):
    assert re.search(rf"{first.id} +pending +model_owner +influence +seller, second +value", first.listed), first.listed
    text = first.waiting.requests[DATA_OWNER].decode()
    assert first.shown.startswith("From model_owner, ") and first.shown.endswith("; pending.\n" + text)
    assert f"approved, for one appraisal: request {first.id} of model_owner" in first.said
    assert RequestQueue(market.desk).read(first.id).state == "used"


def test_both_owners_hold_the_request_to_the_letter(first, market):
    texts = {role: (first.session.run(role) / "request.md").read_bytes() for role in OWNERS}
    assert texts == first.waiting.requests and texts[MODEL_OWNER] == texts[DATA_OWNER]
    assert texts[MODEL_OWNER] == (market.desk / f"{first.id}.md").read_bytes()
    assert first.id in texts[MODEL_OWNER].decode()
    assert f"this side asks for request {first.id}" in first.ended[MODEL_OWNER].err
    assert f"this side is asked for request {first.id}" in first.ended[DATA_OWNER].err
    assert not (first.session.run(DEALER) / "request.md").exists()


def test_both_owners_record_the_approval_and_the_value(first):
    at = {role: first.session.records(role) for role in OWNERS}
    for buyer, seller, data in zip(*at.values(), (SELLER, SECOND), strict=True):
        assert buyer.value == seller.value and close(buyer.value, value_of(data))
        assert buyer.request == seller.request and buyer.request["id"] == first.id
        assert buyer.request["how"] == "command" and buyer.request["digest"].startswith(first.id)
        assert not buyer.answered and buyer.rounds > 0
        assert (buyer.budget["counterparty"], seller.budget["counterparty"]) == (DATA_OWNER, MODEL_OWNER)


def test_each_question_is_charged_and_answered_once(first, market):
    for name, count in ((None, 2), ("seller", 1), ("second", 1)):
        assert [len(market.entries(name, kind)) for kind in ("charge", "answer")] == [count, count]
    (charge,) = market.entries("seller")
    assert (charge["counterparty"], charge["method"], charge["rows"]) == (MODEL_OWNER, "influence", 120)
    assert {entry["counterparty"] for entry in market.entries()} == {DATA_OWNER}
    record = first.session.records(DATA_OWNER)[0]
    assert (record.budget["line"], record.budget["plain_left"]) == (charge["sequence"], 19)


def test_cards_quote_request_and_ledger_and_their_steps_pass(first, market, capsys):
    for role, name in ((MODEL_OWNER, None), (DATA_OWNER, "seller")):
        record = first.session.records(role)[0]
        assert record.candidate == "seller"
        for ending in ("md", "html"):
            card = (first.session.run(role) / f"card-seller.{ending}").read_text()
            assert first.id in card and record.request["digest"] in card
            assert f"budget verify LEDGER --head {record.budget['head']}" in card
        COMMANDS["budget"](["verify", str(market.ledger(name)), "--head", record.budget["head"]])
        assert capsys.readouterr().out.startswith(f"{market.ledger(name).name}: ")
        with pytest.raises(InputError, match="--head"):
            verify(market.ledger(name), "0" * 64)
    assert (first.session.run(DATA_OWNER) / "card-second.md").is_file()


# ---- repeated -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repeated(first, market):
    """The same question between the same files, at another place, approved anew. notes: all that the dealer can read
    once the data owner has said yes."""
    before = market.ledgers()
    session = market.start()
    id = session.asked()
    store = session.charge_and_stop(market.desk, "answers")
    topics = ("request", "approval", "answers")
    notes = {(topic, role): store.get(f"note/{topic}/{role}").decode() for topic in topics for role in OWNERS}
    os.killpg(session[DEALER].popen.pid, signal.SIGCONT)
    session.end()
    return SimpleNamespace(id=id, session=session, before=before, notes=notes)


def test_a_repeated_question_is_answered_from_the_ledger_to_the_last_bit(first, repeated):
    assert repeated.id != first.id
    for role in OWNERS:
        old, new = first.session.records(role), repeated.session.records(role)
        assert [record.value for record in new] == [record.value for record in old]
        for record in new:
            assert record.answered and record.engine == "none" and record.rounds == 0
            assert record.openings == () and not record.bytes_sent and not record.seconds
            assert (record.request["id"], record.request["how"]) == (repeated.id, "command")
            assert record.budget["line"] is None
        card = (repeated.session.run(role) / "card-seller.md").read_text()
        assert "nothing was computed" in card and repeated.id in card


def test_the_dealer_can_read_that_a_question_is_an_old_one_and_not_the_answer(repeated):
    note = json.loads(repeated.notes["approval", DATA_OWNER])
    assert note["answered"] == [["influence", "seller"], ["influence", "second"]]
    assert len(note["sealed"]["text"]) == 2 * (2 * 1024 + 16)  # hexadecimal, with a tag: the same for any answer
    for record in repeated.session.records(DATA_OWNER):
        for number in (record.value, record.paper_value, record.paper_value * record.n):  # the last as it was opened
            digits = f"{abs(number):.10f}"[:7]
            assert not [key for key, text in repeated.notes.items() if digits in text]


def test_a_repeated_question_charges_nobody(repeated, market):
    assert market.ledgers() == repeated.before
    verify(market.ledger("seller"), repeated.session.records(DATA_OWNER)[0].budget["head"])


@pytest.fixture(scope="module")
def changed(repeated, market):
    """One label of one candidate is another, under the same name; a standing policy says yes."""
    policy = market.root / "approval.yaml"
    policy.write_text("methods: [influence]\nminimum_rows: 120\nlearners: [model_owner, data_owner]\n")
    x, y = SELLER
    flipped = (x, np.where(np.arange(len(y)) == 50, (y + 1) % 3, y))
    write_csv(market.files["seller"], *flipped)
    session = market.start(data_owner=[f"party.approval={policy}"])
    session.end()
    write_csv(market.files["seller"], x, y)
    return SimpleNamespace(session=session, data=flipped)


def test_one_changed_label_is_a_new_question_and_the_other_candidate_an_old_one(first, changed, market):
    assert len(market.entries("seller")) == 2 and len(market.entries("second")) == 1
    assert len(market.entries()) == 3
    for role in OWNERS:
        seller, second = changed.session.records(role)
        assert not seller.answered and close(seller.value, value_of(changed.data))
        assert not close(seller.value, value_of(SELLER))
        assert second.answered and second.value == first.session.records(role)[1].value


def test_a_policy_file_that_allows_says_yes_without_asking(changed, market):
    assert "waits for a yes" not in changed.session[DATA_OWNER].err
    for role in OWNERS:
        assert {record.request["how"] for record in changed.session.records(role)} == {"policy"}


@pytest.fixture(scope="module")
def killed(changed, market):
    """Another model, and a data owner that is killed after the charge and before the result."""
    other = write_npz(market.root / "buyer" / "other.npz", *OTHER_TRAIN)
    own = {MODEL_OWNER: [f"party.train={other}", f"party.salt={market.train}.inputs.salt"]}
    own[DATA_OWNER] = [f"party.data={market.files['seller']}"]
    before = len(market.entries("seller"))
    session = market.start(**own)
    session.charge_and_stop(market.desk)
    at_kill = len(market.entries("seller"))
    session.kill(DATA_OWNER)
    rows = [(row.questions, row.answers) for row in spent(verify(market.ledger("seller")))]
    repeat = market.start(**own | {DATA_OWNER: [*own[DATA_OWNER], "party.approval=yes"]})
    repeat.end()
    return SimpleNamespace(session=session, before=before, at_kill=at_kill, repeat=repeat, rows=rows)


def test_another_model_is_a_new_question(killed):
    assert killed.at_kill == killed.before + 1
    for role in OWNERS:
        (record,) = killed.repeat.records(role)
        assert not record.answered and close(record.value, value_of(SELLER, OTHER_TRAIN))


def test_a_charge_outlives_the_killed_data_owner_without_an_answer(killed, market, capsys):
    assert killed.rows == [(3, 2)] and killed.session.without_records()
    COMMANDS["budget"](["show", str(market.ledger("seller"))])
    out = capsys.readouterr().out
    assert re.search(r"model_owner +4 +3 ", out) and "A question without an answer was charged" in out


def test_the_repeat_of_a_killed_question_is_charged_again(killed, market):
    *_, last, again = market.entries("seller")
    assert last["question"] == again["question"] and last["sequence"] < again["sequence"]
    answers = [entry["charge"] for entry in market.entries("seller", "answer")]
    assert again["sequence"] in answers and last["sequence"] not in answers
    assert {record.request["how"] for record in killed.repeat.records(DATA_OWNER)} == {"stated"}


def test_without_a_salt_every_question_is_new_and_a_killed_model_owner_is_charged(killed, market):
    before = market.charged()
    session = market.start(model_owner=["party.salt=none"], data_owner=[f"party.data={market.files['second']}"])
    session.charge_and_stop(market.desk)
    more = {"second.csv.ledger": before["second.csv.ledger"] + 1, "train.npz.ledger": before["train.npz.ledger"] + 1}
    more = before | more
    session.kill(MODEL_OWNER)
    assert market.charged() == more and session.without_records()
    for name in (None, "second"):
        (row,) = spent(verify(market.ledger(name)))
        assert row.questions - row.answers == 1


# ---- no answer, no, and another request -----------------------------------------------------------------------


class Quiet(Market):
    """A market whose sessions all meet at the same place, for the place is public and part of a request; over TLS."""

    def start(self, *public: str, **own: list[str]) -> Session:
        self.port = getattr(self, "port", None) or free_port()
        folder = self.root / "certificates"
        if not folder.exists():
            COMMANDS["certificates"]([str(folder)])
        own = {role: [*own.get(role, ()), f"session.tls={folder}/{role}"] for role in ROLES}
        return super().start("session.transport=tls", *public, port=self.port, **own)


@pytest.fixture(scope="module")
def quiet(module_processes):
    return Quiet(module_processes, "quiet", seller=SELLER)


@pytest.fixture(scope="module")
def left(quiet):
    """A request that waits while the model owner is killed; then the data owner says yes to it."""
    session = quiet.start()
    id = session.asked()
    ended = session.kill(MODEL_OWNER)
    COMMANDS["approval"](["yes", id, f"in={quiet.desk}"])
    assert session.without_records() and set(quiet.charged().values()) == {0}
    return SimpleNamespace(id=id, ended=ended)


def test_a_data_owner_that_waits_hears_of_a_killed_model_owner(left):
    assert left.ended[DATA_OWNER].err.endswith(
        "error: model_owner is gone: its process ended, or the network between us\n"
    )


def unused(quiet, left, id: str) -> None:
    """The yes was said to another request, and is still there."""
    assert id != left.id and RequestQueue(quiet.desk).read(left.id).state == "yes"
    assert set(quiet.charged().values()) == {0}


def test_another_configuration_is_asked_anew_and_patience_ends(quiet, left):
    session = quiet.start("model.l2=2e-2", data_owner=["party.patience=1"])
    id = session.asked()
    session.end(2)
    words = f"no answer to request {id} within 1 s"
    assert session.error(DATA_OWNER) == f"{words}\n"
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == f"data_owner stopped: {words}\n"
    assert session.without_records()
    unused(quiet, left, id)


def test_another_release_is_asked_anew_and_a_killed_data_owner_is_named(quiet, left):
    session = quiet.start("release.to=model_owner")
    id = session.asked()
    session.kill(DATA_OWNER)
    assert session.without_records()
    unused(quiet, left, id)


def test_other_data_of_the_same_name_are_asked_for_anew_and_a_no_ends_all(quiet, left):
    write_csv(quiet.files["seller"], *problem(121, seed=11))
    session = quiet.start()
    id = session.asked()
    start = time.monotonic()
    COMMANDS["approval"](["no", id, f"in={quiet.desk}", "reason=their offer is a joke"])
    session.end(2)
    assert time.monotonic() - start < stretched(6)
    write_csv(quiet.files["seller"], *SELLER)
    refusal = f"the data owner refused request {id}"
    assert re.fullmatch(rf"{refusal}: its no of \S+: their offer is a joke\n", session.error(DATA_OWNER))
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == f"data_owner stopped: {refusal}\n"
        assert b"joke" not in session.written(role)
    assert session.without_records()
    unused(quiet, left, id)


def test_the_yes_starts_the_request_that_it_was_said_to_from_whatever_folder(quiet, left):
    """Relative paths are those of the folder where they were typed, although Hydra changes it."""
    here = quiet.root / str(quiet.sessions + 1) / DATA_OWNER
    paths = {"party.data": quiet.files["seller"], "party.requests": quiet.desk}
    own = [f"{key}={os.path.relpath(path, here)}" for key, path in paths.items()]
    session = quiet.start(data_owner=[*own, "hydra.job.chdir=true"])
    session.end()
    assert RequestQueue(quiet.desk).read(left.id).state == "used"  # nobody said another
    for role in OWNERS:
        (record,) = session.records(role)
        assert (record.request["id"], record.request["how"]) == (left.id, "command")
    assert quiet.charged() == {"train.npz.ledger": 1, "seller.csv.ledger": 1}


def test_a_policy_file_that_forbids_names_the_rule_to_its_owner_alone(module_processes):
    market = Market(module_processes, "forbidden", seller=SELLER)
    policy = market.root / "approval.yaml"
    policy.write_text("minimum_rows: 121\n")
    session = market.start(data_owner=[f"party.approval={policy}"])
    session.end(2)
    id = re.search("request ([0-9a-f]{12})", session.error(DATA_OWNER))[1]
    assert "Too few rows: seller has 120; minimum_rows is 121." in session.error(DATA_OWNER)
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == f"data_owner stopped: the data owner refused request {id}\n"
        assert b"minimum_rows" not in session.written(role)
    assert session.without_records() and set(market.charged().values()) == {0}


# ---- budgets --------------------------------------------------------------------------------------------------


def refused(market: Market, role: str, name: str, figures: str, *public: str, **own: list[str]) -> None:
    """The budget of `role` refuses: its name is told to all, its figures to the owner, and nothing happens."""
    before = market.ledgers()
    session = market.start(*public, **own)
    session.end(2)
    assert f"{name}: {figures}" in session.error(role), session.error(role)
    for other in set(ROLES) - {role}:
        assert session.error(other) == f"{role} stopped: bad input in {name}\n"
    assert session.without_records()
    after = market.ledgers()
    assert {each: after[each] for each in before} == before and set(market.charged()) == set(after)
    assert all(charges == 0 for each, charges in market.charged().items() if each not in before)


def test_a_data_set_of_fewer_than_a_hundred_rows_is_not_appraised(module_processes):
    market = Market(module_processes, "few", seller=problem(99, seed=4))
    own = {MODEL_OWNER: ["party.ledger=none"]}
    refused(market, DATA_OWNER, "budget.rows", "got 99; expected 100 rows or more", **own)
    assert not market.desk.exists()  # the owner was not even asked


def test_the_twenty_first_plain_value_is_refused(module_processes):
    market = Market(module_processes, "worn", seller=SELLER)
    ledger = Ledger(market.ledger("seller"), "seller")
    ledger.charge_all([Question(MODEL_OWNER, "influence", 120, f"earlier {k}") for k in range(20)])
    figures = "got 21; expected at most 20 values without noise for model_owner"
    refused(market, DATA_OWNER, "budget.plain_values", figures)
    assert market.charged() == {"seller.csv.ledger": 20, "train.npz.ledger": 0} and not market.desk.exists()


def test_a_policy_counts_all_candidates_of_a_model_together(module_processes):
    market = Market(module_processes, "three", a=SELLER, b=SECOND, c=THIRD)
    policy = market.root / "limits.yaml"
    policy.write_text("plain_values: 2\n")
    own = {MODEL_OWNER: [f"party.policy={policy}"], DATA_OWNER: ["party.counterparty=acme"]}
    refused(market, MODEL_OWNER, "budget.plain_values", "got 3; expected at most 2 values without noise", **own)
    assert verify(market.ledger()).policy == Policy(plain_values=2)


@pytest.fixture(scope="module")
def noised(module_processes):
    market = Market(module_processes, "noised", seller=SELLER)
    market.public = ("release=dp", "release.epsilon=0.9", "release.row_norm=4")
    session = market.start(*market.public, data_owner=["party.approval=yes"])
    session.end()
    market.session = session
    return market


def test_a_noised_answer_charges_the_data_owner_epsilon_and_the_model_owner_a_value(noised):
    buyer, seller = (noised.session.records(role)[0] for role in OWNERS)
    assert buyer.value == seller.value and buyer.release == seller.release
    assert 0.8 < seller.release["epsilon"] <= 0.9 and seller.release["delta"] == 1e-6
    (charge,) = noised.entries("seller")
    assert (
        charge["mechanism"]["kind"] == "discrete_gaussian" and charge["mechanism"]["sigma"] == seller.release["sigma"]
    )
    (plain,) = noised.entries()
    assert plain["mechanism"]["kind"] == "plain"
    assert seller.budget["epsilon"] == pytest.approx(seller.release["epsilon"], rel=1e-6)
    assert (seller.budget["plain_left"], buyer.budget["plain_left"], buyer.budget["epsilon"]) == (20, 19, 0.0)


def test_a_spent_epsilon_refuses_and_stays_spent(noised):
    (row,) = spent(verify(noised.ledger("seller")))
    figures = r"got 1.\d+; expected at most 1 at delta 1e-06 for model_owner, of which 0.\d+ is spent"
    before = noised.ledgers()
    session = noised.start(*noised.public, "seed=1", data_owner=["party.approval=yes"])
    session.end(2)
    assert re.fullmatch(f"budget.epsilon: {figures}\n", session.error(DATA_OWNER)), session.error(DATA_OWNER)
    for role in (MODEL_OWNER, DEALER):
        assert session.error(role) == "data_owner stopped: bad input in budget.epsilon\n"
    assert noised.ledgers() == before and spent(verify(noised.ledger("seller"))) == [row]
    assert session.without_records() and 0.8 < row.epsilon <= 0.9


def test_what_the_data_owner_alone_learns_is_charged_to_the_model_alone(module_processes):
    market = Market(module_processes, "to_seller", seller=SELLER)
    session = market.start("release.to=data_owner", data_owner=["party.approval=yes"])
    session.end()
    buyer, seller = (session.records(role)[0] for role in OWNERS)
    assert buyer.value is None and close(seller.value, value_of(SELLER))
    assert market.charged() == {"train.npz.ledger": 1, "seller.csv.ledger": 0}
    (answer,) = market.entries(kind="answer")
    assert answer["value"]["opened"] is None  # this party was not shown it
    number = repr(seller.paper_value).encode()[:8]
    assert number in session.written(DATA_OWNER) and number not in session.written(MODEL_OWNER)


# ---- a bit ----------------------------------------------------------------------------------------------------


THRESHOLD = round(value_of(SELLER) - 0.0123456789, 9)  # reached
HIGHER = THRESHOLD + 1.0  # not reached


@pytest.fixture(scope="module")
def bits(module_processes):
    market = Market(module_processes, "bits", seller=SELLER)
    market.yes = ["party.approval=yes"]
    session = market.start("release=bit", model_owner=[f"party.threshold={THRESHOLD!r}"], data_owner=market.yes)
    session.end()
    market.session = session
    return market


def test_a_bit_is_told_to_both_and_the_threshold_to_nobody(bits):
    for role in OWNERS:
        (record,) = bits.session.records(role)
        assert record.decision is True and record.value is None and record.paper_value is None
    digits = repr(THRESHOLD).encode()
    assert digits in bits.session.written(MODEL_OWNER)  # in its own configuration, so the search can find it
    seller = b"".join(path.read_bytes() for path in (bits.root / "seller").iterdir())
    for written in (bits.session.written(DATA_OWNER), bits.session.written(DEALER), seller):
        assert digits[:9] not in written and struct.pack("<d", THRESHOLD) not in written
    for name in ("records.jsonl", "request.md", "card-seller.md"):
        assert digits[:9] not in (bits.session.run(MODEL_OWNER) / name).read_bytes()


def test_another_threshold_is_another_question(bits):
    session = bits.start("release=bit", model_owner=[f"party.threshold={HIGHER!r}"], data_owner=bits.yes)
    session.end()
    for role in OWNERS:
        (record,) = session.records(role)
        assert record.decision is False and not record.answered
    assert bits.charged() == {"train.npz.ledger": 2, "seller.csv.ledger": 2}


def test_a_bit_for_the_model_owner_charges_the_data_owners_ledger_alone(module_processes):
    market = Market(module_processes, "bit_to_buyer", seller=SELLER)
    own = {MODEL_OWNER: [f"party.threshold={{influence: {HIGHER!r}}}"], DATA_OWNER: ["party.approval=yes"]}
    session = market.start("release=bit", "release.to=model_owner", **own)
    session.end()
    buyer, seller = (session.records(role)[0] for role in OWNERS)
    assert buyer.decision is False and seller.decision is None and seller.value is None
    assert market.charged() == {"train.npz.ledger": 0, "seller.csv.ledger": 1}
    (answer,) = market.entries("seller", "answer")
    assert set(answer["value"].values()) == {None}


def test_a_missing_threshold_is_an_error_before_anybody_is_asked(module_processes):
    market = Market(module_processes, "no_threshold", seller=SELLER)
    session = market.start("release=bit")
    session.end(2)
    assert session.error(MODEL_OWNER).startswith("party.threshold: got None; expected a finite number")
    for role in (DATA_OWNER, DEALER):
        assert session.error(role) == "model_owner stopped: bad input in party.threshold\n"
    assert not [*session.root.rglob("request.md")] and not market.desk.exists()
    assert session.without_records() and set(market.charged().values()) == {0}


# ---- listings -------------------------------------------------------------------------------------------------


NOISY = (SELLER[0], np.where(np.arange(120) % 3 == 0, (SELLER[1] + 1) % 3, SELLER[1]))


class Listed(Market):
    """Two listed data sets, the dearer of which is the better; the buyer has copies of the listings."""

    def __init__(self, processes: Processes, name: str, prices: dict[str, int | None]):
        super().__init__(processes, name, clean=SELLER, noisy=NOISY)
        for path, (listing, price) in zip(self.files.values(), prices.items(), strict=True):
            terms = [] if price is None else [f"price={price}", "currency=EUR"]
            COMMANDS["catalogue"](["publish", f"data={path}", f"name={listing}", f"out={self.root}/catalogue", *terms])
            copy = self.root / "buyer" / f"{listing}.json"
            copy.write_bytes((self.root / "catalogue" / copy.name).read_bytes())
        self.own = {MODEL_OWNER: self.listings("buyer", prices), DATA_OWNER: self.listings("catalogue", prices)}
        self.own[DATA_OWNER].append("party.approval=yes")

    def listings(self, folder: str, names) -> list[str]:
        return [f"party.listing=[{','.join(f'{self.root}/{folder}/{name}.json' for name in names)}]"]


def test_the_best_that_the_budget_can_pay_by_listed_prices(module_processes):
    market = Listed(module_processes, "priced", {"dear-1": 250, "cheap-1": 100})
    session = market.start("release=best", "release.k=2", "release.budget=200", **market.own)
    session.end()
    for role in OWNERS:
        dear, cheap = session.records(role)
        assert (dear.candidate, cheap.candidate) == ("dear-1", "cheap-1")  # not the files' names
        assert (dear.winner, dear.value, cheap.winner, cheap.rank) == (False, None, True, 1)
        assert close(cheap.value, value_of(NOISY)) and cheap.value < value_of(SELLER) - 0.1  # the better is too dear
        for record, price in ((dear, 250), (cheap, 100)):
            content = (market.root / "catalogue" / f"{record.candidate}.json").read_bytes()
            listing = record.listing
            assert listing["digest"] == hashlib.sha256(content).hexdigest()
            assert listing["commitment"] == json.loads(content)["commitment"]["digest"]
            assert (listing["name"], listing["price"], listing["currency"]) == (record.candidate, price, "EUR")
        text = (session.run(role) / "request.md").read_text()
        assert 'listed as "cheap-1", price 100 EUR' in text
    assert market.charged() == {"train.npz.ledger": 2, "clean.csv.ledger": 1, "noisy.csv.ledger": 1}


def test_a_listing_that_differs_in_one_character_is_no_deal(module_processes):
    market = Listed(module_processes, "differing", {"one": 250, "two": 100})
    copy = market.root / "buyer" / "two.json"
    text = copy.read_text()
    assert text.count('"price": 100') == 1
    copy.write_text(text.replace('"price": 100', '"price": 101'))
    session = market.start(**market.own)
    session.end(2)
    digests = [
        hashlib.sha256((market.root / folder / "two.json").read_bytes()).hexdigest()[:12]
        for folder in ("buyer", "catalogue")
    ]
    words = "listing 'two': {} at model_owner, {} at data_owner; expected the same listing, to the letter\n".format(
        *digests
    )
    assert session.error(MODEL_OWNER) == words
    for role in (DATA_OWNER, DEALER):
        assert session.error(role) == f"model_owner stopped: {words}"
    assert session.without_records() and set(market.charged().values()) == {0}


def test_an_unlisted_file_where_a_listing_is_expected_and_a_listing_without_a_price(module_processes):
    market = Listed(module_processes, "unlisted", {"one": 250, "two": None})
    session = market.start(**market.own | {DATA_OWNER: ["party.approval=yes", f"party.data={market.files['clean']}"]})
    session.end(2)
    words = "candidate 'clean' is not listed; expected one of one, two\n"
    assert session.error(MODEL_OWNER) == words
    for role in (DATA_OWNER, DEALER):
        assert session.error(role) == f"model_owner stopped: {words}"
    priced = market.start("release=best", "release.budget=200", **market.own)
    priced.end(2)
    for role in ROLES:
        expected = "release.prices: got ['one']; expected one for each of ['one', 'two'], or listings with prices\n"
        assert priced.error(role) == expected
    assert session.without_records() and priced.without_records() and set(market.charged().values()) == {0}
