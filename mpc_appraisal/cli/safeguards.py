"""An owner's disclosure controls: ledgers, approval, salts and listings, from what it states under `party`.

In go the keys under `party`, and a function that makes typed paths absolute; out comes a `plan.DisclosureControls`. A
ledger is the file in which an owner records what was opened to the other side, a listing the public description of a
data set, and a salt the random bytes that keep a commitment to data from being guessed. Ledgers and salts that are not
there are made. A control may be added. A wrong key has to raise InputError here, before anything is sent or charged,
and a ledger has to go by the data's file and not by their listing, so that the same data have one budget.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mpc_appraisal.appraisal.plan import DisclosureControls
from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.common.text import PLACE
from mpc_appraisal.governance.approval.changed_terms import read_request
from mpc_appraisal.governance.approval.purpose import Purpose
from mpc_appraisal.governance.budget.ledgers import EVERY
from mpc_appraisal.governance.catalogue import Listing, new_salt, read_listing, read_salt, write_salt
from mpc_appraisal.governance.offers.grant import Offering
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import FILE
from mpc_appraisal.release import LedgerSet, Policy, ledger_beside

NONE = "none"  # the word for no ledger, and for no salt
Party = Mapping[str, Any]  # the keys under `party` in conf/config.yaml
Absolute = Callable[[str], Path]  # makes a path absolute that was typed


def of_model_owner(party: Party, absolute: Absolute) -> DisclosureControls:
    """Return the model owner's controls.

    The model owner has one ledger for its model, whosever data are appraised, and a salt that lets repeated questions
    be recognised. Raises InputError for a key that does not fit.
    """
    own = absolute(next(party[key] for key in ("model", "train", "test") if party[key]))
    listings = party["listing"] or ()
    listings = [listings] if isinstance(listings, str) else list(listings)
    return DisclosureControls(
        counterparty=counterparty_of(party, DATA_OWNER),
        ledgers=ledgers_of(party, absolute, DATA_OWNER, {EVERY: (own, own.stem)}),
        listings=tuple(read_listing(absolute(one)) for one in listings),
        salt=own_salt(party, absolute, own),
        names=party["names"],
        scale=party["scale"],
        counterparty_key=key_of(party),
        purpose=Purpose.of(party["purpose"]),
        offer=Offer.read(absolute(party["offer"]), "party.offer") if party["offer"] else None,
        agreed=read_request(absolute(party["agreed"]), "party.agreed") if party["agreed"] else None,
    )


def without_controls(party: Party) -> DisclosureControls:
    """Return the controls of either owner in a run on one machine: how data are compared, and nothing else."""
    return DisclosureControls(names=party["names"], scale=party["scale"])


def class_names(party: Party) -> tuple[str, ...] | None:
    """Return party.class_names, a list of different texts, or None if it is not stated.

    Raises InputError for anything else.
    """
    stated = party["class_names"]
    if stated is None:
        return None
    if not isinstance(stated, list) or len({str(each).strip() for each in stated} - {""}) != len(stated) or not stated:
        raise InputError("party.class_names", repr(stated), "a list of different names, as in [good,bad]")
    return tuple(str(each).strip() for each in stated)


def of_data_owner(
    party: Party,
    absolute: Absolute,
    places: Mapping[str, str],
    listings: tuple[Listing | None, ...],
    contents: Mapping[str, Callable[[], str]] | None = None,
) -> DisclosureControls:
    """Return the data owner's controls, with a ledger for each candidate, which is one of its data sets.

    Args:
        party: The keys under `party`.
        absolute: A function that makes a typed path absolute.
        places: The file of each candidate, by the candidate's name.
        listings: The listing of each candidate, or None, in the order of `places`.
        contents: For each candidate a function that returns the digest of its data.

    Raises:
        InputError: A key does not fit.
    """
    if not isinstance(party["patience"], (int, float)) or not party["patience"] > 0:
        raise InputError("party.patience", party["patience"], "seconds above 0")
    # `approval yes` finds the folder as it was typed, unless Hydra has changed the current folder.
    requests = Path(str(party["requests"]))
    if requests.absolute() != absolute(str(requests)):
        requests = absolute(str(requests))
    approval = "yes" if party["approval"] is True else str(party["approval"])  # YAML reads a bare yes as true.
    return DisclosureControls(
        counterparty=counterparty_of(party, MODEL_OWNER),
        # A ledger goes by the file's name, so that the same data have one budget under whatever listing they are.
        ledgers=ledgers_of(
            party,
            absolute,
            MODEL_OWNER,
            {name: (absolute(path), Path(path).stem) for name, path in places.items()},
            contents,
        ),
        listings=listings,
        approval=approval if approval in ("ask", "yes") else str(absolute(approval)),
        requests=str(requests),
        patience=float(party["patience"]),
        names=party["names"],
        scale=party["scale"],
        counterparty_key=key_of(party),
        yes_expires=expiry_of(party),
        offers=offers_of(party, absolute, places),
    )


def offers_of(party: Party, absolute: Absolute, places: Mapping[str, str]) -> Offering | None:
    """Return the data owner's standing offers, or None if party.offers states no folder.

    The answers that they give are counted in the folder of each candidate's ledger. Raises InputError for a folder that
    is not there, and where there is no ledger.
    """
    if party["offers"] is None:
        return None
    folder, stated = absolute(party["offers"]), one_each(party, "ledger", len(places))
    if not folder.is_dir():
        raise InputError("party.offers", party["offers"], "a folder of offers, as `mpc-appraisal offer make` makes it")
    if NONE in stated:
        expected = "a ledger beside party.offers: the answers that offers give are counted in its folder"
        raise InputError("party.ledger", NONE, expected)
    ledgers = [
        ledger_beside(absolute(path)) if ledger is None else absolute(ledger)
        for ledger, path in zip(stated, places.values(), strict=True)
    ]
    counts = {name: ledger.parent / FILE for name, ledger in zip(places, ledgers, strict=True)}
    return Offering(str(folder), counts)


def ledgers_of(
    party: Party,
    absolute: Absolute,
    other: str,
    owned: Mapping[str, tuple[Path, str]],
    contents: Mapping[str, Callable[[], str]] | None = None,
) -> LedgerSet | None:
    """Open the ledgers of one owner, and make those that are not there. Return None if party.ledger says none.

    Args:
        party: The keys under `party`.
        absolute: A function that makes a typed path absolute.
        other: The other owner's role, which is its name if party.counterparty states none.
        owned: For each candidate its file, and the name that the ledger gives to the data.
        contents: For each candidate a function that returns the digest of its data, by which copies are recognised.

    Raises:
        InputError: The ledgers or the policy do not fit the files.
    """
    policy = Policy.read(absolute(party["policy"])) if party["policy"] else None
    stated = one_each(party, "ledger", len(owned))
    if NONE in stated:
        if set(stated) != {NONE} or policy is not None:
            raise InputError(
                "party.ledger", stated, f"{NONE} for all files and no party.policy, or a ledger for every file"
            )
        return None
    places = {
        name: (ledger_beside(file) if ledger is None else absolute(ledger), what)
        for ledger, (name, (file, what)) in zip(stated, owned.items(), strict=True)
    }
    ledgers = LedgerSet.open(counterparty_of(party, other), places, policy, contents)
    for ledger, twins in ledgers.twins().items():
        _warn(
            f"the new ledger {ledger} is of the same data as {', '.join(twins)} beside it and has a budget of its own; "
            "name one ledger for all in party.ledger to have one budget"
        )
    for ledger in ledgers.foreign_keys():
        _warn(f"{ledger}.salt is another key than {ledger} was made with: earlier questions are charged again")
    return ledgers


def key_of(party: Party) -> str | None:
    """Return party.counterparty_key in lower case and without colons, or None if it is not stated.

    Raises InputError unless the key is the 64 hexadecimal digits of a SHA-256.
    """
    stated = party["counterparty_key"]
    if stated is None:
        return None
    found = str(stated).replace(":", "").lower()
    if not isinstance(stated, str) or not re.fullmatch("[0-9a-f]{64}", found):
        expected = "the SHA-256 of the other owner's public key: 64 hexadecimal digits, in quotation marks"
        raise InputError("party.counterparty_key", stated, expected)
    return found


def expiry_of(party: Party) -> float:
    """Return party.yes_expires, which is stated in days, in seconds. Raises InputError unless it is above 0."""
    return number("party.yes_expires", party["yes_expires"], "days above 0", above=0, most=36500) * 24 * 3600


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def counterparty_of(party: Party, other: str) -> str:
    """Return what this owner calls the other one: party.counterparty, or else the role `other`.

    A name that no record may hold raises InputError here, before anything is spent.
    """
    name = party["counterparty"] or other
    if not isinstance(name, str) or PLACE.search(name):
        raise InputError("party.counterparty", repr(name), "a name that is no path and no address: records hold it")
    return name


def own_salt(party: Party, absolute: Absolute, file: Path) -> bytes | None:
    """Return the salt in party.salt, or beside `file` if that key states none. Return None if the key says none.

    The salt is made if it is not there.
    """
    if party["salt"] == NONE:
        return None
    place = absolute(party["salt"]) if party["salt"] else file.with_name(f"{file.name}.inputs.salt")
    if not place.exists():
        write_salt(place, new_salt())
    return read_salt(place)


def one_each(party: Party, key: str, count: int) -> list[str | None]:
    """Return a key of `party` as a list with one value for each of `count` files, each None if the key is not stated.

    Raises InputError for another number of values.
    """
    stated = party[key]
    values = [None] * count if stated is None else [stated] if isinstance(stated, str) else list(stated)
    if values == [NONE]:
        values *= count
    if len(values) != count:
        raise InputError(f"party.{key}", f"{len(values)} of them", f"{count}: one for each file of party.data")
    return values
