"""Two organisations agree on a request, approve it, charge their ledgers and repeat it: real processes, real files."""

from __future__ import annotations

import json
import os
import re
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from deals import OTHER_TRAIN, OWNERS, SECOND, SELLER, Market, close, commands, value_of
from processes import (
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    write_csv,
    write_npz,
)

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.governance.budget.state import spent
from mpc_appraisal.release import verify

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
