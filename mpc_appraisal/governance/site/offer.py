"""An owner's terms as an offer in ODRL, the W3C's language of policies (https://www.w3.org/TR/odrl-model/).

    permission: use of the data
      constraint: the purpose is any of those that the owner names
      duty:       obtain the owner's consent; pay the price

In goes a listing with its addresses; out comes the offer as JSON-LD. Every permission has the duty to obtain consent,
because a listing gives nobody the data: the owner says yes to each request. Dropping this duty would publish a
permission that the owner has not given. What ODRL cannot say stays in the owner's own words, which come with the offer.
The target is the distribution, what the owner delivers, and not the data set, which has the offer: mlcroissant 1.1.1
follows references without end where they lead in a circle (see findings/croissant_context.sh).
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.site.words import Addresses, price_of

CONTEXT = {
    "foaf": "http://xmlns.com/foaf/0.1/",
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
CURRENCY = "http://publications.europa.eu/resource/authority/currency/"  # followed by the three letters of ISO 4217
OWNER = "the data owner"  # the party that offers, where the listing names no creator


def offer(listing: Listing, at: Addresses) -> dict[str, Any]:
    """Return the offer without a title and a type. Its document has to have the prefixes of CONTEXT."""
    permission: dict[str, Any] = {
        "@type": "odrl:Permission",
        "odrl:target": {"@id": at.distribution},
        "odrl:action": {"@id": "odrl:use"},
        "odrl:duty": _duties(listing),
    }
    if listing.terms.purposes:
        permission["odrl:constraint"] = [_constraint("purpose", "isAnyOf", list(listing.terms.purposes))]
    return {
        "@id": at.offer,
        "odrl:assigner": {"@type": "odrl:Party", "foaf:name": listing.creator or OWNER},
        "odrl:permission": [permission],
    }


def offer_words(listing: Listing) -> str:
    """Return the terms that ODRL has no words for, and who has to say yes."""
    words = [listing.terms.text] if listing.terms.text else []
    if listing.terms.minimum_rows > 1:
        words.append(f"An appraisal has {listing.terms.minimum_rows} rows or more.")
    return "\n".join((*words, "The owner says yes or no to each request."))


def _duties(listing: Listing) -> list[dict[str, Any]]:
    duties: list[dict[str, Any]] = [{"@type": "odrl:Duty", "odrl:action": {"@id": "odrl:obtainConsent"}}]
    price = price_of(listing.terms)
    if price is not None:
        amount = _constraint("payAmount", "eq", {"@value": price, "@type": "xsd:decimal"})
        amount["odrl:unit"] = {"@id": CURRENCY + listing.terms.currency}
        paid = {"rdf:value": {"@id": "odrl:compensate"}, "odrl:refinement": [amount]}
        duties.append({"@type": "odrl:Duty", "odrl:action": paid})
    return duties


def _constraint(left: str, operator: str, right: Any) -> dict[str, Any]:
    return {
        "@type": "odrl:Constraint",
        "odrl:leftOperand": {"@id": f"odrl:{left}"},
        "odrl:operator": {"@id": f"odrl:{operator}"},
        "odrl:rightOperand": right,
    }
