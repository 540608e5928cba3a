"""What the actions of `mpc-appraisal catalogue` share: the folder of listings, their arguments, and a table of them.

A listing is the public description of a data set, and its folder is the catalogue. In go the words of the command line
or listings; out come paths, values, data and tables. Columns may be added to the table. A text of a listing has to be
printed through `shown` or `printable`, and a name be checked by `check_name` before it becomes a path: others wrote it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.cli.arguments import number, split
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.data import Recipe, Sizes, open_dataset
from mpc_appraisal.data.naming import Data
from mpc_appraisal.data.targets import CLASSES
from mpc_appraisal.governance.catalogue.imported import Imported
from mpc_appraisal.governance.catalogue.listing import Listing, Terms
from mpc_appraisal.governance.catalogue.schema import NAME, NAMED
from mpc_appraisal.governance.catalogue.store import Bad
from mpc_appraisal.reporting.table import DASH, Table

FOLDER = "catalogue"  # the catalogue's folder if in= or out= does not name one


def folder_of(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the catalogue's folder, and the arguments that do not name it. Raises InputError for two folders."""
    places = [argument[3:] for argument in arguments if argument.startswith("in=")]
    if len(places) > 1:
        raise InputError("in", shown(", ".join(places)), "one folder")
    return Path(places[0] if places else FOLDER), [a for a in arguments if not a.startswith("in=")]


def key_values(action: str, arguments: Sequence[str], keys: Sequence[str], needed: Sequence[str]) -> dict[str, str]:
    """Return the values of the arguments KEY=VALUE. Raises InputError for another argument or a missing key."""
    stated, others = split(arguments, keys)
    if others:
        raise InputError(action, shown(others[0]), f"KEY=VALUE, each key once, of {', '.join(keys)}")
    for key in needed:
        if not stated.get(key):
            raise InputError(key, "nothing", f"{key}=...")
    return stated


def check_name(name: str) -> None:
    """Raise InputError for a text that cannot be a listing's name, so that a name leads into no other folder."""
    if not re.fullmatch(NAME, name):
        raise InputError("name", shown(repr(name)), NAMED)


def read_listed(file: Path, stated: dict[str, str], sizes: Sizes | None = None, target: str = CLASSES) -> Data:
    """Open the data file. Raises InputError if it cannot be read or does not fit.

    Args:
        file: The data file.
        stated: The command's arguments, of which label=, classes= and recipe= are used.
        sizes: The sizes that a listing states, if there is one.
        target: What the label column holds: 'classes' or 'number'.
    """
    classes = number("classes", stated["classes"], int) if "classes" in stated else None
    return open_dataset(file, stated.get("label", "label"), classes, "data", sizes, recipe_of(stated), target)


def recipe_of(stated: dict[str, str]) -> Recipe | None:
    """Return the recipe that recipe= names; None if none is stated.

    Raises InputError for a file that holds no recipe, and beside label= and classes=, whose place it takes.
    """
    if not stated.get("recipe"):
        return None
    for key in ("label", "classes"):
        if key in stated:
            raise InputError(key, shown(stated[key]), f"no {key}= beside recipe=, because the recipe states the target")
    return Recipe.load(stated["recipe"])


def name_bad(bad: list[Bad]) -> bool:
    """Print the bad files of a catalogue on standard error, and return whether there are any."""
    for one in bad:
        print(f"bad listing: {printable(str(one.error))}", file=sys.stderr)
    return bool(bad)


def name_site(folder: Path, listings: list[Listing]) -> None:
    """Say on standard error where the listings are, if the folder has none because it is that of a site."""
    if not listings and (folder / "catalogue.jsonld").is_file() and (folder / "listings").is_dir():
        print(f"{folder} is a site; its listings are in the folder {folder / 'listings'}", file=sys.stderr)


def imported_table(found: list[Imported]) -> Table:
    """Return a table with a row for each description by others."""
    rows = [
        (
            one.name,
            shown(one.title, 40),
            str(len(one.columns)),
            shown(", ".join(one.creators) or DASH, 40),
            shown(", ".join(one.licences) or DASH, 40),
            one.date or DASH,
            shown(one.url or DASH, 60),
        )
        for one in found
    ]
    header = ("name", "title", "columns", "creator", "licence", "date", "address")
    return Table("Imported descriptions, without a commitment", header, "llrllll", rows)


def price_of(terms: Terms) -> str:
    """Return the price with its currency, or a dash."""
    return DASH if terms.price is None else f"{terms.price:.15g} {terms.currency}"


def table_of(title: str, listings: list[Listing], longest: int | None = None) -> Table:
    """Return a table with a row for each listing.

    longest: how many characters of a text are shown; None for what a terminal has room for.
    """
    rows = [
        (
            listing.name,
            shown(listing.title or DASH, longest or 40),
            *(str(size) for size in (listing.rows, listing.features)),
            shown(str(listing.target), longest or 40) if listing.target else str(listing.classes),
            price_of(listing.terms),
            shown(listing.terms.licence or DASH, longest or 24),
            listing.samples.kind if listing.samples else "none",
        )
        for listing in listings
    ]
    return Table(
        title, ("name", "title", "rows", "features", "classes", "price", "licence", "samples"), "llrrrrll", rows
    )
