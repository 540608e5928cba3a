"""Receipts: what is signed, by which keys, and that nothing of a receipt or a card can be changed unseen."""

from __future__ import annotations

import copy
import hashlib
import json
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from test_card import one

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.card_check import check_card
from mpc_appraisal.reporting.receipt import Receipt, answer_digest, answer_of, public_bytes, sign, statement
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result

OWNERS = ("model_owner", "data_owner")
TIME = "2026-01-31T12:00:00+00:00"
SALT = "5a" * 32
MAKERS = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "edwards": ed25519.Ed25519PrivateKey.generate,
}


def certificate(key) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def signed(records, keys, salts=None, **changed) -> Receipt:
    content = {
        "format": 1,
        "candidate": records[0].candidate,
        "request": records[0].request["digest"],
        "config": records[0].config_hash,
        "answers": {r.method: answer_digest(SALT, answer_of(r)) for r in records},
        "ledgers": {"model_owner": None, "data_owner": "d4" * 32},
        "keys": {role: hashlib.sha256(public_bytes(key.public_key())).hexdigest() for role, key in keys.items()},
    } | changed
    signatures = {role: sign(content, role, TIME, key) for role, key in keys.items()}
    return Receipt(content, {r.method: SALT for r in records} if salts is None else salts, signatures)


@pytest.fixture(scope="module", params=MAKERS)
def keys(request):
    return {role: MAKERS[request.param]() for role in OWNERS}


@pytest.fixture(scope="module")
def same():
    return {role: MAKERS["ec"]() for role in OWNERS}


