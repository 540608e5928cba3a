"""What is charged to whom: values, noise and bits."""

from __future__ import annotations

import re
import struct

import pytest
from deals import (
    OWNERS,
    SECOND,
    SELLER,
    THIRD,
    Market,
    close,
    value_of,
)
from processes import (
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    ROLES,
    problem,
)

from mpc_appraisal.governance.budget.state import spent
from mpc_appraisal.release import Ledger, Policy, Question, verify

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
