"""What `mpc-appraisal budget preview` and `budget export` say of ledgers: what a request would cost, and every line.

In go ledgers, and for a preview a request with the name of its counterparty; out come a table, or rows for JSON lines
and CSV. A column may be added; those that exist have to stay, because scripts read them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.budget_preview import MOST, Preview, previews
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.budget.state import State, verify
from mpc_appraisal.reporting.table import Table, number, whole

COLUMNS = (
    "ledger", "data", "line", "time", "kind", "counterparty", "certificate", "method", "rows", "question", "mechanism",
    "epsilon", "sigma", "step", "charge", "answer", "policy",
)  # fmt: skip


def preview_table(id: str, requests: str, files: Iterable[Path]) -> Table:
    """Return a table of what the waiting request `id` would cost in each ledger.

    Raises InputError: There is no such request, or a damaged one.
    """
    pending = RequestQueue(requests).read(id)
    found, bad = previews(pending.request, pending.counterparty, files)
    header = ("ledger", "candidates", "counted", "values", "spent", "after", "limit", "more like it")
    refused = [f"{one.ledger} would refuse it: {one.refusal}" for one in found if one.refusal]
    unsure = ["The request names no ledger, and none is known to be of these candidates, so that all are shown."]
    notes = [*refused, *bad, *unsure * any(not one.sure for one in found)]
    title = f"What request {pending.id} of {shown(pending.counterparty)} would cost"
    return Table(title, header, "lll" + "r" * 5, [_row(one) for one in found], tuple(notes))


def _row(one: Preview) -> tuple[str, ...]:
    counted = f"epsilon at delta {one.delta:g}" if one.noised else "plain values"
    shape = number if one.noised else lambda value: whole(int(value))
    times = f"{MOST} or more" if one.noised and one.times >= MOST else whole(max(0, one.times))
    names = ", ".join(map(shown, one.candidates))
    return (one.ledger, names, counted, whole(one.values), shape(one.spent), shape(one.after), shape(one.limit), times)


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """Return a dictionary with the keys COLUMNS for every line of a ledger that says something.

    Raises InputError for a ledger that is not whole.
    """
    state: State = verify(file)
    for line in state.chain.lines:
        entry = line.entry
        if entry is None:  # a later line of the kind `tear` says that a writer was stopped here
            continue
        row = dict.fromkeys(COLUMNS) | {"ledger": file.name, "data": state.data, "line": line.number}
        row |= {"time": entry.get("time"), "kind": entry["kind"], "policy": entry.get("policy")}
        if entry["kind"] == "charge":
            noise = entry["mechanism"]
            row |= {key: entry[key] for key in ("counterparty", "method", "rows", "question")}
            row |= {"certificate": entry.get("identity"), "mechanism": noise["kind"]}
            row |= {key: noise.get(key) for key in ("epsilon", "sigma", "step")}
        elif entry["kind"] == "answer":
            row |= {"charge": entry["charge"], "answer": entry["value"]}
        yield row


def exported(files: Iterable[Path], form: str) -> str:
    """Return all lines of the ledgers as JSON lines, or as CSV with JSON in cells that hold more than one value."""
    rows = [row for file in files for row in rows_of(file)]
    if form == "json":
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[key]) for key in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (dict, list, bool)) else value
