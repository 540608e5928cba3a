"""A site of files: a page with all listings and a search, a page for each, Croissant and DCAT-AP beside them.

    index.html                a list of all, which a small script searches
    catalogue.jsonld          all, in DCAT-AP 3
    listings/NAME.html, .json one listing: its page, and its own file as the owner published it
    croissant/NAME.json       the same in Croissant 1.1
    offers/NAME.json          a standing offer, as its owner signed it

In go the listings of a catalogue and what its publisher says; out comes the folder. It needs no server: addresses are
relative, nothing is fetched, and without its script the first page is a list. A page may be changed, but not where it
lies. A folder is written only if it is new, empty or such a site, because pages of listings that are gone are removed.
Each page forbids all scripts but the search, by its digest, in case an escape were forgotten.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import write_whole
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.imported import Imported
from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.catalogue.store import words_of
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.site.croissant import croissant
from mpc_appraisal.governance.site.dcat import Publisher, dcat
from mpc_appraisal.governance.site.listing_page import price_words, safe, sections_of, subtitle_of
from mpc_appraisal.governance.site.standing import FOLDER as OFFERS
from mpc_appraisal.governance.site.standing import offers_of, section_of
from mpc_appraisal.governance.site.words import description_of, title_of
from mpc_appraisal.reporting.layout import split
from mpc_appraisal.reporting.page import render
from mpc_appraisal.reporting.table import counted

MARK = '<meta name="generator" content="mpc_appraisal catalogue site">'
FOLDERS = ("listings", "croissant")
EVERY_FOLDER = (*FOLDERS, OFFERS)  # the folder of offers is made where there is an offer
MOST_WORDS = 1 << 16  # characters of a listing in which the page's search looks for words
MOST_EMBEDDED = 1 << 18  # characters of Croissant that a listing's page holds; beyond, it links to the file alone
LEAD = 300  # characters of a description that the first page shows


@dataclass(frozen=True)
class Entry:
    """One listing, or one description by others, on the first page.

    Attributes:
        id: the id of its heading.
        address: the address of its page; None for a description by others that states none.
        title, lead: what it is, in few words.
        facts: short texts under it.
        words: the text in which the search looks for words.
        fields: what the search compares with numbers and days.
    """

    id: str
    address: str | None
    title: str
    lead: str
    facts: tuple[str, ...]
    words: str
    fields: tuple[tuple[str, str], ...]


def write_site(
    folder: str | os.PathLike[str],
    listings: Sequence[Listing],
    publisher: Publisher,
    imported: Sequence[Imported] = (),
    offers: Sequence[Offer] = (),
) -> list[Path]:
    """Write the site and return its files, the first page first; files of listings that are gone are removed.

    Args:
        folder: where the site goes: a new folder, an empty one, or a site.
        listings: the listings, in the order in which the first page shows them.
        publisher: what is said of the catalogue.
        imported: descriptions by others, which the first page shows after the listings, and which lead elsewhere.
        offers: the standing offers in force, each of which stands on the page of its listing.

    Raises InputError where the folder holds something else, or cannot be written.
    """
    folder = Path(folder)
    check_folder(folder)
    written = []
    try:
        for name in EVERY_FOLDER if offers else FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, text in _files(listings, publisher, imported, offers):
            write_whole(folder / name, text)
            written.append(folder / name)
        kept = [folder / name for name in EVERY_FOLDER if (folder / name).is_dir()]
        for path in [path for place in kept for path in place.iterdir()]:
            if path not in written and path.suffix in (".html", ".json"):
                path.unlink()
    except OSError as error:
        raise InputError("site", f"{shown(str(folder))} ({error.strerror})", "a folder that can be written") from error
    return [written[-1], *written[:-1]]


def check_folder(folder: Path) -> None:
    """Raise InputError unless the folder is new, empty or a site that was written before."""
    what = "a new folder, an empty one, or a site that this command has written"
    if folder.is_dir():
        index = folder / "index.html"
        ours = index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")[:4096]
        if not ours and any(folder.iterdir()):
            raise InputError("site", f"{shown(str(folder))}, which holds other files", what)
    elif os.path.lexists(folder):
        raise InputError("site", f"{shown(str(folder))}, which is no folder", what)


def _files(
    listings: Sequence[Listing], publisher: Publisher, imported: Sequence[Imported], offers: Sequence[Offer]
) -> Iterator[tuple[str, str]]:
    """Yield each file's path in the site and its content, the first page last: its links lead to what is there."""
    yield "catalogue.jsonld", _json(dcat(listings, publisher))
    by_name = {listing.name: offers_of(listing, offers) for listing in listings}
    for offer in [one for found in by_name.values() for one in found]:
        yield f"{OFFERS}/{offer.name}.json", offer.text()
    for listing in listings:
        data = croissant(listing, publisher.url or "../")
        yield f"croissant/{listing.name}.json", _json(data)
        yield f"listings/{listing.name}.json", listing.text()
        yield f"listings/{listing.name}.html", _page(listing, publisher, data, by_name[listing.name])
    script = render("site.js.jinja")
    yield (
        "index.html",
        render(
            "site.html.jinja",
            title=safe(publisher.title),
            description=safe(publisher.words(len(listings))),
            publisher=publisher.name and safe(publisher.name),
            entries=[*(_entry(one, by_name[one.name]) for one in listings), *map(_foreign, imported)],
            script=script,
            script_hash=f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'",
        ),
    )


