"""`mpc-appraisal catalogue`: publish a listing, check data against one, and list, search and show those of a folder."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.data import Sizes, check_codes, check_kind, open_dataset
from mpc_appraisal.data.naming import named
from mpc_appraisal.governance.catalogue.check import check_listing
from mpc_appraisal.governance.catalogue.commitment import read_salt, salt_beside
from mpc_appraisal.governance.catalogue.facts import real_samples, statistics, synthetic_samples, types_of
from mpc_appraisal.governance.catalogue.listing import Listing, Terms, read_listing
from mpc_appraisal.governance.catalogue.schema import MOST_SAMPLES, NAME, NAMED, TYPES
from mpc_appraisal.governance.catalogue.store import NUMBERS, TEXTS, Bad, matches, publish, read_catalogue
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table

FOLDER = "catalogue"
FILE = "file"  # in place of names: the file's own
SHOWN_FEATURES = 12  # more columns of sample rows do not fit
TERMS = ("terms", "minimum_rows", "price", "currency", "licence", "purposes", "contact")
KEYS = ("data", "name", "out", "secret", "label", "classes", "title", "description", "encoding", "columns")
KEYS += ("class_names", "samples", "statistics", *TERMS)
CHECKED = ("listing", "data", "secret", "label", "classes")
OWN = ("record", "train", "test", "model", "salt", "threshold")  # of `check`, for what was answered about the data
USAGE = f"""usage: mpc-appraisal catalogue publish data=FILE name=NAME [KEY=VALUE ...]
       mpc-appraisal catalogue list [in=DIR]
       mpc-appraisal catalogue search [in=DIR] [WORD ...] [FIELD>=VALUE ...]
       mpc-appraisal catalogue show NAME [in=DIR]
       mpc-appraisal catalogue check listing=FILE data=FILE [secret=FILE] [label=COLUMN] [classes=N]
                                     [record=FILE train=FILE test=FILE [model=FILE] [salt=FILE] [threshold=NUMBER]]

a catalogue is a folder of listings, one JSON file each, to be put in git or on a web server; never the data

publish: out=DIR, the catalogue (default: {FOLDER}); secret=FILE, where the salt of the commitment goes, which
         stays with the owner (default: FILE.NAME.salt beside the data); label=COLUMN, classes=N, as the data need them;
         title, description, encoding: texts; columns=file: the features' names as the file's header has them, or
         columns=A,B,... for a file without names; class_names=A,B,...: of labels 0, 1, ..., or class_names=file;
         names are compared with the buyer's, and without them columns and labels go by position and number;
         terms=TEXT, minimum_rows=N, price=N, currency=EUR, licence=TEXT, purposes=A,B,..., contact=TEXT;
         statistics=yes (rows by class, means, deviations), samples=synthetic:N (invented rows) or samples=real:N (real
         rows, for all to see), N up to {MOST_SAMPLES}: none of them by default, and each says what it reveals
search:  all words must occur and all conditions hold;
         numbers, with = != > >= < <=: {", ".join(NUMBERS)};
         texts, with = and !=: {", ".join(TEXTS)};
         quote what has < or > in it
check:   are these the data that the listing commits to? For the buyer, once data and salt are delivered, and for the
         owner before; secret=FILE, the salt (default: FILE.NAME.salt beside the data). Status 2 where they are not.
         This shows that the delivered data are the listed ones. That they are the appraised ones is the data owner's
         word, unless record=records.jsonl of the appraisal is stated with the buyer's own train=, test= or model=: then
         the answer is computed again in the clear, and status 2 says that data, model or value are others.
         salt=FILE, of the buyer's own commitment (default: FILE.inputs.salt beside its model or train=);
         threshold=NUMBER, where a bit was told. An answer that agrees may still be off within the stated error
in=DIR:  the catalogue (default: {FOLDER}). list ends with status 1 where a file is bad"""


def main(arguments: Sequence[str], console: Any) -> None:
    """The subcommand. console: of rich, where tables go."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    actions: dict[str, Callable[[Sequence[str], Any], None]] = {
        "publish": _publish,
        "list": _list,
        "search": _search,
        "show": _show,
        "check": _check,
    }
    if arguments[0] not in actions:
        raise InputError("catalogue", shown(arguments[0]), f"one of {', '.join(actions)}")
    actions[arguments[0]](arguments[1:], console)


