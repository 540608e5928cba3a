"""The report of a marketplace run: on the console, in Markdown and as one HTML file.

In goes a `MarketRecord` and nothing else, so that a report can be made again from the line that a run wrote. Out come
a few lines on a console, or the files report.md and report.html. Each function that returns a `Table` makes one section
of the report; the layout of the pages is in reporting/templates/. Wording, order and sections may change. The report
has to keep the tables of openings and the sentences on leakage and trust, because a protocol of the marketplace may not
be shown without what it leaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.marketplace.lead import market_figure, market_tiles
from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.marketplace.roles import SPOKEN
from mpc_appraisal.marketplace.simulation import by_seller
from mpc_appraisal.reporting.brief import print_facts
from mpc_appraisal.reporting.learning_record import above
from mpc_appraisal.reporting.learning_report import (
    ATTACKS_TITLE,
    attack_tile,
    attacks_caption,
    attacks_figure,
    attacks_table,
)
from mpc_appraisal.reporting.page import Image, Lead, Page, write_page
from mpc_appraisal.reporting.table import DASH, Table, number

TITLE = "Try before you buy"
MOST_NOTES = 8  # sentences on the result that the terminal shows
LISTED = 10  # how many sellers the report names


def name_of(role: str) -> str:
    """Return what the marketplace calls a role."""
    return SPOKEN.get(role, role.replace("_", " "))


def summary(record: MarketRecord) -> Table:
    """Make the sentences at the top: what was found, and how it was hidden."""
    verdicts, selected = record["verdicts"], record["selected"]
    counts = by_seller([(name, row) for name, row in selected])
    notes = [
        f"Protection: {record['label']} ({record['protocol']}).",
        f"Selected: {len(selected)} of {record['offered']} rows by {record['selection'].replace('_', ' ')}, from "
        f"{len(counts)} of {record['sellers']} sellers.",
    ]
    if verdicts:
        good = [v for v in verdicts if v["accepted"]]
        first, last = verdicts[0]["threshold"], (good[-1]["wrong"] / good[-1]["of"] if good else None)
        notes.append(
            f"Validated: {len(good)} of {len(verdicts)} subsets accepted, {sum(v['rows'] for v in good)} rows; error "
            f"on {verdicts[0]['of']} validation rows {number(first, 3)} before"
            + (f", {number(last, 3)} with what was accepted." if good else ".")
        )
    if record["low"] and verdicts:
        notes.append(_judged(record))
    if record["errors"]:
        e = record["errors"]
        notes.append(
            f"In the clear, on {e['of']} independent test rows: {e['before']} errors before the purchase"
            + (f", {e['after']} after." if e["after"] is not None else "; no network was delivered.")
        )
    for seller, why in record["refused"]:
        notes.append(f"Refused: {seller}: {why}")
    return Table("In short", (), "", [], tuple(notes))


def _judged(record: MarketRecord) -> str:
    low = set(record["low"])
    rows = {name for name, _ in record["selected"] if name in low}
    bad = [v for v in record["verdicts"] if set(v["sellers"]) <= low]
    refused = sum(not v["accepted"] for v in bad)
    return (
        f"Sellers of bad labels: {len(low)}, of whom {len(rows)} were selected from; of {len(bad)} subsets of their "
        f"rows alone, {refused} were refused."
    )


def costs(record: MarketRecord) -> Table:
    """Make the table of seconds, megabytes sent and rounds, by phase and role."""
    rows = [
        (phase, name_of(role), number(c["seconds"], 3), number(c["bytes"] / 1e6, 3), str(int(c["rounds"])))
        for phase, roles in record["costs"].items()
        for role, c in roles.items()
    ]
    note = "Seconds of a role include its waiting for the others; MB: what it sent."
    return Table("What it cost", ("phase", "role", "seconds", "MB", "rounds"), "llrrr", rows, (note,) if rows else ())


def openings(record: MarketRecord) -> Table:
    """Make the table of what a protocol opened, to whom, how many numbers, and why."""
    rows = [
        (", ".join(map(name_of, o["to"])) or "nobody", o["what"], str(o["numbers"]), o["why"])
        for o in record["openings"]
    ]
    notes = () if rows else ("Nothing was opened by a protocol: a plain session hides nothing.",)
    return Table("What was opened", ("who learned", "what", "numbers", "why"), "llrl", rows, notes)


def verdicts(record: MarketRecord) -> Table:
    """Make the table of subsets that were tried, each with its verdict."""
    rows = [
        (
            str(k),
            str(v["rows"]),
            str(len(v["sellers"])),
            number(v["wrong"] / v["of"], 3),
            number(v["threshold"], 3),
            "accepted" if v["accepted"] else "refused",
        )
        for k, v in enumerate(record["verdicts"], start=1)
    ]
    header = ("subset", "rows", "sellers", "error", "threshold", "verdict")
    return Table("Validation by retraining", header, "rrrrrl", rows, () if rows else ("Nothing was validated.",))


def selected(record: MarketRecord) -> Table:
    """Make the table of how many rows of each seller were selected. It lists the first LISTED sellers."""
    counts = by_seller([(name, row) for name, row in record["selected"]])
    rows = [(name, str(count)) for name, count in list(counts.items())[:LISTED]]
    left = len(counts) - len(rows)
    return Table(
        "Selected rows by seller", ("seller", "rows"), "lr", rows, (f"And {left} other sellers.",) if left > 0 else ()
    )


def run(record: MarketRecord) -> Table:
    """Make the table of the facts of the run, from protocol to versions."""
    keys = ("protocol", "session", "network", "sellers", "offered", "selection", "budget", "seed", "config", "revision")
    rows = [(key, DASH if record[key] is None else str(record[key])) for key in (*keys, "time")]
    rows += [(key, value or DASH) for key, value in record["versions"].items()]
    return Table("Run", ("fact", "value"), "ll", rows)


def sentences(record: MarketRecord) -> list[str]:
    """Return the sentences on what leaks and whom one has to trust."""
    return [*record["leakage"], record["trust"]]


def tables(record: MarketRecord) -> Iterator[Table]:
    """Yield the tables that a reader wants first, in the order of the report."""
    yield from (summary(record), openings(record), verdicts(record), costs(record))


def print_market(record: MarketRecord, console, report: str | Path | None = None) -> None:
    """Print the run in short on a rich console, with what leaks and the trust: at most LINES lines.

    report: the path of the report, which has all tables, and which the last line links to; None for none.
    """
    print_facts(facts(record), console, report)


def facts(record: MarketRecord) -> list[tuple[str, str]]:
    """Return the run in short, a label and a text for each fact."""
    notes, spent = summary(record).notes, [c for roles in record["costs"].values() for c in roles.values()]
    shown = notes if len(notes) <= MOST_NOTES else (*notes[: MOST_NOTES - 1], "More is in the report.")
    opened: dict[str, int] = {}
    for one in record["openings"]:
        who = " and ".join(map(name_of, one["to"])) or "nobody"
        opened[who] = opened.get(who, 0) + one["numbers"]
    sent, rounds = sum(c["bytes"] for c in spent) / 1e6, sum(int(c["rounds"]) for c in spent)
    cost = f"{number(sent, 3)} MB sent, {rounds:,} rounds." if sent else "nothing was sent."
    told = "; ".join(f"{count:,} numbers to {who}" for who, count in opened.items()) or "nothing by a protocol"
    return [
        *(("" if k else "In short", note) for k, note in enumerate(shown)),
        ("Leaks", " ".join(record["leakage"]) or "nothing that is known."),
        ("Trust", record["trust"]),
        ("Cost", cost),
        ("Opened", f"{told}."),
    ]


def write_market(record: MarketRecord, folder: str | Path, attacks: Sequence[Mapping[str, Any]] = ()) -> list[Path]:
    """Write report.md, report.html and the figures into `folder`, and return their paths. attacks: what they found."""
    from mpc_appraisal.reporting.figures import save

    first, second, *rest = tables(record)
    tiles, drawn, beside, images = market_tiles(record), market_figure(record), {}, []
    if drawn is not None:
        images += save(drawn[0], folder, "market")
    lead = Lead(tiles, None if drawn is None else Image(images[-1], drawn[1]))
    main = [first, second, *rest]
    if attacks:
        images += save(attacks_figure(attacks), folder, "attacks")
        beside[ATTACKS_TITLE] = Image(images[-1], attacks_caption(attacks))
        main = [first, attacks_table(attacks), second, *rest]
        if len(tiles) > 2:
            tiles[0] = attack_tile(max(attacks, key=above))  # how many rows were selected stands below
    page = Page(
        TITLE,
        main=main,
        trust=sentences(record),
        details=[selected(record), run(record)],
        lead=lead,
        beside=beside,
        trust_title="What leaks, and trust",
    )
    return [*write_page(page, folder), *images]
