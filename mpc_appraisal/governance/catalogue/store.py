"""A catalogue: a folder of listings, each in NAME.json. This module publishes, reads and searches listings.

In go data with the owner's words, a folder, or the words of a search; out come the files of a listing, the listings of
a folder, or whether a listing is found. Files with other endings in the folder are ignored. A field may be added to a
search, in NUMBERS, DAYS or TEXTS and in `fields`. The salt of a commitment has to be written outside the folder, which
is meant to be published, and before the listing, so that no listing is without its salt.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, day
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.commitment import commit, new_salt, write_salt
from mpc_appraisal.governance.catalogue.imported import FOLDER as IMPORTED
from mpc_appraisal.governance.catalogue.imported import Imported, read_imported
from mpc_appraisal.governance.catalogue.listing import Listing, read_listing, write_listing

OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"([a-z_]+)(>=|<=|!=|=|>|<)(.*)", re.DOTALL)
NUMBERS = ("rows", "features", "classes", "price", "minimum_rows")
TEXTS = ("name", "title", "currency", "licence", "contact", "purposes", "samples", "target", "creator", "version")
DAYS = ("date",)
DAY = Schema(day())


@dataclass(frozen=True)
class Bad:
    """A file of a catalogue that is no listing, and the error that says why."""

    file: str
    error: InputError


def publish(data: Any, listing: dict[str, Any], out: str | os.PathLike[str], secret: str | os.PathLike[str]) -> Path:
    """Commit to `data`, write the salt to `secret` and the listing to out/NAME.json, and return the listing's file.

    Args:
        data: the data set.
        listing: the arguments of `Listing` without sizes and digest.
        out: the folder of the catalogue.
        secret: the file for the salt, which lies outside of `out`.

    Raises InputError where anything is wrong; then no file is written.
    """
    out, secret = Path(out), Path(secret)
    if secret.resolve().is_relative_to(out.resolve()):
        raise InputError("secret", str(secret), f"a file outside {out}, which is meant to be published")
    salt = new_salt()
    sizes = {"rows": data.rows, "features": data.features, "classes": data.classes}
    made = Listing(**listing, **sizes, digest=commit(data, salt))
    path = out / f"{made.name}.json"
    if path.exists():
        raise InputError("name", f"{path}, which is already there", "a name that the catalogue lacks")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("out", f"{out} ({error.strerror})", "a folder") from error
    write_salt(secret, salt)
    try:
        write_listing(path, made)
    except BaseException:
        secret.unlink()
        raise
    return path


def read_catalogue(folder: str | os.PathLike[str]) -> tuple[list[Listing], list[Bad]]:
    """Return the listings of a folder by name, and the files that are no listings.

    Two listings with one commitment are both bad. Raises InputError where there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("in", shown(str(folder)), "the folder of a catalogue")
    found, bad = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_listing(path))
        except InputError as error:
            bad.append(Bad(path.name, error))
    names: dict[str, list[str]] = {}
    for listing in found:
        names.setdefault(listing.digest, []).append(listing.name)
    for listing in found:
        others = [name for name in names[listing.digest] if name != listing.name]
        if others:
            key, value = f"{listing.where}: commitment.digest", f"that of {', '.join(others)} too"
            bad.append(Bad(f"{listing.name}.json", InputError(key, value, "one listing for one commitment")))
    return [listing for listing in found if len(names[listing.digest]) == 1], sorted(bad, key=lambda b: b.file)


def read_descriptions(folder: str | os.PathLike[str]) -> tuple[list[Imported], list[Bad]]:
    """Return the descriptions by others that a catalogue keeps, by name, and the files that are none."""
    found, bad = [], []
    for path in sorted(Path(folder, IMPORTED).glob("*.json")):
        try:
            found.append(read_imported(path))
        except InputError as error:
            bad.append(Bad(f"{IMPORTED}/{path.name}", error))
    return found, bad


def matches(listing: Listing, terms: Sequence[str]) -> bool:
    """Say whether all terms hold. A term is a word that occurs somewhere, or a condition such as rows>=1000.

    Upper and lower case are the same. A text can be compared by = and != alone. A listing that does not state a field
    fails every condition on that field. Raises InputError for an unknown field, and for a condition that cannot be
    read.
    """
    return holds(fields(listing), words_of(listing), terms)


def holds(stated: dict[str, Any], words: str, terms: Sequence[str]) -> bool:
    """Say whether all terms hold of a description: `matches` by its fields and the text in which words are looked for.

    A field that is missing, or None, is not stated.
    """
    words = words.casefold()
    return all(_condition(stated, term) if CONDITION.fullmatch(term) else _words(words, term) for term in terms)


def fields(listing: Listing) -> dict[str, Any]:
    """Return the fields that conditions compare; None where the listing does not state a field."""
    terms = listing.terms
    return {
        "rows": listing.rows,
        "features": listing.features,
        "classes": None if listing.target else listing.classes,
        "price": terms.price,
        "minimum_rows": terms.minimum_rows,
        "name": listing.name,
        "title": listing.title or None,
        "currency": terms.currency,
        "licence": terms.licence,
        "contact": terms.contact,
        "purposes": terms.purposes or None,
        "samples": listing.samples.kind if listing.samples else "none",
        "target": listing.target.name if listing.target else None,
        "creator": listing.creator,
        "version": listing.version,
        "date": listing.date,
    }


def words_of(listing: Listing) -> str:
    """Return all texts in which a search looks for words, each on a line."""
    terms = listing.terms
    texts = [listing.name, listing.title, listing.description, listing.encoding, terms.text, *terms.purposes]
    texts += [listing.creator or "", terms.licence or "", terms.contact or "", *(name for name, _ in listing.columns)]
    texts += [str(listing.target)] if listing.target else []
    return "\n".join(texts)


def _words(text: str, term: str) -> bool:
    return all(word in text for word in term.casefold().split())


def _condition(fields: dict[str, Any], term: str) -> bool:
    field, sign, stated = CONDITION.fullmatch(term).groups()
    if field not in (*NUMBERS, *DAYS, *TEXTS):
        raise InputError("search", shown(term), f"one of the fields {', '.join((*NUMBERS, *DAYS, *TEXTS))}")
    value = fields.get(field)
    if field in NUMBERS:
        try:
            number = float(stated)
        except ValueError as error:
            raise InputError(f"search: {field}", shown(stated), "a number") from error
        return value is not None and OPERATORS[sign](value, number)
    if field in DAYS:
        if DAY.violation(stated) is not None:
            raise InputError(f"search: {field}", shown(stated), "a day, as in 2026-01-31")
        return value is not None and OPERATORS[sign](value, stated)  # days of this form are in order as texts are
    if sign not in ("=", "!="):
        raise InputError(f"search: {field}", shown(sign), "= or !=, for it is a text")
    values = [text.casefold() for text in (value if isinstance(value, tuple) else (value,)) if text is not None]
    return bool(values) and (stated.casefold() in values) == (sign == "=")
