"""The check that a data set matches its listing.

In go a listing, the data owner's data and the salt of the commitment; out comes nothing, or an InputError that names
the field. The data owner's process makes the check before anything is shared, so that what was published is what is
appraised. A further field that states a fact of the data needs a check here. No check may be dropped, and that of the
commitment should stay the last, because it reads all rows.
"""

from __future__ import annotations

import math
from collections import Counter

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.data import Dataset, Recipe, StoredDataset, resolution_of
from mpc_appraisal.governance.catalogue.commitment import commit
from mpc_appraisal.governance.catalogue.facts import statistics, types_of
from mpc_appraisal.governance.catalogue.listing import Listing
from mpc_appraisal.governance.catalogue.schema import TYPES


def check_recipe(listing: Listing, recipe: Recipe | None) -> None:
    """Raise InputError where the data are read by another recipe than the listing states, or only one has a recipe.

    recipe: what makes features of the data's file; None for a file of features and labels.
    """
    found, stated = recipe.digest if recipe else None, listing.recipe
    if found != stated:
        names = ["no recipe" if each is None else f"the recipe {each}" for each in (found, stated)]
        raise InputError(f"listing {listing.name}: data.recipe", names[0], f"{names[1]}, as the listing says")


def check_listing(listing: Listing, data: Dataset | StoredDataset, salt: bytes) -> None:
    """Raise InputError with the field, the data's value and the listing's value where they differ.

    Args:
        listing: what was published.
        data: the data set as it was read from the owner's file, before any standardisation. It may have fewer classes
            than the listing, because the classes of a file are counted by its largest label, but not more.
        salt: the bytes that the commitment was made with.

    The cheap checks come first; the last one reads all rows.
    """

    def must(field: str, value: object, stated: object) -> None:
        if value != stated:
            raise InputError(f"listing {listing.name}: {field}", value, f"{stated}, as the listing says")

    must("data.rows", data.rows, listing.rows)
    must("data.features", data.features, listing.features)
    if data.numeric != (listing.target is not None):
        kinds = [f"{data.classes} classes" if not data.numeric else "a number", listing.target or "classes"]
        must("data.target", kinds[0], shown(str(kinds[1])))
    if data.classes > listing.classes:
        must("data.classes", data.classes, listing.classes)
    for what, own, stated in (
        ("columns", data.columns, listing.column_names),
        ("class_names", data.class_names, listing.class_names),
    ):
        if own is not None and stated is not None:
            for place, (name, expected) in enumerate(zip(own, stated, strict=False)):
                must(f"data.{what}.{place}", shown(repr(name)), shown(repr(expected)))
            must(f"data.{what}", len(own), len(stated))
    data = data.with_classes(listing.classes)
    types = types_of(data)
    counts = Counter(types)
    for kind in TYPES:
        must(f"data.types.{kind}", counts[kind], listing.types[kind])
    for (name, stated), kind in zip(listing.columns, types, strict=False):
        must(f"data.columns.{name!r}", kind, stated)
    if listing.resolution is not None:
        found = resolution_of([data])
        must("data.resolution", found and found.as_dict(), listing.resolution.as_dict())
    if listing.statistics:
        found, said = statistics(data, listing.statistics.columns), listing.statistics
        must("statistics.rows_by_class", list(found.rows_by_class), list(said.rows_by_class))
        for field in ("mean", "deviation"):
            for k, (value, stated) in enumerate(zip(getattr(found, field), getattr(said, field), strict=True)):
                # Both are rounded to three digits, and the last one may depend on the order of a sum.
                if not math.isclose(value, stated, rel_tol=1.1e-2, abs_tol=1e-9):
                    must(f"statistics.{field}.{k}", value, stated)
    digest = commit(data, salt)
    if digest != listing.digest:
        raise InputError(
            f"listing {listing.name}: commitment.digest",
            f"{digest} of this data and this salt",
            f"{listing.digest}, as the listing says (a changed value, label or order of rows, or another salt?)",
        )
