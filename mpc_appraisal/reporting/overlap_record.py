"""The record of one count of shared items, between a model owner and a data owner: one line of JSON, and a table of it.

In go the facts of one session; out come an `OverlapRecord`, which is appended to a file and read back, and a `Table`.
Each owner writes a record of its own: how many copies it removed stands in its own record alone.

A key with a default may be added. Known keys have to keep their names, because files of earlier versions are read. A
record holds no path, no host and no item.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import (
    Part,
    Schema,
    hexadecimal,
    many,
    mapping,
    nullable,
    number,
    one_of,
    record,
    text,
    whole,
)
from mpc_appraisal.reporting.json_lines import read_lines
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.table import DASH, Table
from mpc_appraisal.reporting.table import number as cell

KIND = "overlap"
NAME, WORDS, OWNER = text(200, 1), text(4000), one_of("model_owner", "data_owner")
FREE: Part = {"type": "object"}


@dataclass(frozen=True)
class OverlapRecord:
    """Hold what one owner knows of one count.

    Attributes:
        role: The owner that wrote the record.
        candidate: The name of the data owner's set.
        compared: What was compared: `what` ('rows' or 'keys'), `column` of the keys, `features` of a row, and whether
            `columns` were compared by 'name' or by 'position'.
        minimum: The least count that the model owner is shown.
        items: The number of different items by owner.
        own: The owner's own `rows`, how many `copies` it removed, and how many rows were `without_key`.
        count: The number of shared items; None at the model owner where it is below the minimum.
        fewer_than: What the model owner was shown in place of the count; None where it was shown the count.
        revealed: Sentences on what was revealed to whom.
        trust: What the owners trusted.
        request: What the data owner approved: `id`, `digest`, `approval` and `time`.
        budget: What the counterparty has spent and has left; None without a ledger.
        seconds: Seconds by owner.
        bytes_sent: Bytes by owner.
        rounds: How often this owner waited for a message of the other.
        transport: How the owners were connected.
        config_hash, versions, revision: The digest of the settings, the software, and its git revision.
        kind: Always 'overlap'.
        recipe: The digest of the recipe by which both owners read their tables. A line of JSON has this key only where
            there was one.

    Raises:
        InputError: A field has another type.
    """

    role: str
    candidate: str
    compared: dict[str, Any]
    minimum: int
    items: dict[str, int]
    own: dict[str, int]
    count: int | None
    fewer_than: int | None
    revealed: list[str]
    trust: str
    request: dict[str, str]
    budget: dict[str, Any] | None
    seconds: dict[str, float]
    bytes_sent: dict[str, int]
    rounds: int
    transport: str
    config_hash: str
    versions: dict[str, str | None]
    revision: str | None
    kind: str = KIND
    recipe: str | None = None

    def __post_init__(self) -> None:
        SCHEMA.check(asdict(self), "overlap record")

    def to_json(self) -> str:
        """Write the record as one line of JSON, without its end."""
        entries = asdict(self)
        if self.recipe is None:  # a record without a recipe is written as it was before recipes could be stated
            del entries["recipe"]
        return json.dumps(entries, allow_nan=False)

    @property
    def answer(self) -> str:
        """Return the answer as the model owner is shown it: the count, or that it is below the minimum."""
        return f"fewer than {self.fewer_than}" if self.fewer_than is not None else str(self.count)

    @staticmethod
    def of(facts: dict[str, Any]) -> OverlapRecord:
        """Return the record of one line's object. Raises InputError for an object that is no such record."""
        try:
            return OverlapRecord(**facts)
        except TypeError:
            keys = [each.name for each in fields(OverlapRecord)]
            raise InputError("overlap record", f"the keys {', '.join(map(str, facts))}", ", ".join(keys)) from None


