"""`budget preview` against the ledger's own charges, and `budget export` against the lines of its file."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from desk import browser, guard, ledger, outside, places, plain, put  # noqa: F401  fixtures among them
from test_accounting import exact_epsilon

from mpc_appraisal.cli.budget_views import COLUMNS, exported, preview_table, rows_of
from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands.budget import table
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Policy, Question
from mpc_appraisal.governance.budget.state import verify


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


def renewing(places, name: str = "seller", **limits) -> tuple[Ledger, list[datetime]]:
    """A ledger of a monthly budget, and the list whose last time its clock shows."""
    times = [datetime(2026, 1, 31, 23, 59, 59, tzinfo=timezone.utc)]
    policy = Policy(renews="monthly", **limits)
    return Ledger(places.ledgers / f"{name}.csv.ledger", name, policy, clock=lambda: times[-1]), times


def test_the_table_shows_the_period_and_the_total(places):
    book, times = renewing(places, plain_values=3, lifetime_plain_values=7)
    for k in range(3):
        book.charge(Question("acme", "influence", 300, f"january {k}"))
    times.append(times[-1] + timedelta(seconds=1))
    book.charge(Question("acme", "influence", 300, "february"))
    shown = table(verify(book.path), times[-1])
    assert shown.header[-2:] == ("epsilon in total", "plain in total")
    (row,) = shown.rows
    assert (row[1], row[5], row[6], row[8]) == ("4", "1", "2", "4")
    notes = " ".join(shown.notes)
    assert "in each period (monthly)" in notes and "period 2026-02; the budget renews at 2026-03-01 00:00 UTC" in notes
    assert "has really lost the total over all periods. Over all periods it is at most 7 values" in notes
    assert table(verify(book.path), datetime(2026, 3, 1, tzinfo=timezone.utc)).rows[0][5:7] == ("0", "3")
    other = table(verify(ledger(places, "other", charges=1)))
    assert len(other.header) == 7 and "period" not in " ".join(other.notes)


def test_a_preview_counts_the_period_and_the_limit_over_all(places):
    now = datetime.now(timezone.utc)
    book, times = renewing(places, plain_values=3, lifetime_plain_values=5)
    for k in range(3):
        book.charge(Question("acme", "influence", 300, f"long ago {k}"))
    request = put(places, plain("seller"))
    found = preview_table(request.id, str(places.requests), [book.path])
    (row,) = found.rows
    assert row[3:8] == ("1", "0", "1", "3", "2") and row[9] == "4 of 5" and row[8] in months(now)
    assert any("has really lost the total over all periods" in note for note in found.notes)
    times.append(now)
    for k in range(2):
        book.charge(Question("acme", "influence", 300, f"now {k}"))
    (row,), notes = (lambda shown: (shown.rows, shown.notes))(
        preview_table(request.id, str(places.requests), [book.path])
    )
    assert row[7] == "0" and "over all periods" in notes[0] and "would refuse it" in notes[0]


def months(time: datetime) -> set[str]:
    """The names of the month of `time` and of now, which differ where a month ends during a test."""
    return {f"{each:%Y-%m}" for each in (time, datetime.now(timezone.utc))}


def test_an_export_states_the_sums_with_the_last_charge_of_each_period(places):
    book, times = renewing(places, epsilon=2.0)
    for month, sigmas in ((1, [9.0, 7.0]), (2, [8.0])):
        times.append(datetime(2026, month, 5, tzinfo=timezone.utc) if month > 1 else times[-1])
        for k, sigma in enumerate(sigmas):
            book.charge(Question("acme", "influence", 300, f"{month} {k}", Mechanism("gaussian", sigma=sigma)))
    rows = [row for row in rows_of(book.path) if row["kind"] == "charge"]
    assert [row["period"] for row in rows] == ["2026-01", "2026-01", "2026-02"]
    expected = [None, exact_epsilon([9.0, 7.0], [], 1e-6), exact_epsilon([8.0], [], 1e-6)]
    assert [row["epsilon_spent"] for row in rows] == [each and pytest.approx(each, abs=1e-3) for each in expected]
    assert rows[2]["epsilon_total"] == pytest.approx(exact_epsilon([9.0, 7.0, 8.0], [], 1e-6), abs=1e-3)
    assert rows[2]["epsilon_left"] == pytest.approx(2.0 - rows[2]["epsilon_spent"])
    assert rows[1]["renews_at"] == "2026-02-01T00:00:00+00:00" and rows[2]["plain_left"] == 20
    (opened, *_) = rows_of(book.path)
    assert opened["policy"]["renews"] == "monthly"


def test_the_pages_show_the_period_and_the_total(browser, places):
    book, times = renewing(places, plain_values=3, lifetime_plain_values=9)
    book.charge(Question("acme", "influence", 300, "long ago"))
    page = browser.text("/budgets")
    assert "has really lost the total over all periods" in page and "plain in total" in page
    request = put(places, plain("seller"))
    page = browser.text(f"/requests/{request.id}")
    assert "in UTC; the budget renews at" in page and "spent so far in this period</dt><dd>0 of 3 plain values" in page
    assert "total over all periods after it</dt><dd>2 plain values of 9. Privacy loss adds up over periods" in page
    ledger(places, "never")
    request = put(places, plain("never"))
    assert "period" not in browser.text(f"/requests/{request.id}")


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
