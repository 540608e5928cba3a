"""What the desk shows of runs: the answers that a data owner gave, and the candidates that a model owner compares.

In go the folder of runs, and the catalogue for prices; out come tables, with the address of a card beside each row. The
facts are those of records.jsonl. A verdict is no part of a record, because thresholds are secret: it is read from
the model owner's own card. A file that a link leads out of the folder is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mpc_appraisal.cli.desk.decisions import when
from mpc_appraisal.cli.desk.listings import within
from mpc_appraisal.cli.desk.places import Places, inside
from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.card import card_stems
from mpc_appraisal.reporting.card_steps import NAME
from mpc_appraisal.reporting.page import inert
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import answer, finalists, with_margin
from mpc_appraisal.reporting.run_folders import FAILURE, RECORDS, RunFolder, run_folders
from mpc_appraisal.reporting.table import DASH, Table, whole

CARD = re.compile(r"card-[a-z0-9-]+\.html")
DECISION = re.compile(r"^## The decision$(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
DATA_OWNER = "data_owner"


@dataclass(frozen=True)
class _Row:
    """One answer: its record, what it is in words, and the card beside it."""

    run: str
    record: Record
    answer: str
    verdict: str
    price: float | None
    currency: str
    card: str


ORDERS: dict[str, Callable[[_Row], Any]] = {
    "value": lambda row: -math.inf if row.record.value is None else row.record.value,
    "price": lambda row: -math.inf if row.price is None else -row.price,  # the cheapest first, those without one last
    "rows": lambda row: row.record.n or 0,
    "verdict": lambda row: ("buy", "undecided", "do not buy").index(row.verdict) * -1 if row.verdict != DASH else -9,
}


def given(places: Places) -> dict[str, Any]:
    """Return `table`, `cards` and `bad`: the answers of runs in which this party was the data owner, by run."""
    rows, bad = _rows(places, lambda record: record.role == DATA_OWNER)
    header = ("candidate", "method", "answer", "counterparty", "request", "approved", "run")
    cells = [
        (
            shown(row.record.candidate, 80),
            shown(row.record.method),
            row.answer,
            shown((row.record.budget or {}).get("counterparty") or DASH),
            shown((row.record.request or {}).get("id") or DASH),
            when((row.record.request or {}).get("time") or DASH),
            shown(row.run),
        )
        for row in rows
    ]
    return {"table": Table("Answers", header, "llrllll", cells), "cards": [row.card for row in rows], "bad": bad}


def compared(places: Places, order: str) -> dict[str, Any]:
    """Return what the page of candidates shows: a table for each method, because values of two methods do not compare.

    Raises InputError for an order that is none of ORDERS.
    """
    one_of("sort", order, ORDERS)
    rows, bad = _rows(places, lambda record: record.role != DATA_OWNER)
    header = ("candidate", "value", "verdict", "price", "rows", "run")
    tables = []
    for method in dict.fromkeys(row.record.method for row in rows):
        own = sorted((row for row in rows if row.record.method == method), key=ORDERS[order], reverse=True)
        cells = [
            (
                shown(row.record.candidate, 80),
                row.answer,
                row.verdict,
                DASH if row.price is None else f"{row.price:.15g} {row.currency}",
                whole(row.record.n),
                shown(row.run),
            )
            for row in own
        ]
        tables.append((Table(shown(method), header, "lrlrrl", cells), [row.card for row in own]))
    return {"tables": tables, "bad": bad, "orders": list(ORDERS), "order": order}


def card(places: Places, run: str, name: str) -> bytes:
    """Return the card in this file. Raises InputError for a file that is no card of a run in the folder."""
    if not CARD.fullmatch(name):
        raise InputError("card", shown(name), "the file of a card")
    return inside(places.runs, run, name).read_bytes()


def _rows(places: Places, wanted: Callable[[Record], bool]) -> tuple[list[_Row], list[str]]:
    """Return the answers of all runs that are wanted, and a sentence on each run that cannot be read."""
    listed, rows, bad = _listed(places), [], []
    for run in _runs(places):
        if run.result is None:
            if run.reason:
                bad.append(shown(f"{run.folder}: {run.state}: {run.reason}", 400))
            continue
        stems, among = card_stems(run.result), finalists(run.result)
        for record in run.result:
            if record.baseline or record.error or not wanted(record):
                continue
            stem = stems.get(record.candidate, "")
            rows.append(_row(places, run, record, _in_words(run.result, record, among), stem, listed))
    return rows, bad


def _row(
    places: Places, run: RunFolder, record: Record, words: str, stem: str, listed: dict[str, tuple[float, str]]
) -> _Row:
    page = _beside(places, run, f"{stem}.html")
    text = _beside(places, run, f"{stem}.md")
    price, currency = (record.listing or {}).get("price"), (record.listing or {}).get("currency")
    if price is None:
        price, currency = listed.get(record.candidate, (None, ""))
    address = "/card?" + urlencode({"run": run.folder, "name": page.name}) if page else ""
    return _Row(run.folder, record, words, _verdict(text, record.method), price, currency or "", address)


def _in_words(result: Result, record: Record, among: dict[str, int]) -> str:
    """Return what was opened to this party, with its margin where that is known."""
    found = answer(record, among.get(record.method, 0))
    return with_margin(result, record) if found == DASH or record.value is not None else found


def _runs(places: Places) -> Iterator[RunFolder]:
    try:
        found = run_folders([places.runs]) if places.runs.is_dir() else []
    except InputError:  # there is no run yet
        return
    for run in found:
        read = [name for name in (RECORDS, FAILURE) if (places.runs / run.folder / name).exists()]
        if all(_beside(places, run, name) for name in read):
            yield run


def _beside(places: Places, run: RunFolder, name: str) -> Path | None:
    try:
        return inside(places.runs, run.folder, name)
    except InputError:
        return None


def _listed(places: Places) -> dict[str, tuple[float, str]]:
    """Return price and currency of each listing that states them, by name."""
    listings, _ = within(places)
    return {one.name: (one.terms.price, one.terms.currency or "") for one in listings if one.terms.price is not None}


def _verdict(card: Path | None, method: str) -> str:
    """Return what the pre-flight says of a method's answer, as the card in Markdown has it; a dash for no verdict."""
    if card is None:
        return DASH
    found = DECISION.search(card.read_text(encoding="utf-8", errors="replace"))
    start = f"**{inert(shown(method, NAME) + ': ')}"
    lines = [line for line in (found[1] if found else "").splitlines() if line.startswith(start)]
    word = lines[0].removeprefix(start).removesuffix("**") if lines else DASH
    return word if word in ("buy", "undecided", "do not buy") else DASH
