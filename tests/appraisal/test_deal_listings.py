"""Appraisals against listings, with prices."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from deals import (
    OWNERS,
    SELLER,
    Market,
    close,
    value_of,
)
from processes import (
    DATA_OWNER,
    DEALER,
    MODEL_OWNER,
    ROLES,
    Processes,
)

from mpc_appraisal.cli.commands import COMMANDS

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
    words = "listing 'two': {} at model_owner, {} at data_owner; expected the same listing, to the letter".format(
        *digests
    )
    words += "; price: 101 at model_owner, 100 at data_owner\n"
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
