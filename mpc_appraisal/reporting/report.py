"""Reports from records alone: on the console, in markdown and as one HTML file that needs no other file."""

from __future__ import annotations

import base64
from pathlib import Path

from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import (
    bars,
    candidates_table,
    correlations_table,
    costs_table,
    openings_table,
    run_table,
    trust,
    values_table,
    warnings_table,
    yes_or_no,
)
from mpc_appraisal.reporting.table import Table

TITLE = "Appraisal of data"
CAPTIONS = {
    "values": "Value of each candidate by each method: rings; crosses are the same computed in the clear.",
    "costs": "Cost of each candidate's appraisal, by method.",
}

STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 1180px; margin: 2rem auto;
       padding: 0 1.2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .28rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #e3e7ec; }
th { border-bottom: 2px solid #9aa5b1; vertical-align: bottom; }
td.r, th.r { text-align: right; font-variant-numeric: tabular-nums; }
td.r, table.keyed td { white-space: nowrap; }
tr.new td { border-top: 2px solid #c5ccd4; }
p.note { color: #55606d; font-size: .88rem; margin: .4rem 0; max-width: 75ch; }
p.trust { border-left: 4px solid #b7791f; background: #fdf7ea; padding: .5rem .9rem; max-width: 75ch; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; } figcaption { color: #55606d; font-size: .88rem; }
summary { cursor: pointer; font-weight: 600; margin: 1rem 0 .4rem; }
@media print { .wide { overflow: visible; } }
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style | safe }}</style></head><body>
{% macro show(table) %}
{% if table.rows %}<div class="wide"><table{% if table.header[0] == "method" %} class="keyed"{% endif %}><thead><tr>
{% for cell in table.header %}<th class="{{ table.align[loop.index0] }}">{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{% for row in table.rows %}<tr{% if not loop.first and loop.previtem[0] != row[0] and table.header[0] == "method"
%} class="new"{% endif %}>{% for cell in row %}<td class="{{ table.align[loop.index0] }}">{{ cell }}</td>{% endfor
%}</tr>
{% endfor %}</tbody></table></div>{% endif %}
{% for note in table.notes %}<p class="note">{{ note }}</p>{% endfor %}
{% endmacro %}
<h1>{{ title }}</h1>
{% for table in main %}<section><h2>{{ table.title }}</h2>{{ show(table) }}</section>{% endfor %}
<section><h2>Trust</h2>{% for sentence in trust %}<p class="trust">{{ sentence }}</p>{% endfor %}</section>
{% if figures %}<section><h2>Figures</h2>
{% for source, caption in figures %}<figure><img src="{{ source }}" alt="{{ caption }}">
<figcaption>{{ caption }}</figcaption></figure>{% endfor %}</section>{% endif %}

<section><h2>Details</h2>
{% for table in details %}<details open><summary>{{ table.title }}</summary>{{ show(table) }}</details>{% endfor %}
</section></body></html>
"""


def print_result(result: Result, console=None) -> None:
    """Tables, openings, trust and a bar for each value, on a rich console (a new one by default)."""
    from rich.console import Console
    from rich.rule import Rule
    from rich.text import Text

    console = console or Console()
    for table in (values_table(result), *_warned(result), correlations_table(result), openings_table(result)):
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


def _warned(result: Result) -> list[Table]:
    return [table for table in (warnings_table(result),) if table.rows]


def print_table(table: Table, console) -> None:
    """One table and its notes on a rich console."""
    from rich.text import Text

    console.print(_rich_table(table) if table.rows else Text(table.title, style="bold"))
    for note in table.notes:
        console.print(Text(note, style="dim"))


def write_report(result: Result, folder: str | Path) -> list[Path]:
    """Writes report.md, report.html and the figures (PNG and SVG) into `folder`; returns the paths."""
    from jinja2 import Environment

    from mpc_appraisal.reporting.figures import cost_figure, save, values_figure

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = [("values", values_figure), ("costs", cost_figure)] if len(result) else []  # a dealer has no records
    drawn = [(name, figure) for name, draw in figures if (figure := draw(result)) is not None]
    images = [path for name, figure in drawn for path in save(figure, folder, name)]
    drawings = [path for path in images if path.suffix == ".svg"]
    main = [values_table(result, full=True), *_warned(result), correlations_table(result), openings_table(result)]
    details = [candidates_table(result), costs_table(result), run_table(result)]

    sources = [
        ("data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode(), caption(path.stem, result))
        for path in drawings
    ]
    page = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    html = folder / "report.html"
    html.write_text(
        page.render(title=TITLE, style=STYLE, main=main, details=details, trust=trust(result), figures=sources),
        encoding="utf-8",
    )

    parts = [
        f"# {TITLE}",
        *map(markdown, main),
        "## Trust",
        *trust(result),
        *["## Figures"] * bool(drawings),
        *(f"![{caption(path.stem, result)}]({path.with_suffix('.png').name})" for path in drawings),
        *map(markdown, details),
    ]
    text = folder / "report.md"
    text.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [text, html, *images]


def caption(name: str, result: Result) -> str:
    """Of a figure; what only noised values and decisions have is explained where they are."""
    text = CAPTIONS[name]
    if name == "values" and any(record.interval for record in result):
        text += " Bars: the 95% interval that the noise leaves."
    if name == "values" and any(result.margin(record) is not None for record in result):
        text += " Bars: the 95% interval by the bootstrap over the candidate's rows."
    if name == "values" and any(yes_or_no(result.of(method)) for method in result.methods):
        text += " Squares: yes or no, where that was told and no value."
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


def markdown(table: Table) -> str:
    def line(cells) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    rule = "|" + "|".join("---:" if side == "r" else "---" for side in table.align) + "|"
    body = [line(table.header), rule, *map(line, table.rows)] if table.rows else []
    return "\n\n".join(["## " + table.title] + ["\n".join(body)] * bool(body) + list(table.notes))
