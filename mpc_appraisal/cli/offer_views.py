"""Standing offers as tables, for the command line and for the desk.

In go the offers of a folder and the file that counts their answers; out come tables. A column may be added; those that
exist have to stay, because scripts read them.
"""

from __future__ import annotations

from datetime import datetime

from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.offers.book import Kept
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import Taken, month_of
from mpc_appraisal.governance.offers.words import price_words, terms_of
from mpc_appraisal.reporting.table import DASH, Table

HEADER = ("offer", "state", "data", "methods", "release", "one answer", "until", "left", "a month", "SHA-256")
ALIGN = "lllllllrrl"
LONGEST = 60  # characters of a cell


def state_of(kept: Kept, now: datetime) -> str:
    """Return whether an offer is in force, expired, withdrawn or damaged."""
    if kept.offer is None:
        return "damaged"
    if kept.withdrawn:
        return "withdrawn"
    return "in force" if now < kept.offer.end else "expired"


def left_of(offer: Offer, taken: Taken, now: datetime) -> int:
    """Return how many answers an offer has left in the month of `now`. Raises InputError for a damaged count."""
    return max(offer.content["answers_per_month"] - taken.count(offer.name, now), 0)


def table_of(found: list[Kept], taken: Taken, now: datetime) -> Table:
    """Return a table of offers, with how many answers each has left. Raises InputError for a damaged count."""
    year, month = month_of(now)
    rows = [_row(kept, taken, now) for kept in found]
    notes = [f"{shown(kept.name)}: {shown(kept.error, 300)}" for kept in found if kept.offer is None]
    notes += [f"left: answers in {year}-{month:02} (UTC), of all buyers together"] if rows else []
    return Table(f"{len(found)} offer{'s' * (len(found) != 1)}", HEADER, ALIGN, rows, tuple(notes))


def _row(kept: Kept, taken: Taken, now: datetime) -> tuple[str, ...]:
    state, offer = state_of(kept, now), kept.offer
    if offer is None:
        return (shown(kept.name), state, *(DASH,) * (len(HEADER) - 2))
    content, words = offer.content, terms_of(offer)
    return (
        offer.name,
        state,
        content["data"]["listing"],
        shown(words["methods"], LONGEST),
        words["release"],
        price_words(content["price"]).partition(" for ")[0] if "price" in content else DASH,
        content["until"],
        str(left_of(offer, taken, now)) if state == "in force" else DASH,
        str(content["answers_per_month"]),
        offer.digest,
    )


def facts_of(offer: Offer) -> list[tuple[str, str]]:
    """Return every term of an offer, its digest and its key, as pairs of texts that may be printed."""
    facts = [(term, shown(text, 4000)) for term, text in terms_of(offer).items()]
    return [*facts, ("made", offer.content["made"]), ("SHA-256", offer.digest), ("signed with", offer.content["key"])]
