"""`budget preview` against the ledger's own charges, and `budget export` against the lines of its file."""

from __future__ import annotations

import csv
import io
import json

import pytest
from desk import ledger, places_in, plain, put

from mpc_appraisal.cli.budget_views import COLUMNS, exported, preview_table, rows_of
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Question


@pytest.fixture
def places(tmp_path):
    return places_in(tmp_path / "owner")


def test_a_preview_is_what_the_ledger_would_charge(places):
    file = ledger(places, "seller", charges=3, plain_values=7)
    request = put(places, plain("seller"))
    found = preview_table(request.id, str(places.requests), [file])
    assert found.rows == [("seller.csv.ledger", "seller", "plain values", "1", "3", "4", "7", "4")] and not found.notes
    book = Ledger(file)
    for k in range(4):
        book.charge(Question("acme", "influence", 300, f"more {k}"))
    with pytest.raises(InputError, match="plain_values"):
        book.charge(Question("acme", "influence", 300, "one too many"))
    (row,), notes = (lambda table: (table.rows, table.notes))(preview_table(request.id, str(places.requests), [file]))
    assert row[-1] == "0" and "would refuse it" in notes[0]


def test_a_preview_of_nothing_is_refused(places):
    with pytest.raises(InputError, match="request"):
        preview_table("0123456789ab", str(places.requests), [])
    request = put(places, plain("nobody"))
    file = ledger(places, "seller")
    found = preview_table(request.id, str(places.requests), [file])
    assert "names no ledger" in found.notes[-1]


def test_an_export_has_every_line_of_the_file(places):
    file = ledger(places, "seller", charges=2, noise=50.0)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [json.loads(line) for line in exported([file], "json").splitlines()]
    assert [row["kind"] for row in rows] == [line["kind"] for line in lines]
    assert [row["line"] for row in rows] == list(range(1, len(lines) + 1))
    charges = [
        (row["counterparty"], row["method"], row["rows"], row["sigma"]) for row in rows if row["kind"] == "charge"
    ]
    assert charges == [("acme", "influence", 300, 50.0)] * 2
    assert [row["answer"] for row in rows if row["kind"] == "answer"] == [0.5, 0.5]
    read = list(csv.DictReader(io.StringIO(exported([file], "csv"))))
    assert tuple(read[0]) == COLUMNS and len(read) == len(rows)
    assert json.loads(read[0]["policy"]) == lines[0]["policy"] and read[1]["counterparty"] == "acme"


def test_a_line_that_a_writer_left_is_left_out_and_a_changed_one_is_refused(places):
    file = ledger(places, "seller", charges=1)
    with open(file, "ab") as torn:
        torn.write(b'{"seq')
    assert len(list(rows_of(file))) == 3
    Ledger(file).charge(Question("acme", "influence", 300, "repairs"))
    assert "tear" in [row["kind"] for row in rows_of(file)]
    file.write_bytes(file.read_bytes().replace(b"acme", b"ecma"))
    with pytest.raises(InputError, match="line 2"):
        exported([file], "json")


def test_the_commands(places, capsys):
    file = ledger(places, "seller", charges=1, plain_values=5)
    request = put(places, plain("seller"))
    COMMANDS["budget"](["preview", request.id, str(file.parent), "--requests", str(places.requests)])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"What request {request.id} of acme would cost" in shown
    COMMANDS["budget"](["export", str(file), "--format", "csv"])
    assert capsys.readouterr().out.splitlines()[0] == ",".join(COLUMNS)
    COMMANDS["budget"](["preview", request.id, str(file), "--requests", str(places.requests), "--json"])
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert table["rows"][0]["spent"] == 1 and table["rows"][0]["limit"] == 5