def test_both_signatures_are_good_by_another_library_call(keys):
    receipt = signed([one(0.25)], keys)
    receipt.verify()
    for role, key in keys.items():
        data = b"mpc_appraisal receipt 1\n" + f"{role}\n{TIME}\n".encode()
        data += json.dumps(receipt.content, sort_keys=True, separators=(",", ":")).encode()
        assert data == statement(receipt.content, role, TIME)
        signature = bytes.fromhex(receipt.signatures[role]["signature"])
        if isinstance(key, ec.EllipticCurvePrivateKey):
            key.public_key().verify(signature, data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            key.public_key().verify(signature, data)


def test_a_digest_is_of_the_salt_and_the_whole_answer():
    record = one(0.25, low=0.1, high=0.4)
    text = '{"decision":null,"high":0.4,"low":0.1,"rank":null,"value":0.25,"winner":null}'
    assert answer_digest(SALT, answer_of(record)) == hashlib.sha256(bytes.fromhex(SALT) + text.encode()).hexdigest()
    bit = answer_digest(SALT, answer_of(one(None, "bit", decision=True)))
    assert bit != answer_digest(SALT, answer_of(one(None, "bit", decision=False)))


@pytest.mark.parametrize(
    "path",
    [("candidate",), ("request",), ("config",), ("answers", "influence"), ("ledgers", "data_owner")],
)
def test_no_part_of_the_content_can_be_changed(same, path):
    stated = copy.deepcopy(signed([one(0.25)], same).as_dict())
    place = stated["content"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "0" * 64
    with pytest.raises(InputError, match=r"receipt.signatures.model_owner.signature"):
        Receipt.of(stated).verify()


def test_signatures_are_of_one_role_one_time_and_one_key(same):
    receipt = signed([one(0.25)], same)
    both = receipt.signatures
    swapped = {"model_owner": both["data_owner"], "data_owner": both["model_owner"]}
    later = both | {"data_owner": both["data_owner"] | {"time": "2026-02-01T12:00:00+00:00"}}
    for signatures, words in ((swapped, "model_owner.key"), (later, "data_owner.signature")):
        with pytest.raises(InputError, match=words):
            Receipt(receipt.content, receipt.salts, signatures).verify()


@pytest.mark.parametrize("field", ["content", "salts", "signatures"])
def test_what_is_no_receipt_is_refused_by_name(same, field):
    stated = signed([one(0.25)], same).as_dict()
    with pytest.raises(InputError, match=field):
        Receipt.of({key: value for key, value in stated.items() if key != field})
    with pytest.raises(InputError, match=field):
        Receipt.of(stated | {field: {"strange": 1}})


def test_a_key_that_cannot_sign_is_named():
    with pytest.raises(InputError, match="session.tls: got a key of the kind DSA"):
        sign({}, "model_owner", TIME, dsa.generate_private_key(2048))


def test_a_record_keeps_its_receipt_and_is_written_as_before_without(same):
    record = one(0.25)
    assert "receipt" not in json.loads(record.to_json())
    receipt = signed([record], same).as_dict()
    kept = Record.from_json(with_receipt(record, receipt).to_json())
    assert kept.receipt == receipt
    with pytest.raises(InputError, match=r"record.receipt.content"):
        with_receipt(record, receipt | {"content": {}})


def with_receipt(record: Record, receipt: dict) -> Record:
    return Record.of(json.loads(record.to_json()) | {"receipt": receipt})


# -- cards ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def card(same, tmp_path):
    """A card of two methods in both forms, and the certificates by role."""
    records = [one(0.25), one(None, "bit", method="gradient_norm", decision=True)]
    receipt = signed(records, same).as_dict()
    written = write_cards(Result([with_receipt(r, receipt) for r in records]), tmp_path)
    return written, {role: certificate(key) for role, key in same.items()}


def test_a_card_is_checked_by_the_certificates_alone(card):
    for path in card[0]:
        checked = check_card(path, card[1])
        assert [record.answer for record in checked.records] == ["0.25", "yes"] and not checked.own


@pytest.mark.parametrize(
    ("old", "new"),
    [("influence: 0.25", "influence: 0.85"), ("c3c3c3c3c3c3", "c3c3c3c3c3c4"), ("594 rows", "599 rows")],
)
def test_no_shown_word_can_be_changed(card, old, new):
    for path in card[0]:
        text = path.read_text(encoding="utf-8")
        changed = text.replace(old, new, 1) if old in text else text.replace(old.replace("_", "\\_"), new, 1)
        assert changed != text
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(InputError, match="another page"):
            check_card(path, card[1])


def test_a_page_made_anew_of_another_answer_is_found(card, same, tmp_path):
    records = [one(0.75), one(None, "bit", method="gradient_norm", decision=True)]
    receipt = signed([one(0.25), records[1]], same).as_dict()
    for path in write_cards(Result([with_receipt(r, receipt) for r in records]), tmp_path / "new"):
        with pytest.raises(InputError, match=r"receipt.answers.influence: got another answer"):
            check_card(path, card[1])


def test_a_card_without_a_method_that_was_signed_is_found(card, same, tmp_path):
    records = [one(0.25), one(None, "bit", method="gradient_norm", decision=True)]
    receipt = signed(records, same).as_dict()
    for path in write_cards(Result([with_receipt(records[0], receipt)]), tmp_path / "new"):
        with pytest.raises(InputError, match="without all methods"):
            check_card(path, card[1])


def test_an_answer_that_was_shown_to_the_other_owner_alone_has_a_digest_and_no_salt(same, tmp_path):
    record = one(None, to=["model_owner"])
    receipt = signed([record], same, salts={}).as_dict()
    keys = {role: certificate(key) for role, key in same.items()}
    for path in write_cards(Result([with_receipt(record, receipt)]), tmp_path):
        assert check_card(path, keys).receipt.salts == {}
    forged = one(0.5, to=["model_owner"])
    for path in write_cards(Result([with_receipt(forged, receipt)]), tmp_path):
        with pytest.raises(InputError, match=r"receipt.salts.influence"):
            check_card(path, keys)


def test_another_certificate_and_what_is_no_card_are_refused(card, tmp_path):
    other = card[1] | {"data_owner": certificate(MAKERS["ec"]())}
    with pytest.raises(InputError, match="data_owner: got a certificate of another key"):
        check_card(card[0][0], other)
    (plain, *_) = write_cards(Result([one(0.25)]), tmp_path / "plain")
    for path in (plain, tmp_path / "none.html"):
        with pytest.raises(InputError, match="CARD"):
            check_card(path, card[1])


def test_text_of_others_ends_neither_the_script_nor_the_comment(same, tmp_path):
    records = [one(0.25, candidate="a --> </script><script>alert(1)</script> <!--")]
    receipt = signed(records, same).as_dict()
    paths = write_cards(Result([with_receipt(r, receipt) for r in records]), tmp_path)
    keys = {role: certificate(key) for role, key in same.items()}
    for path in paths:
        check_card(path, keys)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            assert text.count("<script") == text.count("</script>") == 1
        else:
            (comment,) = text.split("<!-- appraisal-data ")[1:]
            assert comment.count("--") == 1 and comment.endswith(" -->\n") and "<" not in comment


def test_the_command_says_what_was_signed_and_refuses(card, tmp_path, capsys):
    from mpc_appraisal.cli.commands import COMMANDS

    files = {}
    for role, one_certificate in card[1].items():
        files[role] = tmp_path / f"{role}.pem"
        files[role].write_bytes(one_certificate.public_bytes(serialization.Encoding.PEM))
    named = [f"{role}={path}" for role, path in files.items()]
    COMMANDS["card"](["verify", str(card[0][1]), *named])
    shown = capsys.readouterr().out
    assert "0.25" in shown and "yes" in shown and TIME in shown
    for bad in ([named[0], named[0]], [named[0], "data_owner=none.pem"], [named[0], "dealer=x"]):
        with pytest.raises(InputError):
            COMMANDS["card"](["verify", str(card[0][1]), *bad])