def _publish(arguments: Sequence[str], console: Any) -> None:
    stated = _stated("publish", arguments, KEYS, ("data", "name"))
    file, name, out = Path(stated["data"]), stated["name"], Path(stated.get("out") or FOLDER)
    _check_name(name)
    if file.resolve().is_relative_to(out.resolve()):
        raise InputError("data", str(file), f"a file outside {out}, which is meant to be published")
    secret = Path(stated.get("secret") or salt_beside(file, name))
    data = _data(file, stated)
    check_kind(data, "data")
    class_names = _published("class_names", stated, data.class_names)
    data = named(data, None, class_names or None, "class_names")
    if not class_names and "classes" not in stated:
        check_codes(data, "data")
    if class_names and len(class_names) != data.classes:
        raise InputError("class_names", f"{len(class_names)} names", f"{data.classes}, one a class")
    types = types_of(data)
    columns = _published("columns", stated, data.columns)
    if columns and len(columns) != data.features:
        raise InputError("columns", f"{len(columns)} names", f"{data.features}, one a feature")
    given: dict[str, Any] = {
        "name": name,
        "types": {kind: Counter(types)[kind] for kind in TYPES},
        "columns": tuple(zip(columns, types, strict=True)) if columns else (),
        "class_names": class_names or None,
        "terms": _terms(stated),
        "samples": _samples(stated.get("samples", "none"), data),
        "statistics": statistics(data) if _yes("statistics", stated.get("statistics", "no")) else None,
    }
    given |= {key: stated.get(key, "") for key in ("title", "description", "encoding")}
    path = publish(data, given, out, secret)
    print(f"listing: {path}")
    print(f"salt: {secret} (secret; keep it with the data, for without it no appraisal can run against the listing)")
    for key in ("samples", "statistics"):
        if given[key]:
            print(f"{key}: {given[key].reveals}")


def _check(arguments: Sequence[str], console: Any) -> None:
    stated = _stated("check", arguments, (*CHECKED, *OWN), ("listing", "data"))
    own = sorted(set(OWN) & set(stated) - {"record"})
    if own and not stated.get("record"):
        raise InputError("record", "nothing", f"record=FILE, the appraisal's records, beside {', '.join(own)}")
    listing, file = read_listing(stated["listing"]), Path(stated["data"])
    salt = read_salt(stated.get("secret") or salt_beside(file, listing.name))
    sizes = Sizes(listing.rows, listing.features, f"listing {listing.name}")
    data = _data(file, stated, sizes)
    check_listing(listing, data, salt)
    found = []
    if stated.get("record"):
        from mpc_appraisal.appraisal.recompute import recompute  # with all methods, which no other command needs

        found = recompute(listing, data, stated)
    print(f"the data are those of listing {listing.name}: commitment {listing.digest}")
    for sentence in found:
        print(sentence)


