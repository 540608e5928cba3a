"""What the desk shows of standing offers: the table of `mpc-appraisal offer list`, and the terms of each offer.

In go the folders; out come a table and facts. Nothing is changed here: an offer is signed with a key that the desk does
not read.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.cli.offer_views import facts_of, table_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decision import utc_now
from mpc_appraisal.governance.offers.book import OfferBook
from mpc_appraisal.governance.offers.taken import FILE, Taken
from mpc_appraisal.reporting.table import Table


def all_offers(places: Places) -> dict[str, Any]:
    """Return `table` (None for no offer), `offers` (pairs of a name and its facts) and `error`, which may be empty."""
    folder = places.offers.resolve()
    kept = [one for one in OfferBook(folder).all() if (folder / f"{one.name}.json").resolve().parent == folder]
    offers = [(one.name, facts_of(one.offer)) for one in kept if one.offer is not None]
    table: Table | None = None
    try:
        table = table_of(kept, Taken(places.ledgers / FILE), utc_now()) if kept else None
    except InputError as error:
        return {"table": None, "offers": offers, "error": str(error)}
    return {"table": table, "offers": offers, "error": ""}
