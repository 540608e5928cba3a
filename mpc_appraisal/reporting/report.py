"""The report of an appraisal: on the console, in Markdown and as one HTML file that needs no other file.

What goes in is a `Result`, that is, the records of a run and nothing else. `print_result` shows the result on a
console, and `write_report` writes the pages and their figures. The tables are made in `result_tables`; captions may be
changed here, and the layout of the pages in templates/. The names of the files have to stay, because the documentation
and users refer to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mpc_appraisal.reporting.measured_tables import REMOVAL_CAPTION, measured_table, removal_figure
from mpc_appraisal.reporting.measured_tables import TITLE as MEASURED_TITLE
from mpc_appraisal.reporting.overlap_record import counts_table
from mpc_appraisal.reporting.page import Image, Lead, Page, write_page
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import (
    COSTS_TITLE,
    bars,
    candidates_table,
    correlations_table,
    costs_table,
    decisions_table,
    openings_table,
    run_table,
    trust,
    values_table,
    warnings_table,
    yes_or_no,
)
from mpc_appraisal.reporting.table import Table, TableCollector
from mpc_appraisal.reporting.tiles import run_tiles

TITLE = "Appraisal of data"
NONE: Mapping[tuple[str, str], str] = {}  # no decisions: the party made no pre-flight
BESIDE = {"costs": COSTS_TITLE, "removal": MEASURED_TITLE}  # the table above which a figure stands
CAPTIONS = {
    "values": "Value of each candidate by each method: rings; crosses are the same computed in the clear.",
    "costs": "Cost of each candidate's appraisal, by method.",
    "removal": REMOVAL_CAPTION,
}


def print_result(result: Result, console=None, decisions: Mapping[tuple[str, str], str] = NONE) -> None:
    """Print tables, openings, trust and a bar for each value on a rich console, a new one by default.

    decisions: the model owner's decision sentence by method and candidate, which stand first.
    """
    from rich.console import Console
    from rich.rule import Rule
    from rich.text import Text

    console = console or Console()
    for table in _tables(result, decisions):
        print_table(table, console)
        console.print()
    console.print(Text("Trust", style="bold"))
    for sentence in trust(result):
        console.print(Text(sentence))
    charts = bars(result)
    if not charts:
        return
    console.print()
    console.print(Rule("Value by candidate, from the method's lowest to its highest", align="left", style="dim"))
    name = min(28, max(len(candidate) for _, lines in charts for candidate, _, _ in lines))
    for method, lines in charts:
        console.print(Text(method, style="bold"))
        for candidate, bar, value in lines:
            short = candidate if len(candidate) <= name else candidate[: name - 1] + "…"
            console.print(Text.assemble((f"  {short:<{name}} ", ""), (f"{bar:<41}", "cyan"), f"{value:>11}"))


def _tables(result: Result, decisions: Mapping[tuple[str, str], str], full: bool = False) -> list[Table]:
    """Return the tables at the top: decisions, counts and warnings where there are any, values and openings."""
    first = [table for table in (decisions_table(decisions), counts_table(result)) if table.rows]
    warned = [table for table in (warnings_table(result),) if table.rows]
    served = [measured_table(result.measured)] if result.measured else []
    correlated = [correlations_table(result), *served]
    return [*first, values_table(result, full), *warned, *correlated, openings_table(result)]


def print_table(table: Table, console) -> None:
    """Print one table and its notes on a rich console, or add it to a `TableCollector`."""
    if isinstance(console, TableCollector):
        console.tables.append(table)
        return
    from rich.text import Text

    console.print(_rich_table(table) if table.rows else Text(table.title, style="bold"))
    for note in table.notes:
        console.print(Text(note, style="dim"))


def write_report(result: Result, folder: str | Path, decisions: Mapping[tuple[str, str], str] = NONE) -> list[Path]:
    """Write report.md, report.html and the figures (PNG and SVG) into `folder`, and return their paths.

    decisions: as for `print_result`.
    """
    from mpc_appraisal.reporting.figures import cost_figure, save, values_figure

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = [("values", values_figure), ("costs", cost_figure)] if len(result) else []  # a dealer keeps no records
    figures.append(("removal", lambda result: removal_figure(result.measured)))
    drawn = [(name, figure) for name, draw in figures if (figure := draw(result)) is not None]
    images = [path for name, figure in drawn for path in save(figure, folder, name)]
    shown = {path.stem: Image(path, caption(path.stem, result)) for path in images if path.suffix == ".svg"}
    first = shown.pop("values", None)
    page = Page(
        TITLE,
        main=_tables(result, decisions, full=True),
        trust=trust(result),
        details=[candidates_table(result), costs_table(result), run_table(result)],
        lead=Lead(run_tiles(result), first) if len(result) else None,
        beside={BESIDE[name]: image for name, image in shown.items()},
    )
    return [*write_page(page, folder), *images]


def caption(name: str, result: Result) -> str:
    """Return the caption of a figure, which explains bars and squares only where the figure has them."""
    text = CAPTIONS[name]
    if name == "values" and any(record.interval for record in result):
        text += " Bars: the 95% interval that the noise leaves."
    if name == "values" and any(result.margin(record) is not None for record in result):
        text += " Bars: the 95% interval by the bootstrap over the candidate's rows."
    if name == "values" and any(yes_or_no(result.of(method)) for method in result.methods):
        text += " Squares: yes or no, where that was opened and no value."
    return text


def _rich_table(table: Table):
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for header, side in zip(table.header, table.align, strict=True):
        right = side == "r"  # numbers stay whole and their headers break; names keep room on a narrow terminal
        header = header.replace(" ", "\n") if right else header
        shown.add_column(
            header,
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
            min_width=None if right or header == "answer" else 12,
        )
    for i, row in enumerate(table.rows):
        last = i + 1 == len(table.rows) or table.rows[i + 1][0] != row[0]
        shown.add_row(*map(Text, row), end_section=last and table.header[0] == "method" and len(table.header) > 5)
    return shown