def _page(listing: Listing, publisher: Publisher, data: dict[str, Any], offers: Sequence[Offer]) -> str:
    sections, standing = sections_of(listing), section_of(offers)
    if standing is not None:
        sections.insert(2, standing)  # below the terms
    kind = 'application/ld+json; profile="http://mlcommons.org/croissant/1.1"'
    return render(
        "site_listing.html.jinja",
        title=safe(title_of(listing)),
        subtitle=subtitle_of(listing),
        description=safe(description_of(listing)),
        catalogue=safe(publisher.title),
        sections=sections,
        alternates=[(kind, f"../croissant/{listing.name}.json"), ("application/json", f"{listing.name}.json")],
        linked_data=data if len(json.dumps(data)) <= MOST_EMBEDDED else None,
        script_hash="'none'",
    )


def _entry(listing: Listing, offers: Sequence[Offer]) -> Entry:
    target = "a number" if listing.target else f"{listing.classes} classes"
    facts = [f"{listing.rows} rows", f"{listing.features} features", target, price_words(listing) or "no price stated"]
    facts += [safe(text) for text in (listing.terms.licence, listing.creator, listing.date) if text]
    facts += [counted(len(offers), "standing offer")] if offers else []
    numbers = {"rows": listing.rows, "features": listing.features, "price": listing.terms.price}
    numbers |= {"minimum_rows": listing.terms.minimum_rows, "date": listing.date}
    numbers |= {} if listing.target else {"classes": listing.classes}
    return Entry(
        f"listing-{listing.name}",
        f"listings/{listing.name}.html",
        safe(title_of(listing)),
        _lead(description_of(listing)),
        tuple(facts),
        _words(words_of(listing)),
        tuple((key, str(value)) for key, value in numbers.items() if value is not None),
    )


def _foreign(one: Imported) -> Entry:
    facts = ["imported, without a commitment", f"{len(one.columns)} columns"]
    facts += [safe(text) for text in (*one.licences[:3], *one.creators[:3], one.date) if text]
    return Entry(
        f"imported-{one.name}",
        one.url,
        safe(one.title),
        _lead(one.description),
        tuple(facts),
        _words(one.words()),
        (("date", one.date),) if one.date else (),
    )


def _words(text: str) -> str:
    """Return the text in which the page's search looks for words, on one line."""
    return safe(" ".join(text[:MOST_WORDS].split()))


def _lead(text: str) -> str:
    """Return the first sentence, or its beginning where it is long."""
    first = split(safe(" ".join(text[: 2 * LEAD].split())))[0]
    return first if len(first) <= LEAD else first[: LEAD - 1] + "…"


def _json(content: Any) -> str:
    """Return JSON in ASCII that may stand inside a web page, with an end of line."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
