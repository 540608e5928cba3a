"""An answer under a standing offer between organisations over TLS: without a person, counted, and named by both."""

from __future__ import annotations

import json

import pytest
from deals import OWNERS, SELLER, CertifiedMarket, close, value_of
from processes import DATA_OWNER, MODEL_OWNER

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import Taken


class OfferMarket(CertifiedMarket):
    """A market whose data owner has listed its data and has an offer of one answer a month."""

    def __init__(self, processes, name: str):
        super().__init__(processes, name, seller=SELLER)
        COMMANDS["certificates"]([str(self.root / "certificates")])
        catalogue, self.offers = self.root / "seller" / "catalogue", self.root / "seller" / "offers"
        COMMANDS["catalogue"](
            ["publish", f"data={self.files['seller']}", "name=seller", "price=100", "currency=EUR", f"out={catalogue}"]
        )
        self.listing = catalogue / "seller.json"
        self.make("price=10")
        self.bought = self.root / "buyer" / "standard.json"
        self.bought.write_text((self.offers / "standard.json").read_text())

    def make(self, *terms: str) -> Offer:
        stated = ["name=standard", f"listing={self.listing}", "methods=influence", "release=value"]
        stated += ["answers_per_month=1", "until=2999-12-31", "purposes=purchase", f"in={self.offers}"]
        COMMANDS["offer"](["make", *stated, f"tls={self.root / 'certificates'}", *terms])
        return Offer.read(self.offers / "standard.json")

    def ask(self, *buyer: str, seller: tuple[str, ...] = ()):
        """A session in which the model owner takes the offer that it has; nobody says yes at the data owner."""
        asked = [f"party.offer={self.bought}", "party.purpose=purchase", *buyer]
        owned = [f"party.offers={self.offers}", f"party.listing={self.listing}", "party.patience=1", *seller]
        return self.start(**{MODEL_OWNER: asked, DATA_OWNER: owned})

    def taken(self) -> list[dict]:
        lines = map(json.loads, (self.root / "seller" / "offers.taken").read_text().splitlines())
        return [line for line in lines if line["kind"] == "taken"]


@pytest.fixture(scope="module")
def market(module_processes):
    return OfferMarket(module_processes, "offers")


@pytest.fixture(scope="module")
def done(market):
    """The session that takes the one answer of the month."""
    session = market.ask()
    session.end()
    return session


def test_the_answer_is_given_without_a_person_and_is_right(market, done):
    (record,) = done.records(MODEL_OWNER)
    assert close(record.value, value_of(SELLER)) and record.request["how"] == "offer"
    assert not market.desk.exists() and " waits for a yes" not in done[DATA_OWNER].err


def test_it_was_counted_once_for_this_request_and_this_buyer(market, done):
    offer, (line,) = Offer.read(market.bought), market.taken()
    record = done.records(DATA_OWNER)[0]
    assert {key: line[key] for key in ("offer", "digest", "request", "buyer", "answers")} == {
        "offer": "standard", "digest": offer.digest, "request": record.request["digest"],
        "buyer": record.receipt["content"]["keys"][MODEL_OWNER], "answers": 1,
    }  # fmt: skip


def test_records_cards_and_receipts_name_the_offer(market, done, capsys):
    offer = Offer.read(market.bought)
    named = {"name": "standard", "digest": offer.digest}
    certificates = [f"{role}={market.root}/certificates/{role}/{role}.pem" for role in OWNERS]
    for role in OWNERS:
        (record,) = done.records(role)
        assert record.request["offer"] == named | {"price": {"amount": 10, "currency": "EUR"}}
        assert record.receipt["content"]["offer"] == named
        page = next(done.run(role).glob("card-*.md")).read_text()
        assert "under the offer" in page and offer.digest in page and "by the data owner's standing offer" in page
        for card in done.run(role).glob("card-*"):
            COMMANDS["card"](["verify", str(card), *certificates, "--json"])
            (table,) = json.loads(capsys.readouterr().out)["tables"]
            assert {"what": "under the offer", "value": f"standard ({offer.digest})"} in table["rows"]
        text = " ".join((done.run(role) / "request.md").read_text().split())
        assert 'standing offer "standard", at this price: 10 EUR for one answer.' in text


def test_a_used_up_offer_is_refused_by_its_term_at_both_sides(market, done):
    session = market.ask()
    session.end(2)
    words = "the offer standard gives no yes: answers a month: got 1 more; expected at most the 0 that are left of 1"
    for role in OWNERS:
        assert words in " ".join(session.error(role).split()), session.error(role)
    assert len(market.taken()) == 1 and session.without_records()
    assert "waits for a yes" in session[DATA_OWNER].err  # as any other request


def test_a_changed_offer_is_refused_until_the_buyer_names_the_new_one(market, done):
    changed = market.make("price=12", "replace=yes")
    session = market.ask()
    session.end(2)
    words = "price: got 10 EUR for one answer; expected 12 EUR for one answer, since the offer was changed"
    for role in OWNERS:
        found = " ".join(session.error(role).split())
        assert words in found and f"expected {changed.digest}" in found, found
    market.bought.write_text(changed.text())
    session = market.ask()
    session.end(2)
    assert "answers a month: got 1 more" in session.error(MODEL_OWNER)  # the new one is named; the month is used up


def test_new_terms_need_the_model_owners_yes(market, done):
    """The data owner has a new price in its listing, and the model owner has agreed to the one before."""
    market.listing.write_text(market.listing.read_text().replace('"price": 100', '"price": 120'))
    agreed = done.run(MODEL_OWNER) / "request.json"
    session = market.start(**{
        MODEL_OWNER: [f"party.agreed={agreed}"],
        DATA_OWNER: [f"party.listing={market.listing}", "party.approval=yes"],
    })  # fmt: skip
    session.end(2)
    for role in OWNERS:
        found = " ".join(session.error(role).split())
        assert "price of seller: 100 EUR before, 120 EUR now" in found and "purpose: purchase before, none now" in found
    assert session.without_records()
    new = json.loads((session.run(MODEL_OWNER) / "request.json").read_text())  # the terms to agree to now
    assert new["candidates"][0]["listing"]["price"] == 120


def test_an_offer_of_another_key_is_refused_before_anything_is_asked(market):
    content = {key: value for key, value in Offer.read(market.bought).content.items() if key not in ("key", "format")}
    from cryptography.hazmat.primitives.asymmetric import ec

    foreign = market.root / "buyer" / "foreign.json"
    foreign.write_text(Offer.signed(content, ec.generate_private_key(ec.SECP256R1())).text())
    session = market.ask(f"party.offer={foreign}")
    session.end(2)
    assert "the offer standard (party.offer) was signed with the key" in session.error(MODEL_OWNER)
    tampered = json.loads(market.bought.read_text())
    tampered["content"]["price"]["amount"] = 1
    foreign.write_text(json.dumps(tampered))
    with pytest.raises(InputError, match="^party.offer.signature: got a signature of other terms"):
        Offer.read(foreign, "party.offer")


def test_the_count_is_the_owners_own(market, done, capsys):
    from mpc_appraisal.governance.approval.decision import utc_now

    assert Taken(market.root / "seller" / "offers.taken").count("standard", utc_now()) == 1
    COMMANDS["offer"](["list", f"in={market.offers}", f"ledgers={market.root / 'seller'}", "--json"])
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert {key: table["rows"][0][key] for key in ("offer", "state", "left", "a month")} == {
        "offer": "standard", "state": "in force", "left": 0, "a month": 1
    }  # fmt: skip
