"""`mpc-appraisal catalogue publish`: write a listing of data into a catalogue. The data stay with their owner.

In go a data file, the listing's name, and what the owner wants to say of the data. Out come NAME.json in the catalogue
(a folder that is meant to be published), and a file with the salt of the listing's commitment, which stays with the
owner. A field is added to `KEYS` and to the listing's schema. By default nothing may be published but sizes, types and
the commitment, and what a further field reveals has to be printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.arguments import number, yes_or_no
from mpc_appraisal.cli.commands.catalogue.listings import FOLDER, check_name, key_values, read_listed, recipe_of
from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import is_web_address, shown
from mpc_appraisal.data import Recipe, Resolution, check_codes, check_kind, resolution_of
from mpc_appraisal.data.naming import named
from mpc_appraisal.data.resolution import SCALES
from mpc_appraisal.data.targets import CLASSES, NUMBER
from mpc_appraisal.governance.catalogue.commitment import salt_beside
from mpc_appraisal.governance.catalogue.facts import real_samples, statistics, synthetic_samples, types_of
from mpc_appraisal.governance.catalogue.listing import NumericTarget, Statistics, Terms
from mpc_appraisal.governance.catalogue.schema import TYPES
from mpc_appraisal.governance.catalogue.store import publish

FILE = "file"  # stands for the names that the file itself has
TERMS = ("terms", "minimum_rows", "price", "currency", "licence", "purposes", "contact")
PUBLICATION = ("creator", "date", "version")
KEYS = ("data", "name", "out", "secret", "label", "classes", "title", "description", "encoding", "columns")
KEYS += ("class_names", "samples", "statistics", "resolution", "recipe", "target", "unit", *PUBLICATION, *TERMS)


def run(arguments: Sequence[str], console: Any) -> None:
    """Write the listing into the catalogue, and the salt of its commitment beside the data or where secret= says.

    Raises InputError for a bad argument, data that do not fit it, or a data file inside the catalogue.
    """
    stated = key_values("publish", arguments, KEYS, ("data", "name"))
    file, name, out = Path(stated["data"]), stated["name"], Path(stated.get("out") or FOLDER)
    check_name(name)
    if file.resolve().is_relative_to(out.resolve()):
        raise InputError("data", str(file), f"a file outside {out}, which is meant to be published")
    secret = Path(stated.get("secret") or salt_beside(file, name))
    recipe = recipe_of(stated)
    target = _target(stated, recipe, file)
    if recipe is not None:  # whose names are public already
        stated = {"columns": FILE} | ({"class_names": FILE} if target is None else {}) | stated
    data = read_listed(file, stated, target=CLASSES if target is None else NUMBER)
    check_kind(data, "data")
    class_names = _published("class_names", stated, data.class_names)
    data = named(data, None, class_names or None, "class_names")
    if not class_names and "classes" not in stated and target is None:
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
        "recipe": recipe.digest if recipe else None,
        "target": target,
        "terms": _terms(stated),
        "samples": _samples(stated.get("samples", "none"), data),
        "statistics": _statistics(stated.get("statistics", "no"), data, columns),
    }
    given |= {key: stated[key] for key in PUBLICATION if key in stated}
    given |= {key: stated.get(key, "") for key in ("title", "description", "encoding")}
    given["resolution"] = _resolution(data) if yes_or_no("resolution", stated.get("resolution", "no")) else None
    path = publish(data, given, out, secret)
    print(f"listing: {path}")
    print(f"salt: {secret} (secret; keep it with the data, for without it no appraisal can run against the listing)")
    for key in ("samples", "statistics"):
        if given[key]:
            print(f"{key}: {given[key].reveals}")
    if given["resolution"]:
        print(f"resolution: {given['resolution'].words}.")


def _resolution(data: Any) -> Resolution:
    """Return the resolution that the data themselves show. Raises InputError where they have none."""
    found = resolution_of([data])
    if found is None:
        raise InputError("resolution", "yes", f"no: the numbers are no multiples of 1 / S for S of {SCALES}")
    return found


def _target(stated: dict[str, str], recipe: Recipe | None, file: Path) -> NumericTarget | None:
    """Return the target that is a number, as the recipe, or target=number, says; None for classes.

    Raises InputError for keys that do not fit a target of this kind.
    """
    kind = one_of("target", stated.get("target", CLASSES), (CLASSES, NUMBER))
    if recipe is not None:
        for key in ("target", "unit"):
            if key in stated:
                expected = f"no {key}= beside recipe=, because the recipe states the target"
                raise InputError(key, shown(stated[key]), expected)
        kind = CLASSES if recipe.class_names else NUMBER
    if kind == CLASSES:
        if "unit" in stated:
            raise InputError("unit", shown(stated["unit"]), "target=number beside it, because classes have no unit")
        return None
    for key in ("classes", "class_names", "samples"):
        if key in stated and (key, stated[key]) != ("samples", "none"):
            raise InputError(key, shown(stated[key]), f"no {key}=, because the target is a number")
    if recipe is not None:
        column = recipe.target
        return NumericTarget(column.name, column.unit or None, column.minimum, column.maximum)
    name = "y" if file.suffix.lower() == ".npz" else stated.get("label", "label")
    return NumericTarget(name, stated.get("unit"))


def _terms(stated: dict[str, str]) -> Terms:
    """Return what the owner asks for, from the arguments of the same names."""
    licence = stated.get("licence")
    if licence and ":" in licence and not is_web_address(licence):
        raise InputError(
            "licence", shown(licence), "the name of a licence, or its address, as https://example.org/terms"
        )
    return Terms(
        text=stated.get("terms", ""),
        minimum_rows=number("minimum_rows", stated.get("minimum_rows", "1"), int),
        price=number("price", stated["price"], float) if "price" in stated else None,
        currency=stated.get("currency"),
        licence=licence,
        purposes=_names(stated.get("purposes", "")),
        contact=stated.get("contact"),
    )


def _statistics(text: str, data: Any, columns: tuple[str, ...]) -> Statistics | None:
    """Return the statistics that the words yes or no, or names of published columns, ask for; None for none."""
    if text in ("yes", "no"):
        return statistics(data) if text == "yes" else None
    names = _names(text)
    for name in names or ("nothing",):
        if name not in columns or names.count(name) != 1:
            raise InputError("statistics", shown(name), "yes or no, or names that columns= publishes, each once")
    return statistics(data, tuple(sorted(columns.index(name) for name in names)))


def _samples(text: str, data: Any) -> Any:
    """Return the sample rows that none, synthetic:N or real:N asks for; None for none."""
    kind, _, count = text.partition(":")
    makers = {"synthetic": synthetic_samples, "real": real_samples}
    if text == "none":
        return None
    if kind not in makers:
        raise InputError("samples", shown(text), "none, synthetic:N or real:N")
    return makers[kind](data, number("samples", count, int))


def _names(text: str) -> tuple[str, ...]:
    """Return the names between commas."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _published(key: str, stated: dict[str, str], own: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names to publish. The word `file` stands for the file's own names, from which no other may differ."""
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
