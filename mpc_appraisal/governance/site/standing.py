"""The standing offers of a data owner on the page of the listing that they are of.

In go offers and a listing; out come the offers of this listing's data and a section of its page. Each offer's own file
lies beside the page, so that a buyer takes it from there and checks it with the data owner's certificate. An offer that
was withdrawn or that is over is not handed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.words import terms_of
from mpc_appraisal.governance.site.listing_page import Fact, Section, safe

FOLDER = "offers"
SENTENCE = (
    "The data owner answers a request that keeps the terms of an offer without being asked. A model owner keeps the "
    "offer's file, checks it with the data owner's certificate, and names it."
)


def offers_of(listing: Listing, offers: Sequence[Offer]) -> list[Offer]:
    """Return the offers of this listing's data, by name."""
    found = [one for one in offers if one.content["data"]["commitment"] == listing.digest]
    return sorted((one for one in found if one.content["data"]["listing"] == listing.name), key=lambda one: one.name)


def section_of(offers: Sequence[Offer]) -> Section | None:
    """Return the section that shows the offers; None for no offer."""
    if not offers:
        return None
    facts = [fact for offer in offers for fact in _facts(offer)]
    return Section("Standing offers", (SENTENCE,), tuple(facts), f"mpc-appraisal ... party.offer={offers[0].name}.json")


def _facts(offer: Offer) -> list[Fact]:
    terms, buyers = terms_of(offer), offer.content.get("buyers")
    terms["buyers"] = terms["buyers"] if buyers is None else f"{len(buyers)} that the offer names by their keys"
    found = [Fact("offer", offer.name, f"../{FOLDER}/{offer.name}.json")]
    found += [Fact(term, safe(text), kind="text") for term, text in terms.items() if term != "data"]
    return [*found, Fact("offer's SHA-256", offer.digest, kind="hash")]
