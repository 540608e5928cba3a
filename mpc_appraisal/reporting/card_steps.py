"""What anybody who holds a card can check, each with the command for it.

In go the records of one candidate; out come pairs of a sentence and a command, or "" where there is none. A command may
hold no foreign text but hashes and the name of a listing, whose forms are checked: somebody will paste the command into
a shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.record import Record

NAME, TEXT = 80, 240  # the longest name and the longest sentence that are shown whole, in characters


def steps_of(records: list[Record]) -> Iterable[tuple[str, str]]:
    """Return what anybody who holds this card can check. Its hashes come from records, whose form has been checked."""
    for head, name in dict.fromkeys((r.budget["head"], r.budget["ledger"]) for r in records if r.budget):
        yield (
            f"The budget: whoever holds the ledger “{shown(name, NAME)}”, the file LEDGER, can show that it is whole "
            "and still has the line with this hash.",
            f"mpc-appraisal budget verify LEDGER --head {head}",
        )
    facts = ((r.listing["name"], r.listing["digest"], r.listing["commitment"], r.recipe) for r in records if r.listing)
    for name, digest, commitment, recipe in dict.fromkeys(facts):
        yield f"The offer: the listing's file has the SHA-256 {digest[:16]}… above.", f"sha256sum {name}.json"
        yield (
            f"The data, after the deal, with the delivered FILE and SALT: the commitment is {commitment[:16]}….",
            f"mpc-appraisal catalogue check listing={name}.json data=FILE secret=SALT record=records.jsonl"
            " train=FILE test=FILE" + " recipe=RECIPE" * (recipe is not None),
        )
    requests = dict.fromkeys(r.request["id"] for r in records if r.request and r.request["how"] == "command")
    for name in requests:
        if re.fullmatch("[0-9a-f]{12}", name):  # foreign text never becomes a part of a command
            kept = "The approval: the data owner's request queue still has the request."
            yield kept, f"mpc-appraisal approval show {name}"
    if any(r.receipt for r in records):
        yield (
            "The receipt: whoever holds this page as a file, CARD, and both certificates can show that both owners "
            "signed these answers, this request and the last hashes of their ledgers.",
            "mpc-appraisal card verify CARD model_owner=CERTIFICATE data_owner=CERTIFICATE",
        )
    if hashes := ", ".join(dict.fromkeys(r.config_hash for r in records if r.config_hash)):
        sides = "the cards of both sides must state" if records[0].session == "join" else "a repetition must state"
        request = ", and the same SHA-256 of the request" if any(r.request for r in records) else ""
        yield f"The same question: {sides} the public configuration hash {shown(hashes, NAME)}{request}.", ""
    used = dict.fromkeys(f"{key} {value}" for r in records for key, value in r.versions.items() if value)
    revisions = dict.fromkeys(f"revision {r.revision}" for r in records if r.revision)
    if used or revisions:
        yield f"The software: {shown(', '.join([*used, *revisions]), 2 * TEXT)}.", ""
    yield _repeat(records), ""


def _repeat(records: list[Record]) -> str:
    seeds = dict.fromkeys(f"seed {r.seed}" for r in records if r.seed is not None)
    public = " with the same public settings" + "".join(f", {seed}" for seed in seeds)
    text = f"To repeat: run it again{public}, by all parties; the configuration hash must be the same."
    if any(r.budget and r.release and "data_owner" in r.release["to"] for r in records):
        text += " A data owner's ledger that holds this answer gives it again, free, and nothing is computed."
    if any(r.release and r.release["epsilon"] is not None for r in records):
        return text + " A computation anew has new noise: another number."
    return text + " A computation anew agrees up to fixed-point rounding."
