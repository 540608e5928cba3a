"""A result in short, for a terminal: at most LINES lines that fit its width, and the rest is left to the report.

Records go in, and the model owner's advice where there is any; lines with a style come out. First stand the facts: the
best candidates, what the pre-flight advises, cost, what was opened, and whom one has to trust. Then follow a matrix of
candidates and methods, and how the values agree with the truth. The layout and the words may change. The lines have to
fit, so that candidates and columns that have no room are counted and left out.
"""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.advice import NO_ADVICE, Advice
from mpc_appraisal.reporting.metrics import BAND
from mpc_appraisal.reporting.overlap_record import count_in_words
from mpc_appraisal.reporting.page import render
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result_tables import answer, finalists, joined, parties, trust, with_margin
from mpc_appraisal.reporting.run_records import RunRecords
from mpc_appraisal.reporting.table import DASH, Table, number

LINES, WIDTH = 25, 80
LABEL, NAME = 10, 24  # columns of a fact's label, and the most of a candidate's name
LEAST_ROWS = 3
EMPTY = "No records: this party received no results."
MOST = 3  # answers that the first line has
THRESHOLD, AGREEMENT = "calibrated threshold", "rank correlation"
TRUST, TRUSTED = "Trust", "trusted"
MARKS = {"buy": "+", "do not buy": "-", "undecided": "?"}
UTILITY, RETRAINING = "true utility", "retraining"
BOLD, DIM = "bold", "dim"
Line = tuple[str, str]  # text and style


def brief(
    result: RunRecords, width: int = WIDTH, advice: Advice = NO_ADVICE, report: str | Path | None = None
) -> list[Line]:
    """Return the result in short, as (text, style) for each line.

    Args:
        result: The records of one run.
        width: The columns of the terminal.
        advice: What the model owner's pre-flight says.
        report: The path of the report, which the last line names; None for none.
    """
    result = result.without_random()
    if not len(result):
        return [(EMPTY, "")]
    last = [] if report is None else [(f"Report: {os.path.relpath(report)}", BOLD)]
    table, below = matrix_table(result, advice), _below(result, advice)
    room = LINES - len(last) - len(below) - 2 - any(row[0] == AGREEMENT for row in below)  # blank lines, and the header
    top = fact_lines(_facts(result, advice), width, room - len(table.rows), TRUST)
    return [*top, ("", ""), *_grid(result, table, below, width, max(LEAST_ROWS, room - len(top))), *last]


def text_of(result: RunRecords, width: int = WIDTH) -> str:
    """Return the result in short as one text."""
    return "\n".join(text for text, _ in brief(result, width))


def html_of(result: RunRecords) -> str:
    """Return the result in short as a part of a page: the facts, the matrix, and what stands below it."""
    result = result.without_random()
    if not len(result):
        return render("result.html.jinja", facts=[("", EMPTY)], table=Table("", (), "", []))
    table, below = matrix_table(result), _below(result, NO_ADVICE)
    header, rows = table.header, table.rows
    if below and header[-1] != UTILITY:
        header, rows = (*header, ""), [(*row, "") for row in rows]
    whole = Table(table.title, header, "l" + "r" * (len(header) - 1), [*rows, *below])
    return render("result.html.jinja", facts=_facts(result, NO_ADVICE), table=whole)


# ---- facts ----


def fact_lines(facts: Sequence[tuple[str, str]], width: int, room: int, whole: str = "") -> list[Line]:
    """Return facts, each a label and a text, as about `room` lines.

    Each fact has one line at least, the first ones have more where there is room, and what has no room is cut. whole:
    the label of the fact that is never cut.
    """
    wrapped = [textwrap.wrap(text, width - LABEL, break_on_hyphens=False) for _, text in facts]
    most = [len(lines) if label == whole else 1 for (label, _), lines in zip(facts, wrapped, strict=True)]
    for k, lines in enumerate(wrapped):
        most[k] += max(0, min(len(lines) - most[k], room - sum(most), 3))
    found = []
    for (label, text), count in zip(facts, most, strict=True):
        lines = textwrap.wrap(text, width - LABEL, break_on_hyphens=False, max_lines=count, placeholder=" …")
        found += [f"{label if not k else '':<{LABEL}}{line}" for k, line in enumerate(lines)]
    return [(line, "") for line in found]


