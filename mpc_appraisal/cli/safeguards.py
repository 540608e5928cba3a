"""An owner's ledgers, approval and salts, from what it states under `party`; see `plan.DisclosureControls`."""

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
from mpc_appraisal.governance.budget.ledgers import EVERY
from mpc_appraisal.governance.catalogue import Listing, new_salt, read_listing, read_salt, write_salt
from mpc_appraisal.release import LedgerSet, Policy, ledger_beside

NONE = "none"
Party = Mapping[str, Any]  # the keys of `party` in conf/config.yaml
Absolute = Callable[[str], Path]  # of a path as it was typed


def of_model_owner(party: Party, absolute: Absolute) -> DisclosureControls:
    """One ledger for its model, whoever's data it is about; the salt by which its questions are known; its listings."""
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
    )


def without_controls(party: Party) -> DisclosureControls:
    """Of either owner in a trial on one machine: how data are compared, and nothing else."""
    return DisclosureControls(names=party["names"], scale=party["scale"])


def class_names(party: Party) -> tuple[str, ...] | None:
    """party.class_names, a list of different texts; None where it is not stated."""
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
    """A ledger for each candidate; places: its file by its name. contents: by its name what gives its data's digest."""
    if not isinstance(party["patience"], (int, float)) or not party["patience"] > 0:
        raise InputError("party.patience", party["patience"], "seconds above 0")
    requests = Path(str(party["requests"]))  # as it was typed, for that is how `approval yes` finds it,
    if requests.absolute() != absolute(str(requests)):  # unless Hydra has changed the folder
        requests = absolute(str(requests))
    approval = "yes" if party["approval"] is True else str(party["approval"])  # a bare yes is a truth value in YAML
    return DisclosureControls(
        counterparty=counterparty_of(party, MODEL_OWNER),
        # by the file's name: listed or not, and under whichever listing, the same data have one budget
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
    )


def ledgers_of(
    party: Party,
    absolute: Absolute,
    other: str,
    owned: Mapping[str, tuple[Path, str]],
    contents: Mapping[str, Callable[[], str]] | None = None,
) -> LedgerSet | None:
    """owned: by candidate its file and the name of what is in it. The ledgers are made where there are none."""
    policy = Policy.read(absolute(party["policy"])) if party["policy"] else None
    stated = one_each(party, "ledger", len(owned))
    if NONE in stated:
        if set(stated) != {NONE} or policy is not None:
            raise InputError("party.ledger", stated, f"{NONE} for all files and no party.policy, or no {NONE}")
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
    """party.counterparty_key, in lower case and without colons."""
    stated = party["counterparty_key"]
    if stated is None:
        return None
    found = str(stated).replace(":", "").lower()
    if not isinstance(stated, str) or not re.fullmatch("[0-9a-f]{64}", found):
        expected = "the SHA-256 of the other owner's public key: 64 hexadecimal digits, in quotation marks"
        raise InputError("party.counterparty_key", stated, expected)
    return found


def expiry_of(party: Party) -> float:
    """party.yes_expires, from days to seconds."""
    return number("party.yes_expires", party["yes_expires"], "days above 0", above=0, most=36500) * 24 * 3600


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr, flush=True)


def counterparty_of(party: Party, other: str) -> str:
    """What this owner calls the other one; refused here, before anything is spent, if no record may hold it."""
    name = party["counterparty"] or other
    if not isinstance(name, str) or PLACE.search(name):
        raise InputError("party.counterparty", repr(name), "a name that is no path and no address: records hold it")
    return name


def own_salt(party: Party, absolute: Absolute, file: Path) -> bytes | None:
    """The salt in party.salt, or beside `file`; made where there is none."""
    if party["salt"] == NONE:
        return None
    place = absolute(party["salt"]) if party["salt"] else file.with_name(f"{file.name}.inputs.salt")
    if not place.exists():
        write_salt(place, new_salt())
    return read_salt(place)


def one_each(party: Party, key: str, count: int) -> list[str | None]:
    """party.`key` as a list of one for each of `count` files of party.data; None for each where it is not stated."""
    stated = party[key]
    values = [None] * count if stated is None else [stated] if isinstance(stated, str) else list(stated)
    if values == [NONE]:
        values *= count
    if len(values) != count:
        raise InputError(f"party.{key}", f"{len(values)} of them", f"{count}: one for each file of party.data")
    return values
