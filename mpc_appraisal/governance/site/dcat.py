"""A catalogue in DCAT-AP 3, the profile by which European data portals harvest each other's catalogues.

The specification is https://semiceu.github.io/DCAT-AP/releases/3.0.1/. In go listings and what the publisher says of
the catalogue; out comes one JSON-LD document: the catalogue, a data set for each listing, its distribution, and the
owner's terms as a policy in ODRL. The distribution has an access address, the listing's page, and no download address,
because the data stay with their owner. What the profile makes mandatory is in tests/governance/dcat_ap_3.ttl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpc_appraisal.governance.catalogue.commitment import SCHEME
from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.site.offer import CONTEXT as OFFER_CONTEXT
from mpc_appraisal.governance.site.offer import offer, offer_words
from mpc_appraisal.governance.site.words import COMMITTED, KEPT, Addresses, description_of, licence_address, title_of

CONTEXT = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dct": "http://purl.org/dc/terms/",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    **OFFER_CONTEXT,
}
# The data are given under conditions, which the policy states.
RESTRICTED = "http://publications.europa.eu/resource/authority/access-right/RESTRICTED"
TITLE = "Catalogue of data sets"
UNNAMED = "publisher not stated"


@dataclass(frozen=True)
class Publisher:
    """What the publisher says of the catalogue.

    Attributes:
        name: who publishes it; None where nobody is named.
        title: the title of the catalogue.
        description: what the catalogue is; None stands for a sentence with the number of listings.
        url: the site's address with a slash at its end; "" for a site that may lie anywhere.
    """

    name: str | None = None
    title: str = TITLE
    description: str | None = None
    url: str = ""

    def words(self, listings: int) -> str:
        """Return the description, or a sentence with the number of listings."""
        if self.description:
            return self.description
        noun = "one data set" if listings == 1 else f"{listings} data sets"
        return f"Descriptions of {noun} whose owners let models be appraised on them without showing the data."


def dcat(listings: Sequence[Listing], publisher: Publisher) -> dict[str, Any]:
    """Return the catalogue of these listings. It lies in the site's folder, to which its addresses are relative."""
    return {
        "@context": CONTEXT,
        "@id": f"{publisher.url}index.html#catalogue",
        "@type": "dcat:Catalog",
        "dct:title": publisher.title,
        "dct:description": publisher.words(len(listings)),
        "dct:publisher": _agent(publisher.name or UNNAMED),
        "foaf:homepage": _page(f"{publisher.url}index.html"),
        "dcat:dataset": [_dataset(listing, Addresses.of(listing.name, publisher.url)) for listing in listings],
    }


def _dataset(listing: Listing, at: Addresses) -> dict[str, Any]:
    content: dict[str, Any] = {
        "@id": at.data,
        "@type": "dcat:Dataset",
        "dct:title": title_of(listing),
        "dct:description": description_of(listing),
        "dct:identifier": [listing.name, f"{SCHEME}:{listing.digest}"],
        "dct:accessRights": {"@id": RESTRICTED, "@type": "dct:RightsStatement"},
        "dct:creator": listing.creator and _agent(listing.creator),
        "dct:issued": listing.date and {"@value": listing.date, "@type": "xsd:date"},
        "dcat:version": listing.version,
        "dcat:landingPage": _page(at.page),
        "rdfs:seeAlso": [{"@id": at.croissant}, {"@id": at.listing}],
        "odrl:hasPolicy": {"@id": at.offer},
        "dcat:distribution": [_distribution(listing, at)],
    }
    return {key: value for key, value in content.items() if value is not None}


def _distribution(listing: Listing, at: Addresses) -> dict[str, Any]:
    licence = listing.terms.licence
    address = licence_address(licence)
    document = {"@id": address} if address else {"rdfs:label": licence}
    content = {
        "@id": at.distribution,
        "@type": "dcat:Distribution",
        "dct:title": f"{title_of(listing)}, as its owner delivers it",
        "dct:description": f"{KEPT} {COMMITTED}",
        "dcat:accessURL": {"@id": at.page},
        "dct:license": licence and {"@type": "dct:LicenseDocument"} | document,
        "odrl:hasPolicy": {
            "@type": ["odrl:Policy", "odrl:Offer"],
            "dct:title": f"Offer for {title_of(listing)}",
            "dct:description": offer_words(listing),
        }
        | offer(listing, at),
    }
    return {key: value for key, value in content.items() if value is not None}


def _page(address: str) -> dict[str, Any]:
    return {"@id": address, "@type": "foaf:Document"}


def _agent(name: str) -> dict[str, Any]:
    return {"@type": "foaf:Agent", "foaf:name": name}