def print_facts(
    facts: Sequence[tuple[str, str]], console: Any, report: str | Path | None = None, whole: str = ""
) -> None:
    """Print facts, each a label and a text, on a rich console: about LINES lines, as `fact_lines` cuts them.

    report: the path of the report, which the last line links to; None for none.
    """
    from rich.text import Text

    width = console.width if console.is_terminal else min(console.width, WIDTH)
    for text, style in fact_lines(facts, width, LINES - 1, whole):
        console.print(Text(text, style), soft_wrap=True)
    if report is not None:
        link = f"bold link file://{Path(report).resolve()}"
        console.print(Text(f"Report: {os.path.relpath(report)}", link), soft_wrap=True)


def _facts(result: RunRecords, advice: Advice) -> list[tuple[str, str]]:
    """Return labels and sentences, at most one sentence for each method and kind of fact."""
    private = [record for record in result if record.session != "plain"]
    facts = [("In short", _headline(result))]
    facts += [("Advice", _advised(advice))] if advice.trust else []
    if advice.scale:
        facts.append(("Caveat", textwrap.shorten(shown(advice.scale, 400), 2 * WIDTH - 3 * LABEL, placeholder=" …")))
    if counts := {record.candidate: record.overlap for record in result if record.overlap is not None}:
        found = [f"{count_in_words(one)} {one['what']} of {_short(name)}" for name, one in counts.items()]
        facts.append(("Overlap", f"The model owner has already {_and(found)}."))
    if warned := list(dict.fromkeys(text for record in result for text in record.warnings)):
        more = f" ({len(warned) - 1} more in the report)" if len(warned) > 1 else ""
        facts.append(
            ("Warning", textwrap.shorten(shown(warned[0], 400), 2 * WIDTH - 3 * LABEL, placeholder=" …") + more)
        )
    facts += [("Cost", _cost(private, result)), ("Opened", _opened(private))]
    appraised = [record for record in result if not record.baseline] or result
    return [*facts, (TRUST, _trust(RunRecords(private or appraised)))]


def _headline(result: RunRecords) -> str:
    """Return the best candidates by each method."""
    appraised = [m for m in result.methods if not result.of(m)[0].baseline and not result.of(m)[0].error]
    by_text: dict[str, list[str]] = {}
    methods = appraised or result.methods
    for method in methods:
        by_text.setdefault(_best(result, method, 1 if len(methods) > 1 else 3), []).append(method)
    if len(methods) == 1:
        return f"{next(iter(by_text))}, by {methods[0]}."
    every = f"all {len(methods)} methods" if len(by_text) == 1 and len(methods) > 2 else None
    found = [f"{text} by {every or _and(names)}" for text, names in by_text.items()]
    more = [f"{len(found) - MOST} other answers in the report"] * (len(found) > MOST)
    return "; ".join([*found[:MOST], *more]) + "."


def _best(result: RunRecords, method: str, most: int) -> str:
    """Return which candidates a method prefers, as far as this party was shown it."""
    records = list(result.of(method).sort())
    if any(record.decision is not None for record in records):
        yes = [_short(record.candidate) for record in records if record.decision]
        return f"yes to {_and(yes)}" if yes else f"no to all {len(records)}" if len(records) > 1 else "no"
    if any(record.winner is not None for record in records):
        return "the best are " + _and([_short(record.candidate) for record in records if record.winner])
    known = [record for record in records if record.value is not None]
    if not known:
        return "nothing was opened to this party"
    if len(known) == 1:
        return f"{_short(known[0].candidate)} has the value {with_margin(result, known[0])}"
    best = [_short(record.candidate) for record in known[: min(most, len(known) - 1)]]
    return f"the best of {len(known)} {'is' if len(best) == 1 else 'are'} {_and(best)}"


