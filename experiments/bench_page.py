"""A benchmark's report from its records alone: Markdown, one HTML file that needs no other, figures as PNG and SVG."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.figures import save
from mpc_appraisal.reporting.report import PAGE, STYLE, markdown, print_table
from mpc_appraisal.reporting.table import DASH, Table, number

WIDTH = 160  # of tables in a file or a pipe
Row = dict[str, Any]


@dataclass(frozen=True)
class Drawing:
    """A figure, the name of its files and what it shows."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Page:
    """What a reader sees, in order: `main` (the first table is the summary), figures, trust, `details`."""

    title: str
    main: list[Table]
    drawings: list[Drawing]
    trust: list[str]
    details: list[Table]


def read_records(path: Path, keys: Iterable[str]) -> list[Row]:
    """The lines of a file of records. Raises InputError for no file, no lines, or a line without one of `keys`."""
    if not path.is_file():
        raise InputError("--out", f"no file {path.name} in {path.parent}", "the records of an earlier run")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    if not rows:
        raise InputError("--out", f"{path.name} without lines", "the records of an earlier run")
    for place, row in enumerate(rows, start=1):
        if missing := [key for key in keys if key not in row]:
            raise InputError(f"{path.name}, line {place}", f"no {', '.join(missing)}", "records of this version")
    return rows


def run_table(about: Mapping[str, Any], facts: Mapping[str, str], script: str) -> Table:
    """Where and how it was measured. about: a record with machine, revision, versions and command."""
    facts = {"machine": about["machine"], **facts, "revision": about["revision"] or DASH}
    facts |= {name: version or DASH for name, version in about["versions"].items()}
    facts |= {"measured by": about["command"], "rendered by": f"python experiments/{script} --out DIR --render-only"}
    return Table("Run", ("fact", "value"), "ll", list(facts.items()))


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches, drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def times(value: float | None) -> str:
    """A ratio in three digits, as in '7.25 x'."""
    return DASH if value is None else f"{number(value, 3)} x"


def turns(count: int) -> str:
    return f"{count} turn{'s' * (count > 1)}"


def write_page(page: Page, folder: Path, stem: str) -> list[Path]:
    """Writes <stem>.md, <stem>.html and each drawing's files into `folder`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [save(drawing.figure, folder, drawing.name) for drawing in page.drawings]
    sources = [
        ("data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode(), drawing.caption)
        for (_, svg), drawing in zip(images, page.drawings, strict=True)
    ]
    html, text = folder / f"{stem}.html", folder / f"{stem}.md"
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    html.write_text(
        template.render(
            title=page.title, style=STYLE, main=page.main, details=page.details, trust=page.trust, figures=sources
        ),
        encoding="utf-8",
    )
    parts = [f"# {page.title}", *map(markdown, page.main), "## Figures"]
    parts += [f"![{d.caption}]({png.name})\n\n{d.caption}" for (png, _), d in zip(images, page.drawings, strict=True)]
    parts += ["## Trust", *page.trust, *map(markdown, page.details)]
    text.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [text, html, *(path for pair in images for path in pair)]


def sentences(title: str, lines: Sequence[str]) -> Table:
    """A table that is sentences alone."""
    return Table(title, (), "", [], tuple(lines))


def show(tables: Iterable[Table]) -> None:
    """Tables on the terminal, or of a fixed width where there is none."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables:
        print_table(table, console)
        console.print()
