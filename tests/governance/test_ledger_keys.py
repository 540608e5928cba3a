"""Ledgers: a key of their own, one budget for one certificate key, for one data set, and for candidates that overlap.
Approval: decimal numbers, certificate keys in rules, and a yes that expires."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from processes import DATA_OWNER, MODEL_OWNER, problem, write_csv
from test_deal_edges import SELLER, Deal
from test_deal_waiting import Quiet
from test_request import REQUEST

from mpc_appraisal.appraisal.agreement import make_request
from mpc_appraisal.appraisal.counterparty import check_counterparty
from mpc_appraisal.appraisal.plan import DataOwnerInput, DisclosureControls
from mpc_appraisal.cli import safeguards
from mpc_appraisal.cli.config import compose
from mpc_appraisal.cli.inputs import read_own
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.governance.approval.decide import ApprovalError, Request, RequestQueue, Rules, decide
from mpc_appraisal.governance.budget.keys import keyed, place
from mpc_appraisal.governance.budget.state import spent
from mpc_appraisal.governance.catalogue import commit
from mpc_appraisal.mpc.net.certificates import key_digest, make_trial
from mpc_appraisal.release import Charge, Ledger, LedgerSet, Mechanism, Policy, Question, epsilon, verify

ONE, TWO = "1" * 64, "2" * 64
NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)


def question(subject: str, who: str = "acme", **noise) -> Question:
    return Question(who, "influence", 500, subject, Mechanism("gaussian", **noise) if noise else Mechanism())


# ---- a key for each ledger


def test_a_ledger_has_a_key_for_its_owner_alone_and_another_ledger_another(tmp_path):
    first, second = (Ledger(tmp_path / name, "seller") for name in ("a.ledger", "b.ledger"))
    assert first.key()[1] and second.key()[1] and first.key()[0] != second.key()[0] and len(first.key()[0]) == 32
    assert place(first.path).name == "a.ledger.salt" and place(first.path).stat().st_mode & 0o777 == 0o600
    assert Ledger(first.path).key() == first.key()
    os.chmod(place(first.path), 0o644)
    with pytest.raises(InputError, match="mode 644; expected a key for its owner alone"):
        first.key()


def test_a_lost_key_leaves_the_ledger_whole_and_is_said(tmp_path):
    ledger = Ledger(tmp_path / "a.ledger", "seller")
    ledger.settle(ledger.charge(question("a")), 1)
    place(ledger.path).unlink()
    ledgers = LedgerSet.open("acme", {"a": (ledger.path, "seller")})
    assert ledgers.foreign_keys() == ["a.ledger"] and len(verify(ledger.path).chain.lines) == 3


def test_no_line_of_a_ledger_follows_from_the_data(tmp_path):
    """Two ledgers of one data set, asked the same: all that stands in them of the data differs."""
    said = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        deal = Deal(tmp_path / name)
        deal.settle(deal.agree())
        lines = [json.loads(line) for line in (tmp_path / name / "seller.ledger").read_text().splitlines()]
        said.append(next(line["subject"] for line in lines if line["kind"] == "charge"))
        assert commit(SELLER, bytes(32)) not in json.dumps(lines)
    assert said[0] != said[1]


# ---- budgets belong to data


def own(tmp_path, data: str, *more: str):
    cfg = compose(["session=join", "session.role=data_owner", f"party.data={data}", *more])
    return read_own(cfg, DATA_OWNER, ())


def test_a_copy_of_the_data_under_another_name_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hydra.utils.to_absolute_path", str)
    one, copy, other = (tmp_path / f"{name}.csv" for name in ("one", "copy", "other"))
    for path, seed in ((one, 1), (copy, 1), (other, 2)):
        write_csv(path, *problem(120, seed=seed))
    found = own(tmp_path, str(one))
    assert capsys.readouterr().err == ""
    state = verify(f"{one}.ledger")
    bare = commit(found.candidates[0], bytes(32))
    assert state.digest == keyed(found.controls.ledgers.key("one"), "data", bare) and state.digest != bare
    own(tmp_path, str(other))
    assert capsys.readouterr().err == ""
    own(tmp_path, str(copy))
    assert "the new ledger copy.csv.ledger is of the same data as one.csv.ledger beside it" in capsys.readouterr().err
    (tmp_path / "shared").mkdir()
    shared = tmp_path / "shared" / "all.ledger"
    both = own(tmp_path, f"[{one},{copy}]", f"party.ledger=[{shared},{shared}]")
    assert {ledger.path for ledger in both.controls.ledgers.ledgers.values()} == {shared.resolve()}


def test_candidates_with_common_rows_may_have_one_ledger_which_adds_up(tmp_path):
    noise = {"sigma": 6.0}
    where = {name: (tmp_path / "all.ledger", name) for name in "abc"}
    ledgers = LedgerSet.open("acme", where, Policy(epsilon=9.0))
    ledgers.charge({("influence", name): question(name, **noise) for name in "abc"})
    three = epsilon([Mechanism("gaussian", **noise)] * 3, 1e-6)
    assert all(ledgers.left(name)["epsilon"] == pytest.approx(three) for name in "abc")
    assert three > epsilon([Mechanism("gaussian", **noise)], 1e-6)
    assert LedgerSet.open("acme", {"b": where["b"]}).left("b")["epsilon"] == pytest.approx(three)
    with pytest.raises(InputError, match="ledger.data: got 'd'"):
        LedgerSet.open("acme", {"d": (tmp_path / "all.ledger", "d")})


# ---- a counterparty is its certificate's key


def test_one_buyer_under_two_names_has_one_budget(tmp_path):
    ledger = Ledger(tmp_path / "a.ledger", "seller", Policy(plain_values=3))
    assert isinstance(ledger.charge_all([question("a", "acme")], ONE)[0], Charge)
    assert ledger.consult([question("b", "other")] * 2, ONE) == [None] * 2
    with pytest.raises(InputError, match="budget.plain_values: got 4"):
        ledger.consult([question("b", "other")] * 3, ONE)
    ledger.charge_all([question("b", "other")] * 2, ONE)
    for name, key in (("third", ONE), ("acme", None), ("other", None), ("acme", TWO)):
        with pytest.raises(InputError, match="budget.plain_values: got 4"):
            ledger.charge_all([question("c", name)], key)
    ledger.charge_all([question("c", "stranger")], TWO)
    assert [(row.counterparty, row.questions) for row in spent(verify(ledger.path))] == [
        ("acme, other", 3),
        ("stranger", 1),
    ]


def test_two_names_that_turn_out_to_be_one_are_added_up(tmp_path):
    ledger = Ledger(tmp_path / "a.ledger", "seller", Policy(plain_values=3))
    first = ledger.charge(question("a", "acme"))  # of a time without certificates
    ledger.charge_all([question("a", "other")], ONE)
    ledger.charge_all([question("b", "acme")], ONE)
    assert isinstance(ledger.settle(first, 1).value, int)
    with pytest.raises(InputError, match="budget.plain_values: got 4"):
        ledger.charge(question("c", "other"))
    (row,) = spent(verify(ledger.path))
    assert (row.counterparty, row.questions, row.answers) == ("other, acme", 3, 1) or row.questions == 3


def test_a_wrong_key_is_refused_at_the_meeting_and_no_key_is_no_proof(tmp_path):
    data = DataOwnerInput((SELLER,), DisclosureControls(counterparty_key=ONE))
    shows = {key: SimpleNamespace(certified=lambda role, key=key: key) for key in (ONE, TWO, None)}
    check_counterparty(DATA_OWNER, data, shows[ONE])
    check_counterparty(DATA_OWNER, DataOwnerInput((SELLER,)), shows[None])
    check_counterparty("dealer", None, shows[TWO])
    with pytest.raises(DisagreementError, match=f"model_owner shows a certificate key with SHA-256 {TWO}"):
        check_counterparty(DATA_OWNER, data, shows[TWO])
    with pytest.raises(InputError, match="party.counterparty_key: got .*session.transport=tls"):
        check_counterparty(DATA_OWNER, data, shows[None])


def test_the_digest_of_a_certificates_key(tmp_path):
    make_trial(tmp_path)
    found = x509.load_pem_x509_certificate((tmp_path / "dealer" / "dealer.pem").read_bytes())
    der = found.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key_digest(found) == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("stated", ["acme", ONE[:-1], 3, True])
def test_a_key_that_is_none(stated):
    with pytest.raises(InputError, match="party.counterparty_key"):
        safeguards.key_of({"counterparty_key": stated})


def test_keys_may_be_typed_as_openssl_prints_them():
    typed = ":".join([ONE[:2].upper()] * 32)
    assert safeguards.key_of({"counterparty_key": typed}) == "11" * 32
    assert safeguards.key_of({"counterparty_key": None}) is None


def test_the_request_says_who_shows_which_key_and_that_nobody_does(tmp_path):
    deal = Deal(tmp_path, candidates=(SELLER, SELLER.renamed("other")))
    facts, told = deal.published()
    bare, shown = (
        make_request(deal.plan(), facts, told, dict.fromkeys(facts), keys=keys) for keys in (None, {MODEL_OWNER: ONE})
    )
    assert "keys" not in bare.content and "no party shows a certificate" in " ".join(bare.text().split())
    assert ONE in shown.text() and shown.digest != bare.digest
    assert "adds up" in " ".join(bare.text().split())
    with pytest.raises(InputError, match="request.keys"):
        Request(bare.content | {"keys": {MODEL_OWNER: "x"}})


# ---- rules


def rules(tmp_path, text: str) -> Rules:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return Rules.read(path)


def test_a_rule_may_name_a_certificates_key(tmp_path):
    by_key, by_name = (rules(tmp_path, f"counterparties: [{one}]") for one in (f"'{ONE}'", "acme"))
    assert by_key.broken(REQUEST, "whoever", NOON, ONE) == [] and by_name.broken(REQUEST, "acme", NOON, TWO) == []
    for key in (TWO, None):
        (sentence,) = by_key.broken(REQUEST, "acme", NOON, key)
        assert sentence.startswith("Not an allowed counterparty: acme")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("minimum_rows: 0500", 500),
        ("maximum_openings: 010", 10),
        ("maximum_delta: 1e-6", 1e-6),
        ("maximum_epsilon: .5", 0.5),
        ("maximum_epsilon: 1E3", 1000.0),
        ("maximum_epsilon: 2", 2),
    ],
)
def test_numbers_are_decimal(tmp_path, text, value):
    assert getattr(rules(tmp_path, text), text.partition(":")[0]) == value


@pytest.mark.parametrize(
    "text",
    ["minimum_rows: 5:00", "minimum_rows: 0x10", "minimum_rows: 0b11", "minimum_rows: 1_000", "maximum_epsilon: 1:30.5"]
    + ["maximum_epsilon: .inf", "maximum_epsilon: .nan", "minimum_rows: 1e3", "minimum_rows: '500'"],
)
def test_other_numbers_are_refused(tmp_path, text):
    with pytest.raises(InputError, match="policy"):
        rules(tmp_path, text)


# ---- a yes that nobody used


def test_an_unused_yes_expires(tmp_path):
    now = [NOON]
    desk = RequestQueue(tmp_path / "desk", lambda: now[0], lasts=3600.0)
    desk.put(REQUEST, "acme")
    desk.say(REQUEST.id, True)
    now[0] = NOON + timedelta(seconds=3600)
    assert desk.read(REQUEST.id).state == "yes"
    now[0] = NOON + timedelta(seconds=3601)
    assert desk.read(REQUEST.id).state == "expired" and [each.id for each in desk.pending()] == [REQUEST.id]
    assert desk.take(REQUEST, "acme") is None and desk.read(REQUEST.id).state == "pending"
    assert (tmp_path / "desk" / f"{REQUEST.id}.expired-1").is_file()
    desk.say(REQUEST.id, True)
    assert desk.take(REQUEST, "acme").time == "2026-03-01T13:00:01+00:00"


def test_a_command_says_yes_anew_where_the_old_one_expired_and_a_no_stays(tmp_path):
    now = [NOON]
    desk = RequestQueue(tmp_path / "desk", lambda: now[0])
    desk.put(REQUEST, "acme")
    desk.say(REQUEST.id, True)
    now[0] = NOON + timedelta(days=7, seconds=1)
    assert desk.say(REQUEST.id, True).state == "expired" and desk.read(REQUEST.id).state == "yes"
    arguments = (REQUEST, "ask", desk.folder, "acme", 0.0, lambda: None, lambda line: None)
    now[0] += timedelta(days=8)
    with pytest.raises(ApprovalError, match="no answer"):
        decide(*arguments, clock=lambda: now[0])
    desk.say(REQUEST.id, False)
    now[0] += timedelta(days=800)
    with pytest.raises(ApprovalError, match="refused"):
        decide(*arguments, clock=lambda: now[0])


@pytest.mark.parametrize("days", [0, -1, True, "week", None, 1e9])
def test_days_that_are_none(days):
    with pytest.raises(InputError, match="party.yes_expires"):
        safeguards.expiry_of({"yes_expires": days})
    assert safeguards.expiry_of({"yes_expires": 0.5}) == 43200.0


# ---- real parties over TLS


def test_the_key_of_a_real_certificate_is_checked_kept_and_recorded(module_processes):
    market = Quiet(module_processes, "by_key", seller=problem(120, seed=11))
    own = {DATA_OWNER: ["party.approval=yes", f"party.counterparty_key='{ONE}'"]}
    wrong = market.start(**own)
    wrong.end(2)
    pem = (market.root / "certificates" / MODEL_OWNER / f"{MODEL_OWNER}.pem").read_bytes()
    key = key_digest(x509.load_pem_x509_certificate(pem))
    words = f"model_owner shows a certificate key with SHA-256 {key}, which data_owner does not expect"
    assert wrong.error(DATA_OWNER) == f"{words}\n" and wrong.error(MODEL_OWNER) == f"data_owner stopped: {words}\n"
    assert wrong.without_records() and set(market.charged().values()) == {0}
    policy = market.root / "rules.yaml"
    policy.write_text(f"counterparties: ['{key}']\n")
    session = market.start(data_owner=[f"party.approval={policy}", f"party.counterparty_key='{key}'"])
    session.end()
    (charge,) = market.entries("seller")
    (record,) = session.records(DATA_OWNER)
    assert charge["identity"] == record.budget["counterparty_key"] == key
    for name in ("request.md", "card-seller.md"):
        assert key in (session.run(DATA_OWNER) / name).read_text()