def _advised(advice: Advice) -> str:
    """Return what the marks beside values mean, and which methods are trusted on this model."""
    words = {one.word for (name, _), one in advice.verdicts.items() if advice.trust[name] == TRUSTED}
    states: dict[str, list[str]] = {}
    for method, state in advice.trust.items():
        states.setdefault(state, []).append(method)
    every = f"all {len(advice.trust)} methods" if len(states) == 1 and len(advice.trust) > 1 else None
    found = [", ".join(f"{MARKS[word]} {word}" for word in MARKS if word in words)]
    found += [f"{state} here: {every or _and(methods)}" for state, methods in states.items()]
    found += ["no threshold could be calibrated"] * (not advice.verdicts)
    return "; ".join(filter(None, found)) + "."


def _cost(private: Sequence[Record], result: RunRecords) -> str:
    if not private:
        seconds = sum(record.total_seconds for record in result if not record.baseline)
        return f"{_time(seconds)} in the clear; nothing was sent."
    if all(record.answered for record in private):
        return "none: the answers are from the ledger's record, and nothing was computed."
    seconds, sent = (sum(getattr(record, key) for record in private) for key in ("total_seconds", "megabytes"))
    rounds = sum(record.rounds for record in private)
    size = f"{number(sent, 3)} MB" if sent < 1000 else f"{number(sent / 1000, 3)} GB"
    return f"{_time(seconds)} of computing, {size} sent, {rounds:,} rounds."


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{number(seconds, 2)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _opened(private: Sequence[Record]) -> str:
    """Return how many numbers were opened to whom, and why."""
    counts: Counter[tuple[str, str]] = Counter()
    for record in private:
        for one in record.openings:
            who = "both owners" if len(one["to"]) == 2 else parties(one["to"]) or "nobody"
            counts[who, one["why"]] += one["numbers"]
    if not counts:
        return "nothing by a protocol."
    found: dict[str, list[str]] = {}
    for (who, why), count in counts.items():
        unit = "" if who in found else f" number{'s' * (count != 1)}"
        found.setdefault(who, []).append(f"{count}{unit} ({shown(why, 60)})")
    return "; ".join(f"to {who}: {', '.join(what)}" for who, what in found.items()) + "."


def _trust(result: RunRecords) -> str:
    """Return the first sentence of each trust model, and where an engine lets a party see something, what it sees.

    The sentence that says for which data the engine is not goes with it. The report has the whole statement.
    """
    found = []
    for text in trust(result):
        first, *others = text.split(". ")
        leaks = [each for each in others if each.startswith("Leakage") or " sees " in each or " leak" in each]
        limits = [each for each in others if each.startswith("Not for ")]
        found.append(". ".join(each.rstrip(".") for each in (first, *leaks[:1], *limits)) + ".")
    return " ".join(
        dict.fromkeys(text.replace("The parties", "parties").replace(", and the", "; the") for text in found)
    )


# ---- the matrix of candidates and methods ----


def matrix_table(result: RunRecords, advice: Advice = NO_ADVICE) -> Table:
    """Return the values as a table with a row for each candidate and a column for each method.

    A last column has the true utility, where it is known. A method that gives the error of another one's values has no
    column where its number stands beside the value. Beside a value of a method that the pre-flight trusts stands the
    mark of its verdict.
    """
    result = result.without_random()
    among = finalists(result)
    methods = _columns(result)
    utility = {record.candidate: record.utility for record in result if record.utility is not None}
    rows = []
    for candidate in result.candidates:
        cells = [_cell(result, method, candidate, among) + _mark(advice, method, candidate) for method in methods]
        rows.append((candidate, *cells, *((number(utility.get(candidate)),) if utility else ())))
    header = ("candidate", *methods, *((UTILITY,) if utility else ()))
    return Table("Value by candidate and method", header, "l" + "r" * (len(header) - 1), rows)


def _mark(advice: Advice, method: str, candidate: str) -> str:
    if advice.trust.get(method) != TRUSTED:
        return ""
    found = advice.verdicts.get((method, candidate))
    return "  " if found is None else f" {MARKS[found.word]}"


def _columns(result: RunRecords) -> list[str]:
    """Return the methods that have a column of their own."""
    beside = any(result.margin(record) is not None for record in result)
    return [m for m in result.methods if m != RETRAINING and not (result.of(m)[0].error and beside)]


def _cell(result: RunRecords, method: str, candidate: str, among: dict[str, int]) -> str:
    record = next((each for each in result.of(method) if each.candidate == candidate), None)
    if record is None:
        return DASH
    if record.value is not None and record.interval:
        return f"{number(record.value)} ± {number((record.interval[1] - record.interval[0]) / 2, 2)}"
    if record.value is not None:
        return with_margin(result, record)
    if record.decision is not None:
        return "yes" if record.decision else "no"
    text = answer(record, among[method])
    return text.removesuffix(f" of {among[method]}") if record.winner else text


def _grid(result: RunRecords, table: Table, below: Sequence[tuple[str, ...]], width: int, room: int) -> list[Line]:
    """Return the matrix with at most `room` rows, and below it other rows of the same columns.

    Where candidates have no room, the first method's best come first, and a line counts the others.
    """
    header, rows, dropped = table.header, table.rows, ""
    if len(rows) > room:
        first = header[1]
        order = [record.candidate for record in (result.of(first) if first in result.methods else result).sort()]
        order = list(dict.fromkeys([*order, *result.candidates]))
        rows = sorted(rows, key=lambda row: order.index(row[0]))[: room - 1]
        dropped = f"… {len(table.rows) - len(rows)} more in the report; the best by {first} stand first"
    if below and header[-1] != UTILITY:
        header, rows = (*header, ""), [(*row, "") for row in rows]
    cells, hidden = _fitting([header, *((_short(row[0]), *row[1:]) for row in rows), *below], width)
    lines = _aligned(cells)
    found = [(lines[0] + hidden, BOLD), *((line, "") for line in lines[1 : 1 + len(rows)])]
    found += [(dropped, DIM)] if dropped else []
    for row, line in zip(below, lines[1 + len(rows) :], strict=True):
        found += [("", ""), (line, BOLD)] if row[0] == AGREEMENT else [(line, "")]
    return found


def _fitting(rows: Sequence[tuple[str, ...]], width: int) -> tuple[list[tuple[str, ...]], str]:
    """Return the rows with as many columns as fit, and a mark that says how many do not."""
    count = len(rows[0])
    widths = [max(len(row[k]) for row in rows) + 2 for k in range(count)]
    kept = list(range(count))
    while len(kept) > 2 and sum(widths[k] for k in kept) - 2 + len("  +99") * (len(kept) < count) > width:
        kept.pop(-2 if len(kept) > 3 and rows[0][-1] in (UTILITY, "") else -1)
    hidden = f"  +{count - len(kept)}" if len(kept) < count else ""
    return [tuple(row[k] for k in kept) for row in rows], hidden


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return lines whose first column is at the left, and whose others are at the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def _below(result: RunRecords, advice: Advice) -> list[tuple[str, ...]]:
    """Return the rows below the matrix, by its columns: thresholds, and rank correlations with what is known.

    The last column has the band of random values. There are no rows where nothing is known.
    """
    methods, found, bands = _columns(result), result.correlations(), result.random_bands()
    thresholds = {m: [one.threshold for (name, _), one in advice.verdicts.items() if name == m] for m in methods}
    rows = []
    for reference, words in (("utility", "with true utility"), ("level", "with corruption")):
        cells = [found.get(method, {}).get(reference, {}).get("spearman") for method in methods]
        band = bands[reference]["spearman"]
        if band is not None and any(cell is not None for cell in cells):
            texts = (DASH if cell is None else f"{cell:.2f}" for cell in cells)
            rows.append((words, *texts, "{:.2f} to {:.2f}".format(*band)))
    rows = [(AGREEMENT, *("" for _ in methods), BAND), *rows] if rows else []
    if any(thresholds.values()):
        cells = (number(min(each), 3) + "+" * (min(each) < max(each)) if each else DASH for each in thresholds.values())
        rows.insert(0, (THRESHOLD, *cells, ""))
    return rows


def _and(names: Sequence[str], most: int = 4) -> str:
    """Join names with commas and "and"; a longer list ends with a count."""
    if len(names) > most:
        return joined(names, most)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _short(name: str) -> str:
    name = shown(name, 300)
    return name if len(name) <= NAME else name[: NAME - 1] + "…"
