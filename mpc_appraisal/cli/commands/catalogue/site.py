"""`mpc-appraisal catalogue site`: write a catalogue as pages with a search, as Croissant and as DCAT-AP.

In go the catalogue (a folder of listings), a folder for the pages, what the publisher says of the catalogue, and
perhaps a folder of standing offers, of which those in force are shown. Out come the pages, and a line for each listing
that lacks what Croissant requires. Status 1 says that a file of the catalogue or an offer is bad. A key for what the
publisher says is added to `KEYS`. Nothing may be written that a listing or an offer does not state, and a bad file must
not keep the others from being shown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.arguments import split
from mpc_appraisal.cli.commands.catalogue.listings import folder_of, name_bad
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import is_web_address, shown
from mpc_appraisal.governance.approval.decision import utc_now
from mpc_appraisal.governance.catalogue.store import read_catalogue, read_descriptions
from mpc_appraisal.governance.offers.book import Kept, OfferBook
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.site import Publisher, missing, write_site

KEYS = ("title", "description", "publisher", "url", "offers")
ADDRESS = "the address of the site with a slash at its end, as https://example.org/data/"


def run(arguments: Sequence[str], console: Any) -> None:
    """Write the site, print its first page's path and what listings lack, and name bad files on standard error.

    Raises InputError for a bad argument or a folder with other files, and SystemExit with status 1 if a file is bad.
    """
    catalogue, left = folder_of(arguments)
    stated, others = split(left, KEYS)
    if len(others) != 1 or "=" in others[0] or not others[0]:
        expected = f"the folder of the site, in=DIR, and {', '.join(f'{key}=...' for key in KEYS)}, each once"
        raise InputError("site", shown(" ".join(others)) or "nothing", expected)
    for key, text in stated.items():
        if not text or len(text) > 2000:
            raise InputError(key, shown(text) or "nothing", f"{key}=..., a text of 1 to 2000 characters")
    url = stated.get("url", "")
    if url and not (is_web_address(url) and url.endswith("/") and not set("?#") & set(url)):
        raise InputError("url", shown(url), ADDRESS)
    listings, bad = read_catalogue(catalogue)
    imported, worse = read_descriptions(catalogue)
    said = {key: stated[key] for key in ("title", "description") if key in stated}
    folder = Path(others[0])
    if folder.resolve() == catalogue.resolve():
        raise InputError("site", shown(str(folder)), "another folder than that of the catalogue")
    standing, worst = _offers(stated["offers"]) if "offers" in stated else ([], [])
    written = write_site(folder, listings, Publisher(stated.get("publisher"), **said, url=url), imported, standing)
    others = f", {len(imported)} imported" if imported else ""
    print(f"site: {written[0]} ({len(listings)} {'listing' if len(listings) == 1 else 'listings'}{others})")
    if "publisher" not in stated:
        print("publisher: DCAT-AP requires the name of who publishes the catalogue (publisher=NAME)")
    for listing in listings:
        lacking = missing(listing)
        if lacking:
            print(f"listing {listing.name}: Croissant requires {', '.join(lacking)}, which it does not state")
    for one in worst:
        print(f"offer {shown(one.name)}: {one.error}", file=sys.stderr)
    if name_bad(bad + worse) or worst:
        raise SystemExit(1)


def _offers(stated: str) -> tuple[list[Offer], list[Kept]]:
    """Return the offers in force of a folder, and its damaged ones. Raises InputError where it is no folder."""
    if not Path(stated).is_dir():
        raise InputError("offers", shown(stated), "the folder of offers, as `mpc-appraisal offer make` makes it")
    found, now = OfferBook(stated).all(), utc_now()
    kept = [one.offer for one in found if one.offer is not None and not one.withdrawn and now < one.offer.end]
    return kept, [one for one in found if one.offer is None]