def _stated(command: str, arguments: Sequence[str], keys: Sequence[str], needed: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE arguments as a dictionary."""
    stated: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in keys or key in stated:
            raise InputError(command, shown(argument), f"KEY=VALUE, each key once, of {', '.join(keys)}")
        stated[key] = value
    for key in needed:
        if not stated.get(key):
            raise InputError(key, "nothing", f"{key}=...")
    return stated


def _data(file: Path, stated: dict[str, str], sizes: Sizes | None = None) -> Any:
    classes = _number("classes", stated["classes"], int) if "classes" in stated else None
    return open_dataset(file, stated.get("label", "label"), classes, "data", sizes)


def _terms(stated: dict[str, str]) -> Terms:
    return Terms(
        text=stated.get("terms", ""),
        minimum_rows=_number("minimum_rows", stated.get("minimum_rows", "1"), int),
        price=_number("price", stated["price"], float) if "price" in stated else None,
        currency=stated.get("currency"),
        licence=stated.get("licence"),
        purposes=_names(stated.get("purposes", "")),
        contact=stated.get("contact"),
    )


def _samples(text: str, data: Any):
    kind, _, count = text.partition(":")
    makers = {"synthetic": synthetic_samples, "real": real_samples}
    if text == "none":
        return None
    if kind not in makers:
        raise InputError("samples", shown(text), "none, synthetic:N or real:N")
    return makers[kind](data, _number("samples", count, int))


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _published(key: str, stated: dict[str, str], own: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names to publish: those stated, which must be the file's own where it has some, or `file` for the latter."""
    names = _names(stated.get(key, ""))
    if names == (FILE,) and own != (FILE,):
        if own is None:
            raise InputError(key, FILE, f"names, for the file states none ({key}=A,B,...)")
        names = own
    if names and own is not None and names != own:
        raise InputError(
            key,
            shown(", ".join(names), 200),
            f"{shown(', '.join(own), 200)}, as the file itself says ({key}={FILE} publishes its own names)",
        )
    return names


def _number(key: str, text: str, kind: type) -> Any:
    try:
        value = kind(text)
        if abs(value) < 2.0**53:  # neither NaN nor infinite
            return value
    except ValueError:
        pass
    raise InputError(key, shown(repr(text)), "a whole number" if kind is int else "a finite number")


def _yes(key: str, text: str) -> bool:
    if text not in ("yes", "no"):
        raise InputError(key, shown(text), "yes or no")
    return text == "yes"


def _check_name(name: str) -> None:
    import re

    if not re.fullmatch(NAME, name):
        raise InputError("name", shown(repr(name)), NAMED)


def _folder(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """The catalogue's folder, and the arguments that do not name it."""
    places = [argument[3:] for argument in arguments if argument.startswith("in=")]
    if len(places) > 1:
        raise InputError("in", shown(", ".join(places)), "one folder")
    return Path(places[0] if places else FOLDER), [a for a in arguments if not a.startswith("in=")]


def _list(arguments: Sequence[str], console: Any) -> None:
    folder, left = _folder(arguments)
    if left:
        raise InputError("list", shown(" ".join(left)), "in=DIR alone (to choose among listings: search)")
    listings, bad = read_catalogue(folder)
    print_table(_table(f"Catalogue of {len(listings)}", listings), console)
    if _name_bad(bad):
        raise SystemExit(1)


def _search(arguments: Sequence[str], console: Any) -> None:
    folder, terms = _folder(arguments)
    listings, bad = read_catalogue(folder)
    found = [listing for listing in listings if matches(listing, terms)]
    print_table(_table(f"{len(found)} of {len(listings)} listings", found), console)
    _name_bad(bad)


def _name_bad(bad: list[Bad]) -> bool:
    for one in bad:
        print(f"bad listing: {printable(str(one.error))}", file=sys.stderr)
    return bool(bad)


def _price(terms: Terms) -> str:
    return DASH if terms.price is None else f"{terms.price:.15g} {terms.currency}"


def _table(title: str, listings: list[Listing]) -> Table:
    rows = [
        (
            one.name,
            shown(one.title, 40),
            *(str(size) for size in (one.rows, one.features, one.classes)),
            _price(one.terms),
            shown(one.terms.licence or DASH, 24),
            one.samples.kind if one.samples else "none",
        )
        for one in listings
    ]
    return Table(
        title, ("name", "title", "rows", "features", "classes", "price", "licence", "samples"), "llrrrrll", rows
    )


def _show(arguments: Sequence[str], console: Any) -> None:
    folder, names = _folder(arguments)
    if len(names) != 1:
        raise InputError("show", shown(" ".join(names)) or "nothing", "one name, and in=DIR")
    _check_name(names[0])
    one = read_listing(folder / f"{names[0]}.json")
    terms = one.terms
    pairs = {
        "title": one.title,
        "description": one.description,
        "rows": str(one.rows),
        "features": f"{one.features} ({', '.join(f'{count} {kind}' for kind, count in one.types.items() if count)})",
        "classes": str(one.classes),
        "encoding": one.encoding,
        "columns": ", ".join(f"{name} ({kind})" for name, kind in one.columns),
        "class names": ", ".join(one.class_names or ()),
        "terms": terms.text,
        "price": _price(terms),
        "licence": terms.licence or "",
        "purposes": ", ".join(terms.purposes),
        "minimum rows": str(terms.minimum_rows),
        "contact": terms.contact or "",
        "commitment": one.digest,
    }
    if one.statistics:
        pairs["rows by class"] = ", ".join(map(str, one.statistics.rows_by_class))
        pairs["statistics reveal"] = one.statistics.reveals
    if one.samples:
        pairs["samples reveal"] = one.samples.reveals
    rows = [(key, printable(text, newlines=True) or DASH) for key, text in pairs.items()]
    print_table(Table(one.name, ("field", "value"), "ll", rows), console)
    if one.samples:
        features = min(one.features, SHOWN_FEATURES)
        names = [shown(name, 20) for name, _ in one.columns[:features]] or [f"x{k}" for k in range(features)]
        cells = [
            (str(y), *(f"{value:.6g}" for value in x[:features]))
            for x, y in zip(one.samples.x, one.samples.y, strict=True)
        ]
        note = f"The first {features} of {one.features} features; all are in the file."
        notes = (note,) if features < one.features else ()
        print_table(
            Table(f"Samples ({one.samples.kind})", ("label", *names), "r" * (features + 1), cells, notes), console
        )
