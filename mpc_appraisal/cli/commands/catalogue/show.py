"""`mpc-appraisal catalogue show`: print everything that one listing says, and its sample rows.

In go the name of a listing and its folder; out come one or two tables. A field may be added. A text of the listing has
to be printed through `printable` or `shown`, because its author could have put control characters into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.commands.catalogue.listings import check_name, folder_of, price_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.governance.catalogue.imported import FOLDER as IMPORTED
from mpc_appraisal.governance.catalogue.imported import Imported, read_imported
from mpc_appraisal.governance.catalogue.listing import Listing, read_listing
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table

SHOWN_FEATURES = 12  # columns of the table of sample rows; more do not fit


def run(arguments: Sequence[str], console: Any) -> None:
    """Print the listing of one name, and its sample rows if it has some.

    Raises InputError for a bad name or a bad listing.
    """
    folder, names = folder_of(arguments)
    if len(names) != 1:
        raise InputError("show", shown(" ".join(names)) or "nothing", "one name, and in=DIR")
    check_name(names[0])
    imported = folder / IMPORTED / f"{names[0]}.json"
    if imported.is_file() and not (folder / f"{names[0]}.json").exists():
        return _show_imported(read_imported(imported), console)
    listing = read_listing(folder / f"{names[0]}.json")
    rows = [(key, printable(text, newlines=True) or DASH) for key, text in facts_of(listing).items()]
    print_table(Table(listing.name, ("field", "value"), "ll", rows), console)
    if listing.samples:
        print_table(samples_of(listing), console)


def _show_imported(one: Imported, console: Any) -> None:
    pairs = {
        "title": one.title,
        "description": one.description,
        "creator": ", ".join(one.creators),
        "date": one.date or "",
        "version": one.version or "",
        "licence": ", ".join(one.licences),
        "keywords": ", ".join(one.keywords),
        "columns": ", ".join(one.columns),
        "address": one.url or "",
        "commitment": "none: the description is imported, and no appraisal can be tied to it",
    }
    rows = [(key, printable(text, newlines=True) or DASH) for key, text in pairs.items()]
    print_table(Table(one.name, ("field", "value"), "ll", rows), console)


def facts_of(listing: Listing) -> dict[str, str]:
    """Return every field of the listing as a text."""
    terms = listing.terms
    types = ", ".join(f"{count} {kind}" for kind, count in listing.types.items() if count)
    pairs = {
        "title": listing.title,
        "description": listing.description,
        "creator": listing.creator or "",
        "date": listing.date or "",
        "version": listing.version or "",
        "rows": str(listing.rows),
        "features": f"{listing.features} ({types})",
        **({"target": str(listing.target)} if listing.target else {"classes": str(listing.classes)}),
        "encoding": listing.encoding,
        "columns": ", ".join(f"{name} ({kind})" for name, kind in listing.columns),
        "class names": ", ".join(listing.class_names or ()),
        "recipe": listing.recipe or "",
        "terms": terms.text,
        "price": price_of(terms),
        "licence": terms.licence or "",
        "purposes": ", ".join(terms.purposes),
        "minimum rows": str(terms.minimum_rows),
        "contact": terms.contact or "",
        "commitment": listing.digest,
    }
    if listing.statistics:
        if listing.target is None:
            pairs["rows by class"] = ", ".join(map(str, listing.statistics.rows_by_class))
        pairs["statistics reveal"] = listing.statistics.reveals
    if listing.samples:
        pairs["samples reveal"] = listing.samples.reveals
    return pairs


def samples_of(listing: Listing, longest: int = 20) -> Table:
    """Return a table of the sample rows, with as many features as a terminal has room for.

    longest: how many characters of a feature's name are shown.
    """
    features = min(listing.features, SHOWN_FEATURES)
    names = [shown(name, longest) for name, _ in listing.columns[:features]] or [f"x{k}" for k in range(features)]
    rows = [
        (str(y), *(f"{value:.6g}" for value in x[:features]))
        for x, y in zip(listing.samples.x, listing.samples.y, strict=True)
    ]
    note = f"The first {features} of {listing.features} features; all are in the file."
    notes = (note,) if features < listing.features else ()
    return Table(f"Samples ({listing.samples.kind})", ("label", *names), "r" * (features + 1), rows, notes)
