"""`mpc-appraisal overlap`: how many of the data owner's rows, or keys, does the model owner have already?

    mpc-appraisal overlap role=model_owner address=tcp://host:port file=train.npz tls=certificates/model_owner

In go this owner's file and settings, each written KEY=VALUE. Out come a table on the terminal and one line of JSON. The
other owner runs the same command with its own file. A key may be added to `DEFAULTS`; known keys have to keep their
meaning. Nothing of the file but what `appraisal.overlap` announces may be sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.arguments import number, split
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.common.text import shown

REQUIRED = ("role", "address", "file")
# The keys with the value that each has unless it is stated; None stands for nothing.
DEFAULTS: dict[str, str | None] = {
    "key": None,
    "label": "label",
    "recipe": None,
    "minimum": "10",
    "names": "plain",
    "name": None,
    "counterparty": None,
    "counterparty_key": None,
    "ledger": None,
    "policy": None,
    "approval": "ask",
    "requests": "requests",
    "patience": "3600",
    "yes_expires": "7",
    "transport": "tls",
    "tls": None,
    "in_the_clear": "no",
    "join_timeout": "120",
    "timeout": "300",
    "freeze_timeout": "10",
    "record": None,
}
PREFIXES = ("party.", "session.")  # what the app's configuration puts before the same keys
USAGE = """usage: mpc-appraisal overlap role=ROLE address=tcp://HOST:PORT file=FILE
               [KEY=VALUE ...]

How many of the data owner's rows (or keys in one column) does the model owner
have already? Both run this command. The data owner says yes first. It then
computes the count and is shown it; the model owner is shown the count, or that
there are fewer than the minimum. Both are shown how many different rows (or
keys) the other has. Copies are removed before.

role=ROLE:     model_owner, who asks and listens at the address, or data_owner,
               who answers
file=FILE:     this side's file, .npz, .csv or .parquet
key=COLUMN:    the keys in this column are compared (default: whole rows, by
               their features without the label)
minimum=N:     below N the model owner is shown no count (default: 10)
label=COLUMN:  the label column, which is no part of a row (default: label)
recipe=FILE:   rows are compared after this recipe; with key=, the column may be
               none of its features (default: none)
names=HOW:     plain or hash: how the names of columns are announced, if rows
               are compared (default: plain)
name=NAME:     data_owner: what the data set is called (default: the file's
               name)
Both sides must state the same key, minimum and recipe.

ledger=FILE|none, policy=FILE: the ledger that is charged (default:
               FILE.ledger), and the limits of a new one
counterparty=NAME, counterparty_key=SHA256: what the ledger calls the other
               side, and the key it must show
approval=ask|yes|FILE, requests=DIR, patience=SECONDS, yes_expires=DAYS:
               data_owner: how it says yes (default: ask)
transport=tls|tcp, tls=DIR: the connection, and the folder of
               certificates; tcp needs in_the_clear=yes
join_timeout, timeout, freeze_timeout: seconds for the other to come, for a
               message, and without a sign of life
record=FILE|none: the line of JSON is appended to FILE
               (default: overlap_ROLE.jsonl)

The package openmined-psi does the work: pip install 'mpc_appraisal[overlap]'."""


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand: take part, print the table, and append the record.

    Raises InputError by name for a bad argument or file, and what `take_part_in_overlap` raises.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    keys = stated(arguments)
    from mpc_appraisal.appraisal.overlap import take_part_in_overlap
    from mpc_appraisal.cli.console import set_threads, terminal
    from mpc_appraisal.mpc.protocols.set_intersection import library
    from mpc_appraisal.reporting.overlap_record import append_overlap, overlap_table
    from mpc_appraisal.reporting.report import print_table

    set_threads()
    with _own_names():
        recipe = _recipe(keys)
        plan = _plan(keys, recipe)
        place = keys["record"] or f"overlap_{keys['role']}.jsonl"
        if place != "none" and not (parent := Path(place).absolute().parent).is_dir():
            raise InputError("record", shown(place), f"a file in a folder that is there, unlike {parent.name}")
        library()
        found = take_part_in_overlap(keys["role"], keys["address"], plan, lambda: _read(keys, recipe))
    if place != "none":
        append_overlap(place, found)
    print_table(overlap_table(found), terminal())
    if place != "none":
        print(f"record: {place}")


def stated(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the value of every key. Raises InputError for an unknown key, one that stands twice or one without value.

    A required key that is missing is an error too.
    """
    known = (*REQUIRED, *DEFAULTS)
    found, others = split(arguments, known)
    if others:
        raise InputError("overlap", shown(others[0]), f"KEY=VALUE, each key once, of {', '.join(known)}")
    for key in REQUIRED:
        if not found.get(key):
            raise InputError(key, "nothing", f"a value, as in {key}={EXAMPLES[key]}")
    for key, value in found.items():
        if not value:
            raise InputError(key, "nothing", "a value, or no such key")
    if found["role"] not in OWNERS:
        raise InputError("role", shown(found["role"]), f"one of {', '.join(OWNERS)}")
    for key in ("approval", "requests", "patience", "yes_expires", "name"):
        if key in found and found["role"] == MODEL_OWNER:
            raise InputError(key, shown(found[key]), f"no such key at the {MODEL_OWNER}: the {DATA_OWNER} states it")
    return DEFAULTS | found


