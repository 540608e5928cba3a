"""Receipts of real sessions between organisations over TLS: what both sides keep, and cards that others check."""

from __future__ import annotations

import json

import pytest
from deals import OWNERS, SECOND, SELLER, CertifiedMarket, Market
from processes import DATA_OWNER, DEALER, MODEL_OWNER

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.receipt import Receipt, answer_digest, answer_of


@pytest.fixture(scope="module")
def market(module_processes):
    return CertifiedMarket(module_processes, "receipts", seller=SELLER, second=SECOND)


@pytest.fixture(scope="module")
def done(market):
    """A session of two candidates by two methods, with a ledger at each side."""
    asked = 'party.purpose="purchase: choosing a supplier"'
    given = {MODEL_OWNER: [f"party.ledger={market.ledger()}", asked], DATA_OWNER: ["party.approval=yes"]}
    session = market.start("appraisal=influence_interval", **given)
    session.end()
    return session


def test_both_sides_keep_the_same_signed_content(done):
    kept = {role: done.records(role) for role in OWNERS}
    for mine, theirs in zip(kept[MODEL_OWNER], kept[DATA_OWNER], strict=True):
        assert mine.receipt == theirs.receipt
        receipt = Receipt.of(mine.receipt)
        receipt.verify()
        content = receipt.content
        assert content["candidate"] == mine.candidate and content["request"] == mine.request["digest"]
        assert content["config"] == mine.config_hash and set(content["answers"]) == {"influence", "influence_error"}
        assert answer_digest(receipt.salts[mine.method], answer_of(mine)) == content["answers"][mine.method]
        assert content["ledgers"][MODEL_OWNER] == mine.budget["head"]
        assert content["ledgers"][DATA_OWNER] == (theirs.budget and theirs.budget["head"])
    salts = {salt for record in kept[MODEL_OWNER] for salt in record.receipt["salts"].values()}
    assert len(salts) == 4


def test_cards_of_both_sides_are_checked_by_two_certificates_alone(market, done, capsys):
    named = [f"{role}={market.root}/certificates/{role}/{role}.pem" for role in OWNERS]
    for role in OWNERS:
        cards = sorted(done.run(role).glob("card-*"))
        assert len(cards) == 4
        for card in cards:
            COMMANDS["card"](["verify", str(card), *named])
        assert f"{done.records(role)[0].value:.4g}" in capsys.readouterr().out
    changed = cards[0].with_name("changed.html")
    changed.write_text(cards[0].read_text().replace("influence", "influense", 1))
    with pytest.raises(InputError, match="another page"):
        COMMANDS["card"](["verify", str(changed), *named])
    dealer = market.root / "certificates" / DEALER / f"{DEALER}.pem"
    with pytest.raises(InputError, match="another key"):
        COMMANDS["card"](["verify", str(cards[0]), named[0], f"{DATA_OWNER}={dealer}"])


def test_the_purpose_stands_in_both_records_and_on_both_cards(done):
    for role in OWNERS:
        assert {json.dumps(record.request["purpose"]) for record in done.records(role)} == {
            '{"kind": "purchase", "text": "choosing a supplier"}'
        }
        for card in done.run(role).glob("card-*.md"):
            assert "purchase: choosing a supplier" in card.read_text(encoding="utf-8")


def test_the_dealer_hears_neither_values_nor_salts(done):
    told = done.written(DEALER)
    for record in done.records(MODEL_OWNER):
        assert record.receipt["salts"][record.method].encode() not in told and repr(record.value).encode() not in told


def test_an_answer_to_one_owner_has_a_salt_at_this_owner_alone(market):
    session = market.start("release=bit", "release.to=model_owner", data_owner=["party.approval=yes"],
                           model_owner=["party.threshold=0.0"])  # fmt: skip
    session.end()
    mine, theirs = (session.records(role)[0] for role in OWNERS)
    assert mine.receipt["content"] == theirs.receipt["content"]
    assert set(mine.receipt["salts"]) == {"influence"} and theirs.receipt["salts"] == {}
    Receipt.of(mine.receipt).check_answer("influence", answer_of(mine))
    wrong = answer_of(mine) | {"decision": not mine.decision}
    with pytest.raises(InputError, match="another answer"):
        Receipt.of(mine.receipt).check_answer("influence", wrong)


def test_a_session_without_certificates_has_no_receipt(module_processes):
    plain = Market(module_processes, "plain", seller=SELLER)
    session = plain.start(data_owner=["party.approval=yes"])
    session.end()
    for role in OWNERS:
        lines = (session.run(role) / "records.jsonl").read_text().splitlines()
        assert all("receipt" not in json.loads(line) for line in lines)
