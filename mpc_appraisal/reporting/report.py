"""The report of an appraisal: on the console, in Markdown and as one HTML file that needs no other file.

What goes in is a `Result`, that is, the records of a run, and the model owner's `Advice` where it made a pre-flight.
`print_result` shows the result in short on a console, and `write_report` writes the pages and their figures. The tables
are made in `result_tables`, and the short form in `brief`; captions may be changed here, and the layout of the pages in
templates/. The names of the files have to stay, because the documentation and users refer to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mpc_appraisal.reporting.advice import NO_ADVICE, Advice
from mpc_appraisal.reporting.attacked import Attacked
from mpc_appraisal.reporting.brief import WIDTH, brief
from mpc_appraisal.reporting.fitting import bands, printed
from mpc_appraisal.reporting.learning_record import above
from mpc_appraisal.reporting.learning_report import (
    ATTACKS_TITLE,
    attack_tile,
    attacks_caption,
    attacks_figure,
    attacks_table,
)
from mpc_appraisal.reporting.measured_tables import REMOVAL_CAPTION, measured_table, removal_figure
from mpc_appraisal.reporting.measured_tables import TITLE as MEASURED_TITLE
from mpc_appraisal.reporting.overlap_record import counts_table
from mpc_appraisal.reporting.page import Image, Lead, Page, write_page
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import (
    COSTS_TITLE,
    candidates_table,
    correlations_table,
    costs_table,
    decision_tables,
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
BESIDE = {"costs": COSTS_TITLE, "removal": MEASURED_TITLE}  # the table above which a figure stands
CAPTIONS = {
    "values": "Value of each candidate by each method.",
    "costs": "Cost of each candidate's appraisal, by method.",
    "removal": REMOVAL_CAPTION,
}


def print_result(result: Result, console=None, advice: Advice = NO_ADVICE, report: str | Path | None = None) -> None:
    """Print the result in short on a rich console, a new one by default.

    Args:
        result: The records of one run.
        console: The console; where it is no terminal, the lines fit 80 columns.
        advice: What the model owner's pre-flight says, which stands at the top.
        report: The path of the report, which the last line names and links to; None for none.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    width = console.width if console.is_terminal else min(console.width, WIDTH)
    for text, style in brief(result, width, advice, report):
        link = f" link file://{Path(report).resolve()}" if report is not None and text.startswith("Report: ") else ""
        console.print(Text(text, style + link), soft_wrap=True)


def _tables(result: Result, advice: Advice) -> list[Table]:
    """Return the tables at the top: decisions, counts and warnings where there are any, values and openings."""
    first = [*decision_tables(advice)[0], counts_table(result)]
    served = [measured_table(result.measured)] if result.measured else []
    last = [warnings_table(result), correlations_table(result), *served, openings_table(result)]
    return [
        *(table for table in first if table.rows),
        values_table(result, True),
        *(table for table in last if table.rows or table.notes),
    ]


def print_table(table: Table, console) -> None:
    """Print one table and its notes on a rich console, or add it to a `TableCollector`.

    A table that is wider than the console goes on below, in bands of columns.
    """
    if isinstance(console, TableCollector):
        console.tables.append(table)
        return
    from rich.text import Text

    for k, band in enumerate(bands(table, console.width) if table.rows else (table,)):
        console.print(Text("\n" * (k > 0) + band.title, style="bold"))
        if band.rows:
            console.print(printed(band, console.width))
    for note in table.notes:
        console.print(Text(note, style="dim"))


def write_report(
    result: Result,
    folder: str | Path,
    advice: Advice = NO_ADVICE,
    cards: Mapping[str, str] | None = None,
    attacked: Attacked | None = None,
) -> list[Path]:
    """Write report.md, report.html and the figures (PNG and SVG) into `folder`, and return their paths.

    Args:
        result: The records of one run.
        folder: The folder, which is created if it is not there.
        advice: What the model owner's pre-flight says.
        cards: The cards that the pages link to: by candidate, the name of the file without its ending.
        attacked: What attacks on the protocol recovered; None where none was chosen.
    """
    from mpc_appraisal.reporting.figures import cost_figure, save, values_figure

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result = result.without_random()
    figures = [("values", values_figure), ("costs", cost_figure)] if len(result) else []  # a dealer keeps no records
    figures.append(("removal", lambda result: removal_figure(result.measured)))
    drawn = [(name, figure) for name, draw in figures if (figure := draw(result)) is not None]
    images = [path for name, figure in drawn for path in save(figure, folder, name)]
    shown = {path.stem: Image(path, caption(path.stem, result)) for path in images if path.suffix == ".svg"}
    first = shown.pop("values", None)
    tiles, beside = run_tiles(result), {BESIDE[name]: image for name, image in shown.items()}
    attacks = () if attacked is None else attacked.attacks
    if attacks:
        images += save(attacks_figure(attacks), folder, "attacks")
        beside[ATTACKS_TITLE] = Image(images[-1], attacks_caption(attacks))
        tiles[1:2] = [attack_tile(max(attacks, key=above))]  # in place of the agreement with the truth
    details = [*decision_tables(advice)[1], candidates_table(result), costs_table(result), run_table(result)]
    page = Page(
        TITLE,
        main=[*_tables(result, advice), *([] if attacked is None else [attacks_table(attacked.attacks)])],
        trust=trust(result),
        details=[table for table in details if table.rows],
        lead=Lead(tiles, first) if len(result) else None,
        beside=beside,
        cards=tuple((cards or {}).items()),
    )
    return [*write_page(page, folder), *images]


def caption(name: str, result: Result) -> str:
    """Return the caption of a figure, which explains each mark only where the figure has them."""
    text = CAPTIONS[name]
    if name == "values" and any(record.value is not None for record in result if not record.baseline):
        text += " Rings: values."
    if name == "values" and any(record.plaintext_value is not None for record in result if not record.baseline):
        text += " Crosses: the same computed in the clear."
    if name == "values" and any(record.interval for record in result):
        text += " Bars: the 95% interval that the noise leaves."
    if name == "values" and any(result.margin(record) is not None for record in result):
        text += " Bars: the 95% interval by the bootstrap over the candidate's rows."
    if name == "values" and any(yes_or_no(result.of(method)) for method in result.methods):
        text += " Squares: yes or no, where that was opened and no value."
    return text
