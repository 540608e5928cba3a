"""What `mpc-appraisal budget preview` and `budget export` say of ledgers: what a request would cost, and every line.

In go ledgers, and for a preview a request with the name of its counterparty; out come a table, or rows for JSON lines
and CSV. A column may be added; those that exist have to stay, because scripts read them.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mpc_appraisal.cli.budget_preview import MOST, Preview, previews
from mpc_appraisal.cli.commands.budget import ADDS_UP
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.budget.state import Spent, history, spent_by, verify
from mpc_appraisal.reporting.table import DASH, Table, number, whole

COLUMNS = (
    "ledger", "data", "line", "time", "kind", "counterparty", "certificate", "method", "rows", "question", "mechanism",
    "epsilon", "sigma", "step", "charge", "answer", "policy", "period", "renews_at", "epsilon_spent", "epsilon_left",
    "epsilon_total", "plain_spent", "plain_left", "plain_total",
)  # fmt: skip


def preview_table(id: str, requests: str, files: Iterable[Path]) -> Table:
    """Return a table of what the waiting request `id` would cost in each ledger.

    Raises InputError: There is no such request, or a damaged one.
    """
    pending = RequestQueue(requests).read(id)
    found, bad = previews(pending.request, pending.counterparty, files)
    renews = any(one.period for one in found)
    header = ("ledger", "candidates", "counted", "values", "spent", "after", "limit", "more like it")
    header += ("period", "total after") * renews
    refused = [f"{one.ledger} would refuse it: {one.refusal}" for one in found if one.refusal]
    unsure = ["The request names no ledger, and none is known to be of these candidates, so that all are shown."]
    notes = [*refused, *bad, *unsure * any(not one.sure for one in found)]
    if renews:
        ends = {one.ledger: f"{one.renews_at:%Y-%m-%d %H:%M} UTC" for one in found if one.renews_at is not None}
        notes += [f"The budget of {ledger} renews at {time}." for ledger, time in ends.items()] + [ADDS_UP]
    title = f"What request {pending.id} of {shown(pending.counterparty)} would cost"
    aligned = "lll" + "r" * (len(header) - 3)
    return Table(title, header, aligned, [_row(one, renews) for one in found], tuple(notes))


def _row(one: Preview, renews: bool) -> tuple[str, ...]:
    """Return the cells of one preview. renews: whether a ledger of the table renews."""
    counted = f"epsilon at delta {one.delta:g}" if one.noised else "plain values"
    shape = number if one.noised else lambda value: whole(int(value))
    times = f"{MOST} or more" if one.noised and one.times >= MOST else whole(max(0, one.times))
    names = ", ".join(map(shown, one.candidates))
    cells = (one.ledger, names, counted, whole(one.values), shape(one.spent), shape(one.after), shape(one.limit), times)
    most = "" if one.lifetime is None else f" of {shape(one.lifetime)}"
    return cells + (one.period or DASH, f"{shape(one.total)}{most}") * renews


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """Return a dictionary with the keys COLUMNS for every line of a ledger that says something.

    The last charge of a counterparty in each period states what was spent and left in the period then, and the total
    over all periods.

    Raises InputError for a ledger that is not whole.
    """
    verify(file)
    lines = [(line.number, line.entry, state.period) for line, state in history(file)]
    last = {(entry["counterparty"], period): n for n, entry, period in lines if entry["kind"] == "charge"}
    for line, state in history(file):  # lines that cannot be read are left out: a line of the kind `tear` explains them
        entry = line.entry
        row = dict.fromkeys(COLUMNS) | {"ledger": file.name, "data": state.data, "line": line.number}
        row |= {"time": entry.get("time"), "kind": entry["kind"], "policy": entry.get("policy")}
        row["period"] = state.period or None
        if entry["kind"] == "charge":
            noise = entry["mechanism"]
            row |= {key: entry[key] for key in ("counterparty", "method", "rows", "question")}
            row |= {"certificate": entry.get("identity"), "mechanism": noise["kind"]}
            row |= {key: noise.get(key) for key in ("epsilon", "sigma", "step")}
            if line.number in last.values():
                row |= _sums(spent_by(state, entry["counterparty"], entry.get("identity")))
        elif entry["kind"] == "answer":
            row |= {"charge": entry["charge"], "answer": entry["value"]}
        yield row


def _sums(spent: Spent) -> dict[str, Any]:
    """Return the sums of one counterparty; an infinite epsilon, of noise of next to nothing, is None."""
    keys = ("epsilon_left", "epsilon_total", "plain_left", "plain_total")
    found = {key: getattr(spent, key) for key in keys} | {"epsilon_spent": spent.epsilon, "plain_spent": spent.plain}
    found["renews_at"] = None if spent.renews_at is None else spent.renews_at.isoformat(timespec="seconds")
    return {key: None if value == math.inf else value for key, value in found.items()}


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
