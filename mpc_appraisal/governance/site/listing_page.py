"""The page of one listing in a site: its facts, terms, columns, samples and commitment, and where its files are.

In go a listing and its Croissant; out comes what the templates of a site place. All text of a listing is foreign: it
passes `safe`, templates escape it, and only an address of http or https, or of mail, becomes a link. A section may be
added. What a listing does not state is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mpc_appraisal.common.text import is_web_address, printable
from mpc_appraisal.governance.catalogue.commitment import SCHEME
from mpc_appraisal.governance.catalogue.listing import Listing, Statistics
from mpc_appraisal.governance.site.offer import offer_words
from mpc_appraisal.governance.site.words import COMMITTED, columns_of, licence_address, price_of
from mpc_appraisal.reporting.table import DASH, Table

MOST_COLUMNS = 200  # columns that a page shows; all are in the listing's file
MOST_CLASSES = 200
MOST_FEATURES = 12  # features of a sample row that a page shows
MAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]+([.][A-Za-z0-9-]+)+")


@dataclass(frozen=True)
class Fact:
    """One line of a page.

    Attributes:
        key: what it is.
        text: what it says.
        address: where it leads; None for a line without a link.
        kind: the class of its style: '', 'text' for ends of lines that stay, 'hash' for hexadecimal digits.
    """

    key: str
    text: str
    address: str | None = None
    kind: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a page, under a heading.

    Attributes:
        title: the heading.
        sentences: what is said first.
        facts: lines of a key and a text.
        command: a command to copy; "" for none.
        table: a table at the end, or None.
        id: the name by which addresses in Croissant and DCAT-AP lead to the section; "" for none.
    """

    title: str
    sentences: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    command: str = ""
    table: Table | None = None
    id: str = ""


def safe(text: str) -> str:
    """Return a foreign text with control characters and marks of writing direction escaped; tabs become spaces."""
    return printable(text.replace("\r\n", "\n").replace("\t", " "), newlines=True)


def link_to(text: str | None) -> str | None:
    """Return the address that a foreign text leads to, of http, https or mail; None where it is none."""
    if text is None:
        return None
    if is_web_address(text):
        return text
    return f"mailto:{quote(text, safe='@+')}" if MAIL.fullmatch(text) else None


def subtitle_of(listing: Listing) -> str:
    """Return the name and who made the data, which version this is, and of which day."""
    parts = [listing.name, listing.creator and f"by {safe(listing.creator)}"]
    parts += [listing.version and f"version {listing.version}", listing.date]
    return " · ".join(part for part in parts if part)


def price_words(listing: Listing) -> str | None:
    """Return the price with its currency; None where none is stated."""
    price = price_of(listing.terms)
    return None if price is None else f"{price} {listing.terms.currency}"


def sections_of(listing: Listing) -> list[Section]:
    """Return the sections of the listing's page."""
    found = [Section("Data", facts=_data(listing)), _terms(listing), _appraise(listing)]
    if listing.columns or listing.statistics:
        found.append(Section("Columns", table=_columns(listing)))
    if listing.class_names or listing.statistics and not listing.target:
        found.append(Section("Classes", table=_classes(listing)))
    if listing.samples:
        found.append(Section("Samples", table=_samples(listing)))
    committed = (Fact("scheme", SCHEME), Fact("digest", listing.digest, kind="hash"))
    committed += (Fact("listing's SHA-256", listing.file_digest, kind="hash"),)
    found.append(Section("Commitment", (COMMITTED,), committed, id="distribution"))
    files = (
        Fact("listing", f"{listing.name}.json", f"{listing.name}.json"),
        Fact("Croissant 1.1", f"croissant/{listing.name}.json", f"../croissant/{listing.name}.json"),
        Fact("DCAT-AP 3", "catalogue.jsonld", "../catalogue.jsonld"),
    )
    return [*found, Section("Files", facts=files)]


def _data(listing: Listing) -> tuple[Fact, ...]:
    types = ", ".join(f"{count} {kind}" for kind, count in listing.types.items() if count)
    pairs: list[tuple[str, str | None]] = [
        ("rows", str(listing.rows)),
        ("features", f"{listing.features} ({types})"),
        ("target", str(listing.target)) if listing.target else ("classes", str(listing.classes)),
        ("encoding", listing.encoding),
        ("resolution", listing.resolution and listing.resolution.words),
    ]
    found = [Fact(key, safe(text), kind="text") for key, text in pairs if text]
    return (*found, *([Fact("recipe's SHA-256", listing.recipe, kind="hash")] if listing.recipe else []))


def _terms(listing: Listing) -> Section:
    terms = listing.terms
    pairs = [
        ("price", price_words(listing), None),
        ("licence", terms.licence, licence_address(terms.licence)),
        ("purposes", ", ".join(terms.purposes), None),
        ("contact", terms.contact, link_to(terms.contact)),
        ("terms", offer_words(listing), None),
    ]
    facts = tuple(Fact(key, safe(text), address, "text") for key, text, address in pairs if text)
    return Section("Terms", facts=facts, id="offer")


def _appraise(listing: Listing) -> Section:
    sentences = (
        "The data stay with their owner. "
        "A model owner and the data owner appraise the data together: what they are worth to the model is computed on "
        "secret shares, and neither side sees the other's. The model owner keeps the listing's file and names it, so "
        "that other data are refused.",
    )
    return Section("Appraise", sentences, command=f"mpc-appraisal ... party.listing={listing.name}.json")


def _columns(listing: Listing) -> Table:
    said, columns = listing.statistics, columns_of(listing)
    typed = columns[0][1] is not None
    header = ("column", *(("type",) if typed else ()), *(("mean", "standard deviation") if said else ()))
    align = "l" + "l" * typed + "rr" * bool(said)
    rows = [
        (safe(name), *((kind,) if typed else ()), *(_moments(said, k) if said else ()))
        for k, (name, kind) in enumerate(columns[:MOST_COLUMNS])
    ]
    notes = (said.reveals,) if said else ()
    return Table("Columns", header, align, rows, (*_cut(len(columns), MOST_COLUMNS, "columns"), *map(safe, notes)))


def _moments(said: Statistics, place: int) -> tuple[str, str]:
    mean, deviation = said.of_column(place) or (None, None)
    return (DASH, DASH) if mean is None else (f"{mean:g}", f"{deviation:g}")


def _classes(listing: Listing) -> Table:
    said, names = listing.statistics, listing.class_names
    header = ("label", *(("name",) if names else ()), *(("rows",) if said else ()))
    rows = [
        (str(k), *((safe(names[k]),) if names else ()), *((str(said.rows_by_class[k]),) if said else ()))
        for k in range(min(listing.classes, MOST_CLASSES))
    ]
    align = "r" + "l" * bool(names) + "r" * bool(said)
    return Table("Classes", header, align, rows, _cut(listing.classes, MOST_CLASSES, "classes"))


def _samples(listing: Listing) -> Table:
    samples: Any = listing.samples
    names = [safe(name) for name, _ in columns_of(listing)[:MOST_FEATURES]]
    rows = [
        (str(y), *(f"{value:.6g}" for value in x[:MOST_FEATURES])) for x, y in zip(samples.x, samples.y, strict=True)
    ]
    notes = (*_cut(listing.features, MOST_FEATURES, "features"), safe(samples.reveals))
    return Table("Samples", ("label", *names), "r" * (len(names) + 1), rows, notes)


def _cut(number: int, most: int, noun: str) -> tuple[str, ...]:
    return (f"These are the first {most} of {number} {noun}. The listing's file has all of them.",) * (number > most)
