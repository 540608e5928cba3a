"""The page of `transformations.py`, from the lines of transformations.jsonl alone.

Rows, told apart by "part"; what is not there is named as missing:
protocol       see transformations_protocols
table          see transformations_tables
attack         see transformations_attacks
instahide-*    see transformations_instahide
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import transformations_attacks_page as attacks
import transformations_instahide_page as instahide
import transformations_picture as picture
import transformations_protocols_page as protocols
import transformations_tables_page as filled
from bench_common import part_of, read_parts
from bench_page import Page, run_table, sentences, times, write_page
from transformations_protocols_page import CLEAR, FAST, RTAS, STOCK, Protocol
from transformations_size import Row, Size

from mpc_appraisal.common import roles
from mpc_appraisal.mpc.backends.rtas_notice import LEAKAGE as RTAS_LEAKAGE
from mpc_appraisal.reporting.table import Table, number
from mpc_appraisal.transformations.instahide import LEAKAGE as INSTAHIDE

FILE = "transformations.jsonl"
KEYS = {
    "about": {"size", "sizes", "missing", "machine", "versions", "revision", "command"},
    "protocol": {"kind", "protocol", "seconds", "mb"},
    "table": {"kind", "system"},
    "attack": {"protocol", "attack", "setting", "recovered", "chance", "meaning", "stops"},
    "instahide": {"data"},
}
PAGES = {"table": filled, "attack": attacks, "instahide": instahide}
ABSENT = {
    "protocol": "the cost of an appraisal by protocol",
    "table": "tables 1 to 4 of RTAS",
    "attack": "attacks on RTAS",
    "instahide": "InstaHide: training, overhead and attacks",
}


def read_rows(folder: Path) -> tuple[Row, list[Row]]:
    """(about, rows). Raises InputError, by file and line, for what is missing or damaged."""
    return read_parts(folder, FILE, KEYS)


def render(folder: Path) -> Page:
    """Writes transformations.md, transformations.html and the figures beside transformations.jsonl."""
    page = page_of(*read_rows(folder))
    write_page(page, folder, "transformations")
    return page


def page_of(about: Row, rows: Sequence[Row]) -> Page:
    parts = {part: [row for row in rows if part_of(row) == part] for part in ABSENT}
    made = {part: PAGES[part].tables(mine) for part, mine in parts.items() if mine and part in PAGES}
    main = [_summary(about, rows, parts), *protocols.tables(rows), *made.pop("table", [])]
    main.append(run_table(about, {"threads": "one a party", **about["sizes"]}, "transformations.py"))
    drawings = picture.drawings(rows)
    for part, shown in PAGES.items():
        drawings += shown.drawings(parts[part]) if parts[part] else []
    trust = [roles.TRUST, f"RTAS: {RTAS_LEAKAGE}", f"InstaHide: {INSTAHIDE}"]
    title = "Random transformations: published and measured"
    return Page(title, main, drawings, trust, [table for tables in made.values() for table in tables])


def sizes(size: Size) -> dict[str, str]:
    """What was run, in words, for the first line."""
    return {
        "appraisals": f"{size.data}, one candidate of {size.rows:,} rows, {size.own:,} training rows, {size.tested:,} "
        f"test rows, l2 = {size.l2:g}; {size.turns} turn{'s' * (size.turns > 1)}, a seed each"
    }


def _summary(about: Row, rows: Sequence[Row], parts: dict[str, list[Row]]) -> Table:
    """The first screen: which to use, what each costs and leaks, and what is missing."""
    lines = []
    if about["size"] != "full":
        lines.append("A small run, on digits: it shows that all of this works, and reproduces nothing.")
    every = {p.key: p for p in protocols.protocols(rows)}
    absent = [text for part, text in ABSENT.items() if not parts[part]]
    named = [f"of {p.name} its {' and '.join(_lacks(p))}" for p in every.values() if _lacks(p)]
    if absent or named or about["missing"]:
        jobs = [f"jobs {', '.join(about['missing'])}"] * bool(about["missing"])
        lines.append(f"Not measured: {'; '.join(absent + named + jobs)}. The same command goes on where it stopped.")
    lines.append(
        "For private data: the engine (session.engine=fast), the default. None of the random transformations is a "
        "default anywhere: each shows somebody what the engine hides, and says so when it runs."
    )
    lines += _appraised(every)
    lines += [_told(p) for p in every.values() if p.key not in (CLEAR, FAST, STOCK) and p.attack]
    return sentences("In short", lines)


def _lacks(protocol: Protocol) -> list[str]:
    return ["cost"] * (protocol.cost is None) + ["attack"] * (protocol.attack is None)


def _appraised(every: dict[str, Protocol]) -> list[str]:
    """One sentence on what an appraisal costs."""
    shown = [every[key] for key in (FAST, STOCK, RTAS) if every[key].cost]
    if not shown or every[CLEAR].cost is None:
        return []
    words = [f"{p.name} {number(p.cost.seconds, 3)} s, {number(p.cost.mb, 3)} MB and {p.cost.rounds} rounds"
             for p in shown]  # fmt: skip
    operation, plain = shown[0].cost.operation, every[CLEAR].cost.seconds
    return [
        f"Cost, {operation}: {'; '.join(words)}; in the clear {number(plain, 3)} s. The engine leaks "
        "nothing beside the value, by its construction; many values give the model away (report on extraction). "
        "CrypTen as shipped gives the model to the other owner, whose masks its generators let it predict."
    ]


def _told(protocol: Protocol) -> str:
    attack, cost = protocol.attack, protocol.cost
    at = f" ({attack.setting})" if attack.setting else ""
    price = f" Cost: {times(cost.ratio)} the clear's seconds ({cost.operation})." if cost else ""
    stops = f" It stops {attack.stops}." if attack.stops else ""
    return (
        f"{protocol.name} is to hide {protocols.HIDES[protocol.key]}. Best attack: {attack.name}{at}: "
        f"{attack.meaning}: {attack.recovered:.2f}, by chance {attack.chance:.2f}.{stops}{price}"
    )
