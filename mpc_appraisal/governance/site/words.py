"""What files and pages of a site say alike of one listing: its addresses, title, description, licence and statistics.

In goes a listing; out come texts and addresses. An address is relative to the site's folder and comes after `to`, which
is the site's own address or the way up to that folder. Addresses have to stay, because others link to them. A licence
may be added to LICENCES.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from mpc_appraisal.common.text import is_web_address
from mpc_appraisal.governance.catalogue.commitment import SCHEME
from mpc_appraisal.governance.catalogue.listing import Listing, Terms

# Licences of data, and of code that comes with data, by their names in the SPDX list.
LICENCES = (
    *("Apache-2.0", "BSD-3-Clause", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-NC-ND-4.0"),
    *("CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CDLA-Permissive-1.0"),
    *("CDLA-Permissive-2.0", "CDLA-Sharing-1.0", "DL-DE-BY-2.0", "etalab-2.0", "MIT", "ODbL-1.0", "ODC-By-1.0"),
    *("OGL-UK-3.0", "PDDL-1.0"),
)
COMMITTED = (
    f"The digest is the listing's salted commitment (scheme {SCHEME}), no digest of a file. The owner's salt opens it, "
    "and without the salt nobody can test guesses of the data."
)
KEPT = "The data stay with their owner. The address leads to the listing, which says whom to ask for them."


@dataclass(frozen=True)
class Addresses:
    """The addresses of one listing in a site.

    Attributes:
        page: its page.
        data: the data set itself, which is no file of the site.
        offer: the owner's terms.
        distribution: the data as they are delivered after a deal.
        croissant, listing: its Croissant file, and the listing's own file.
    """

    page: str
    data: str
    offer: str
    distribution: str
    croissant: str
    listing: str

    @staticmethod
    def of(name: str, to: str) -> Addresses:
        """Return the addresses of the listing called `name`."""
        page = f"{to}listings/{name}.html"
        parts = (f"{page}#{part}" for part in ("data", "offer", "distribution"))
        return Addresses(page, *parts, f"{to}croissant/{name}.json", f"{to}listings/{name}.json")


def title_of(listing: Listing) -> str:
    """Return the owner's title, or the listing's name where there is none."""
    return listing.title or listing.name


def description_of(listing: Listing) -> str:
    """Return the owner's description, or the sizes in a sentence where there is none."""
    if listing.description:
        return listing.description
    rows, features = _count(listing.rows, "row"), _count(listing.features, "feature")
    if listing.target:
        return f"{rows} of {features} with a target that is a number."
    return f"{rows} of {features} in {listing.classes} classes."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def licence_address(licence: str | None) -> str | None:
    """Return the address of a licence that has one: its own, or its page in the SPDX list; else None."""
    if licence is None:
        return None
    if is_web_address(licence):
        return licence
    known = {name.lower(): name for name in LICENCES}.get(licence.lower())
    return known and f"https://spdx.org/licenses/{known}.html"


def price_of(terms: Terms) -> str | None:
    """Return the price as a decimal number without an exponent; None where none is stated."""
    if terms.price is None:
        return None
    text = format(Decimal(repr(terms.price)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def columns_of(listing: Listing) -> list[tuple[str, str | None]]:
    """Return the name and the type of each feature; a type is None where the listing counts types alone.

    Features go by position, x0, x1, ..., where the owner does not name them.
    """
    if listing.columns:
        return list(listing.columns)
    kinds = [kind for kind, count in listing.types.items() if count]
    return [(f"x{k}", kinds[0] if len(kinds) == 1 else None) for k in range(listing.features)]
