"""What the desk shows of the catalogue: the tables of `mpc-appraisal catalogue list` and `show`.

In go the folders; out come tables and facts. A file that is no listing becomes a sentence on the page.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.cli.commands.catalogue.listings import check_name, table_of
from mpc_appraisal.cli.commands.catalogue.show import facts_of, samples_of
from mpc_appraisal.cli.desk.places import Places, inside
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.governance.catalogue.listing import Listing, read_listing
from mpc_appraisal.governance.catalogue.store import Bad, read_catalogue
from mpc_appraisal.reporting.table import Table

WHOLE = 200  # characters of a title or a name: a page breaks lines where a terminal cuts them


def within(places: Places) -> tuple[list[Listing], list[Bad]]:
    """Return the listings and the bad files of the catalogue, without links that lead out of it."""
    if not places.catalogue.is_dir():
        return [], []
    listings, bad = read_catalogue(places.catalogue)
    kept = {
        path.name for path in places.catalogue.glob("*.json") if path.resolve().parent == places.catalogue.resolve()
    }
    return [one for one in listings if f"{one.name}.json" in kept], [one for one in bad if one.file in kept]


def all_listings(places: Places) -> dict[str, Any]:
    """Return `table`, and `bad`: a sentence on each file that is no listing."""
    listings, bad = within(places)
    return {"table": table_of("Listings", listings, WHOLE), "bad": [shown(str(one.error), 400) for one in bad]}


def one_listing(places: Places, name: str) -> dict[str, Any]:
    """Return `name`, `facts` (pairs of texts) and `samples` (a table, or None).

    Raises InputError for a name that is none, and for a bad listing.
    """
    check_name(name)
    listing = read_listing(inside(places.catalogue, f"{name}.json"))
    facts = [(key, printable(text, newlines=True)) for key, text in facts_of(listing).items() if text]
    samples: Table | None = samples_of(listing, WHOLE) if listing.samples else None
    return {"name": name, "facts": facts, "samples": samples}
