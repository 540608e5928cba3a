"""The exchange of receipts between three parties in one process, of which one may leave or send another message."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from tls_sessions import authority

from mpc_appraisal.appraisal.receipts import attend_receipts
from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.mpc.net.certificates import CertificateFiles, key_digest
from mpc_appraisal.reporting.receipt import Receipt
from mpc_appraisal.reporting.record import Record

OWNERS = ("model_owner", "data_owner")
ROLES = (*OWNERS, "dealer")


class Table:
    """What three parties put on a table, by topic; a party may leave, and one's message may be altered."""

    def __init__(self, folder, alter=None, leaves=None):
        self.said, self.alter, self.leaves, self.left = {}, alter, leaves, []
        self.waiting = threading.Condition()
        self.keys = {role: key_of(folder, role) for role in OWNERS}

    def seat(self, role: str) -> SimpleNamespace:
        return SimpleNamespace(certified=self.keys.get, exchange=lambda topic, message: self.put(role, topic, message))

    def put(self, role: str, topic: str, message: dict) -> dict:
        with self.waiting:
            if self.leaves == (role, topic):
                raise PeerError("this party was stopped")
            message = self.alter(role, topic, message) if self.alter else message
            self.said.setdefault(topic, {})[role] = message
            self.waiting.notify_all()
            while len(self.said[topic]) < len(ROLES):
                if missing := [each for each in self.left if each not in self.said[topic]]:
                    raise PeerError(f"{missing[0]} left before the end")
                assert self.waiting.wait(30)
            return self.said[topic]

    def leave(self, role: str) -> None:
        with self.waiting:
            self.left.append(role)
            self.waiting.notify_all()


def key_of(folder, role: str) -> str:
    from cryptography import x509

    return key_digest(x509.load_pem_x509_certificate(CertificateFiles.of(folder, role).certificate.read_bytes()))


def record(role: str, value=0.25, to=OWNERS, **more) -> Record:
    release = {"kind": "value", "to": list(to), "answered": False}
    request = {"id": "c3c3c3c3c3c3", "digest": "c3" * 32, "how": "command", "time": "2026-01-31T12:00:00+00:00"}
    shown = value if role in to else None
    return Record("influence", "seller", shown, release=release, request=request, session="join", role=role, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("receipts") / "certificates"
    authority(made, {})
    return made


def exchanged(folder, records: dict, alter=None, leaves=None) -> dict:
    table, found = Table(folder, alter, leaves), {}
    plan = SimpleNamespace(digest="a1b2a1b2a1b2a1b2", transport=SimpleNamespace(tls=str(folder)))

    def run(role: str) -> None:
        found[role] = attend_receipts(role, table.seat(role), plan, records.get(role, []))
        table.leave(role)

    threads = [threading.Thread(target=run, args=(role,)) for role in ROLES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def both(**more) -> dict:
    return {role: [record(role, **more)] for role in OWNERS}


def test_both_have_one_receipt_and_the_dealer_none(folder):
    found = exchanged(folder, both())
    receipts = [Receipt.of(found[role][0].receipt) for role in OWNERS]
    assert receipts[0] == receipts[1] and found["dealer"] == []
    receipts[0].verify()


@pytest.mark.parametrize("topic", ["receipt", "signed"])
@pytest.mark.parametrize("role", ROLES)
def test_who_is_left_keeps_its_records_with_a_warning(folder, role, topic):
    found = exchanged(folder, both(), leaves=(role, topic))
    for owner in set(OWNERS) - {role}:
        (kept,) = found[owner]
        assert kept.receipt is None and kept.value == 0.25
        assert kept.warnings == (f"There is no receipt of this answer: {role} left before the end",)


def test_a_loss_whose_words_name_an_address_loses_no_record(folder):
    """A record may name no place, so that such words may not become a warning."""

    def alter(role, topic, given):
        raise PeerError("data_owner is gone: tcp://192.0.2.1:29500 closed")

    (kept,) = exchanged(folder, both(), alter)["model_owner"]
    assert kept.value == 0.25 and kept.receipt is None
    assert kept.warnings == ("There is no receipt of this answer: the connection to another party was lost",)


def test_owners_that_were_shown_different_answers_have_no_receipt(folder):
    found = exchanged(folder, {"model_owner": [record("model_owner")], "data_owner": [record("data_owner", 0.75)]})
    for owner, other in zip(OWNERS, reversed(OWNERS), strict=True):
        (kept,) = found[owner]
        assert kept.receipt is None and f"{other} did not sign the same receipt" in kept.warnings[0]


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("receipt", {"address": "00" * 32, "heads": {}, "answers": {}}),  # the point that gives no secret
        ("receipt", {"address": "00", "heads": {}, "answers": {}}),
        ("signed", {"signatures": {}}),
        ("signed", {"signatures": {"seller": {"time": "yesterday", "key": "00", "signature": "00"}}}),
    ],
)
def test_a_message_that_is_none_is_named(folder, topic, message):
    def alter(role, said, given):
        return message if (role, said) == ("data_owner", topic) else given

    (kept,) = exchanged(folder, both(), alter)["model_owner"]
    assert kept.receipt is None and "data_owner" in kept.warnings[0]


def test_an_answer_of_one_owner_is_a_digest_of_its_own(folder):
    found = exchanged(folder, both(to=["data_owner"]))
    mine, theirs = (Receipt.of(found[role][0].receipt) for role in OWNERS)
    assert mine.content == theirs.content and mine.salts == {} and set(theirs.salts) == {"influence"}

    def alter(role, topic, given):
        return given | {"answers": {}} if (role, topic) == ("data_owner", "receipt") else given

    (kept,) = exchanged(folder, both(to=["data_owner"]), alter)["model_owner"]
    assert "data_owner sent no digest of its answer of influence" in kept.warnings[0]


def test_heads_of_ledgers_stand_in_the_content(folder):
    budget = {"ledger": "seller.ledger", "head": "d4" * 32, "counterparty": "acme"}
    given = both()
    given["data_owner"] = [replace(given["data_owner"][0], budget=budget)]
    found = exchanged(folder, given)
    assert found["model_owner"][0].receipt["content"]["ledgers"] == {"model_owner": None, "data_owner": "d4" * 32}