SCHEMA = Schema(
    record(
        role=OWNER,
        candidate=NAME,
        compared=FREE,
        minimum=whole(1),
        items=mapping(OWNER, whole(1)),
        own=mapping(NAME, whole(0)),
        count=nullable(whole(0)),
        fewer_than=nullable(whole(1)),
        revealed=many(WORDS),
        trust=WORDS,
        request=mapping(NAME, NAME),
        budget=nullable(FREE),
        seconds=mapping(OWNER, number(0)),
        bytes_sent=mapping(OWNER, whole(0)),
        rounds=whole(0),
        transport=NAME,
        config_hash=NAME,
        versions=mapping(NAME, nullable(NAME)),
        revision=nullable(NAME),
        kind=one_of(KIND),
        recipe=nullable(hexadecimal(64)),
    )
)


def append_overlap(path: str | Path, found: OverlapRecord) -> None:
    """Append the record to a file as one line. Raises InputError where the file cannot be written."""
    line = found.to_json() + "\n"
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError("out", f"{path}: {error.strerror}", "a file that can be written") from error


def read_overlaps(path: str | Path) -> list[OverlapRecord]:
    """Read a file that `append_overlap` wrote. Raises InputError, which names the file and the line."""
    return read_lines(path, OverlapRecord.of)


def count_in_words(overlap: Mapping[str, Any]) -> str:
    """Return the answer of a count in an appraisal as the model owner is shown it. overlap: as a record holds it."""
    return f"fewer than {overlap['fewer_than']}" if overlap["fewer_than"] is not None else str(overlap["count"])


def counts_table(records: Iterable[Record]) -> Table:
    """Return what the records of an appraisal say of counts, a row for each candidate. There may be no rows."""
    known = {record.candidate: (record.role, record.overlap) for record in records if record.overlap is not None}
    rows = []
    for name, (role, one) in known.items():
        what = one["what"] if one["column"] is None else f"{one['what']} of the column {one['column']}"
        share = cell(one["count"] / one["items"]["data_owner"]) if one["count"] is not None else DASH
        answer = count_in_words(one)
        if role == "data_owner" and one["fewer_than"] is not None:
            answer += f" ({one['count']}, shown to this side alone)"
        rows.append((name, what, *(str(one["items"][r]) for r in ("model_owner", "data_owner")), answer, share))
    header = ("candidate", "compared", "model owner's", "candidate's", "in both", "share of the candidate's")
    sentences = next((tuple(one["revealed"] or ()) for _, one in known.values()), ())
    notes = ("Different ones are counted, before the appraisal and in the same request.", *sentences) if known else ()
    return Table("What the model owner has already", header, "llrrrr", rows, notes)


def overlap_table(found: OverlapRecord) -> Table:
    """Return the table of one count, for the owner that wrote the record."""
    what, items, own = found.compared["what"], found.items, found.own
    other = "model_owner" if found.role == "data_owner" else "data_owner"
    removed = f"{own['copies']} copies removed of {own['rows']} rows"
    if own["without_key"]:
        removed += f", {own['without_key']} rows have no key"
    rows = [
        ("compared", what if found.compared["column"] is None else f"{what} of the column {found.compared['column']}"),
        ("data set", found.candidate),
        (f"different {what}, {found.role}", f"{items[found.role]} ({removed}; this side alone is shown this)"),
        (f"different {what}, {other}", str(items[other])),
        ("in both sets", found.answer),
    ]
    if found.role == "data_owner" and found.fewer_than is not None:
        rows.append(("in both sets, shown to this side alone", str(found.count)))
    if found.count is not None and found.role == "model_owner":
        rows.append(("share of the data owner's", f"{found.count / items['data_owner']:.1%}"))
    if found.recipe is not None:
        rows.append(("recipe", found.recipe))
    rows += [
        ("request", f"{found.request['id']} ({found.request['approval']}, {found.request['time']})"),
        ("seconds", cell(found.seconds[found.role], 3)),
        ("bytes sent, model_owner and data_owner", " and ".join(str(found.bytes_sent[r]) for r in sorted(items)[::-1])),
        ("rounds", str(found.rounds)),
    ]
    if found.budget is not None:
        rows.append(("ledger", f"{found.budget['ledger']}: {found.budget['plain_left']} plain values left"))
    return Table("Overlap", ("fact", "value"), "ll", rows, (*found.revealed, found.trust))
