"""Answers from the data owner's ledger: the model owner takes them only where its own ledger holds the same ones."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from test_deal_edges import OTHER, SELLER, Deal

from mpc_appraisal.appraisal import agreement as consent_module
from mpc_appraisal.appraisal import questions
from mpc_appraisal.appraisal.agreement import Agreed, make_request
from mpc_appraisal.appraisal.encrypted_answers import EncryptedAnswers, keys_in
from mpc_appraisal.appraisal.plan import ModelOwnerInput
from mpc_appraisal.appraisal.questions import inputs_of, questions_of
from mpc_appraisal.common.errors import DisagreementError, PeerError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.release import Best, Outcome

KEY = ("influence", "seller")


def good(found: dict) -> dict:
    assert all(isinstance(each, Agreed) for each in found.values()), found
    return found


def forging(monkeypatch, answers: dict) -> None:
    """The data owner says that its ledger holds these, whatever was asked."""
    monkeypatch.setattr(consent_module, "_known", lambda plan, found: dict(answers))


def test_a_forged_answer_is_computed_and_charged_at_both(tmp_path, monkeypatch, capsys):
    deal = Deal(tmp_path)
    forging(monkeypatch, {KEY: Outcome(opened=123456.0)})
    agreed = good(deal.agree())
    for role in ROLES:
        assert agreed[role].answers == {} and len(agreed[role].openings) == 1
    assert deal.counts() == {"model": (1, 0), "seller": (1, 0)}
    assert "so it is computed anew" in capsys.readouterr().err


def test_another_value_for_an_old_question_is_computed_anew_and_the_same_is_free(tmp_path, monkeypatch):
    deal = Deal(tmp_path)
    deal.settle(good(deal.agree()))
    again = good(deal.agree())
    assert [again[role].answers for role in OWNERS] == [{KEY: Outcome(1.25)}] * 2
    assert again[DEALER].answers == {KEY: Outcome()} and deal.counts() == {"model": (1, 1), "seller": (1, 1)}
    with monkeypatch.context() as patch:
        forging(patch, {KEY: Outcome(1.5)})
        agreed = good(deal.agree())
    assert all(agreed[role].answers == {} for role in ROLES)
    assert deal.counts() == {"model": (2, 1), "seller": (2, 1)}


def test_an_answer_that_the_model_owner_has_lost_is_computed_and_charged_again(tmp_path):
    deal = Deal(tmp_path)
    deal.settle(good(deal.agree()))
    for path in tmp_path.glob("model.ledger*"):
        path.unlink()
    agreed = good(deal.agree())
    assert all(agreed[role].answers == {} for role in ROLES)
    assert deal.counts() == {"model": (1, 0), "seller": (2, 1)}
    deal.settle(agreed, 1.25)
    assert good(deal.agree())[MODEL_OWNER].answers == {KEY: Outcome(1.25)}


def test_without_a_ledger_of_its_own_the_model_owner_takes_no_answer(tmp_path):
    class Bare(Deal):
        def own(self, role):
            own = super().own(role)
            return replace(own, controls=replace(own.controls, ledgers=None)) if role == MODEL_OWNER else own

    deal = Bare(tmp_path)
    first = good(deal.agree())
    deal.owns[DATA_OWNER].controls.ledgers.settle(KEY, asdict(Outcome(1.25)))
    assert first[MODEL_OWNER].marks == {} and good(deal.agree())[MODEL_OWNER].answers == {}
    assert deal.counts()["seller"] == (2, 1)


def test_of_a_joint_release_one_forged_answer_spoils_all(tmp_path, monkeypatch):
    deal = Deal(tmp_path, Best(1), candidates=(SELLER, OTHER))
    agreed = good(deal.agree())
    deal.settle(agreed)
    keys = [("influence", name) for name in ("seller", "other")]
    assert set(good(deal.agree())[MODEL_OWNER].answers) == set(keys)
    forging(monkeypatch, {keys[0]: Outcome(1.25), keys[1]: Outcome(9.0)})
    assert all(each.answers == {} for each in good(deal.agree()).values())


@pytest.mark.parametrize(
    "answers", [{("nosuch", "x"): Outcome(1.0)}, {("influence", "x"): Outcome(1.0)}, {("x", "seller"): Outcome()}]
)
def test_answers_to_what_was_not_asked_are_a_named_error_at_all_three(tmp_path, monkeypatch, answers):
    deal = Deal(tmp_path)
    forging(monkeypatch, answers)
    found = deal.agree()
    assert all(isinstance(found[role], (DisagreementError, PeerError)) for role in ROLES)
    assert any("that was not asked" in str(found[role]) for role in (MODEL_OWNER, DEALER))
    assert deal.counts() == {"model": (0, 0), "seller": (0, 0)}


@pytest.mark.parametrize("said", [None, 3, {"a": 1}, ["ab"], [["influence"]], [[1, 2]], [[*KEY], [*KEY]], [[*KEY, 1]]])
def test_lists_of_questions_that_are_none(said):
    with pytest.raises(DisagreementError, match="data_owner names"):
        keys_in(said, [KEY], False, DATA_OWNER)


def test_a_part_of_a_joint_answer_is_refused():
    with pytest.raises(DisagreementError, match="answered together"):
        keys_in([["a", "x"]], [("a", "x"), ("a", "y"), ("b", "x")], True, DATA_OWNER)


def test_sealed_answers_that_cannot_be_read():
    buyer, seller = EncryptedAnswers(), EncryptedAnswers()
    sealed = seal = seller.seal(buyer.address, [Outcome(1.0)])
    assert buyer.unseal(sealed, 1) == [Outcome(1.0)]
    other = EncryptedAnswers().seal(buyer.address, [Outcome(1.0)])
    bad = [None, 3, [], {}, {"key": "x", "text": "y"}, seal | {"text": "zz"}, seal | {"text": sealed["text"][:-2]}]
    bad += [seal | {"key": other["key"]}, seal | {"key": 3}, seal | {"key": "00" * 32}, seal | {"text": None}]
    for each in bad:
        with pytest.raises(PeerError, match="data_owner"):
            buyer.unseal(each, 1)
    with pytest.raises(PeerError, match="sealed 1 answers; expected 2"):
        buyer.unseal(sealed, 2)
    for address in (None, 3, "x", "00"):
        with pytest.raises(PeerError, match="no key"):
            seller.seal(address, [])


def test_an_old_ledgers_answer_is_still_found_and_a_new_ledger_holds_no_bare_hash(tmp_path, monkeypatch):
    """A ledger from before there were keys: its first line states none, its questions hold the hash without a key."""
    deal = Deal(tmp_path)
    from mpc_appraisal.governance.budget import hash_chain as chain

    real = chain.create
    monkeypatch.setattr(
        chain, "create", lambda path, entry: real(path, {k: v for k, v in entry.items() if k != "check"})
    )
    with monkeypatch.context() as patch:
        patch.setattr(questions, "keyed", lambda key, purpose, content: content)
        deal.settle(good(deal.agree()))
    monkeypatch.setattr(chain, "create", real)
    lines = [json.loads(line) for line in (tmp_path / "seller.ledger").read_text().splitlines()]
    assert "check" not in lines[0]
    assert good(deal.agree())[DATA_OWNER].answers == {KEY: Outcome(1.25)}
    assert deal.counts()["seller"] == (1, 1)
    # in a new folder: the same question is another one, for the key is another
    new = Deal(tmp_path / "new")
    new.folder.mkdir()
    good(new.agree())
    asked = json.loads((new.folder / "seller.ledger").read_text().splitlines()[1])
    assert asked["subject"] != lines[1]["subject"]
    plan, (facts, published) = new.plan(), new.published()
    request = make_request(plan, facts, published, dict.fromkeys(facts))
    own = replace(new.own(DATA_OWNER), controls=replace(new.own(DATA_OWNER).controls, ledgers=None))
    inputs = inputs_of(new.own(MODEL_OWNER))
    bare = questions_of(DATA_OWNER, plan, own, facts, inputs, request)[KEY]
    assert bare.subject == lines[1]["subject"] and isinstance(new.own(MODEL_OWNER), ModelOwnerInput)