EXAMPLES = {"role": MODEL_OWNER, "address": "tcp://127.0.0.1:29500", "file": "train.npz"}


def _recipe(keys: dict[str, Any]) -> Any:
    """Return the recipe that the owner states; None without one. Raises InputError for a label beside it."""
    if keys["recipe"] is None:
        return None
    from mpc_appraisal.data import Recipe

    if keys["label"] != DEFAULTS["label"]:
        raise InputError("label", shown(keys["label"]), "no label= beside recipe=, because the recipe states it")
    return Recipe.load(keys["recipe"])


def _plan(keys: dict[str, Any], recipe: Any) -> Any:
    from mpc_appraisal.appraisal.overlap_terms import OverlapPlan
    from mpc_appraisal.mpc.net.rendezvous import parse_address
    from mpc_appraisal.mpc.net.transport import Transport, check_clear

    parse_address(keys["address"], "address")
    words = {"true": True, "false": False}
    check_clear(keys["transport"], words.get(keys["in_the_clear"], keys["in_the_clear"]), "in_the_clear")
    seconds = {key: number(key, keys[key], float) for key in ("join_timeout", "timeout", "freeze_timeout")}
    folder = None if keys["tls"] is None else str(Path(keys["tls"]).absolute())
    transport = Transport(keys["transport"], folder, seconds.pop("freeze_timeout"))
    digest = recipe and recipe.digest
    return OverlapPlan(keys["key"], number("minimum", keys["minimum"], int), transport, recipe=digest, **seconds)


def _read(keys: dict[str, Any], recipe: Any) -> Any:
    """Read this owner's file, and open its ledger. Nothing is sent or charged."""
    with _own_names():
        from mpc_appraisal.appraisal.overlap import OverlapInput
        from mpc_appraisal.data import open_dataset
        from mpc_appraisal.data.items import items_of_keys, items_of_rows
        from mpc_appraisal.data.targets import CLASSES

        path, data = Path(keys["file"]), None
        if keys["key"] is None:
            data = open_dataset(path, keys["label"], None, "file", None, recipe, recipe.kind if recipe else CLASSES)
            items = items_of_rows(data)
        else:
            items = items_of_keys(path, keys["key"], "file")
        return OverlapInput(keys["name"] or path.stem, items, data, _controls(keys, path, data))


def _controls(keys: dict[str, Any], path: Path, data: Any) -> Any:
    """Return the owner's controls, as `safeguards` makes them of the app's keys under `party`."""
    from mpc_appraisal.cli import safeguards
    from mpc_appraisal.governance.catalogue import commit

    party = {key: keys[key] for key in ("counterparty", "counterparty_key", "ledger", "policy", "approval", "names")}
    party |= {key: number(key, keys[key], float) for key in ("patience", "yes_expires")}
    party |= {"requests": keys["requests"], "scale": "ignore", "offers": None}  # an offer is of appraisals
    if keys["role"] == MODEL_OWNER:
        party |= {"model": None, "train": str(path), "test": None, "listing": None, "salt": safeguards.NONE}
        party |= {"purpose": None, "offer": None, "agreed": None}  # a count has none of its own
        return _shown(safeguards.of_model_owner(party, _absolute), "asks for")
    name = keys["name"] or path.stem
    contents: dict[str, Callable[[], str]] = {} if data is None else {name: lambda: commit(data, bytes(32))}
    return _shown(safeguards.of_data_owner(party, _absolute, {name: str(path)}, (None,), contents), "is asked for")


def _shown(controls: Any, verb: str) -> Any:
    from dataclasses import replace

    def show(request: Any) -> None:
        print(f"this side {verb} request {request.id}, a count of shared items", file=sys.stderr, flush=True)

    return replace(controls, show=show)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(path))


@contextmanager
def _own_names() -> Iterator[None]:
    """Let errors name the command's own keys: `ledger`, where the app's configuration has `party.ledger`."""
    try:
        yield
    except InputError as error:
        prefix = next((each for each in PREFIXES if error.name.startswith(each)), None)
        if prefix is None:
            raise
        raise InputError(error.name.removeprefix(prefix), error.value, error.expected) from None


__all__ = ["main", "stated"]
