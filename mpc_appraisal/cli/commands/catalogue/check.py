"""`mpc-appraisal catalogue check`: are these the data that the listing commits to, and that the record speaks of?

In go a listing (the public description of a data set), a data file and the salt of the listing's commitment; to check
an answer, also the appraisal's record and the buyer's own files. Out comes a sentence for each thing that was compared
and agrees, or InputError for the first that does not. A comparison may be added; none may be left out without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.commands.catalogue.listings import key_values, read_listed, recipe_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Sizes
from mpc_appraisal.data.targets import CLASSES, NUMBER
from mpc_appraisal.governance.catalogue.check import check_listing, check_recipe
from mpc_appraisal.governance.catalogue.commitment import read_salt, salt_beside
from mpc_appraisal.governance.catalogue.listing import read_listing

CHECKED = ("listing", "data", "secret", "label", "classes", "recipe")
# The keys for computing an answer again.
OWN = ("record", "train", "test", "model", "salt", "threshold", "metric", "group", "class_weights")


def run(arguments: Sequence[str], console: Any) -> None:
    """Compare the data with the listing's commitment and, if a record is stated, compute its answer again.

    Raises InputError if data, model or value are others than those of the listing and the record.
    """
    stated = key_values("check", arguments, (*CHECKED, *OWN), ("listing", "data"))
    own = sorted(set(OWN) & set(stated) - {"record"})
    if own and not stated.get("record"):
        raise InputError("record", "nothing", f"record=FILE, the appraisal's records, beside {', '.join(own)}")
    listing, file = read_listing(stated["listing"]), Path(stated["data"])
    salt = read_salt(stated.get("secret") or salt_beside(file, listing.name))
    sizes = Sizes(listing.rows, listing.features, f"listing {listing.name}")
    check_recipe(listing, recipe_of(stated))
    data = read_listed(file, stated, sizes, NUMBER if listing.target else CLASSES)
    check_listing(listing, data, salt)
    found = []
    if stated.get("record"):
        from mpc_appraisal.appraisal.recompute import recompute  # slow: it imports all methods

        found = recompute(listing, data, stated)
    print(f"the data are those of listing {listing.name}: commitment {listing.digest}")
    for sentence in found:
        print(sentence)
