"""Reports from templates: a template gives Markdown, from which one HTML file and the terminal's tables are made.

A template extends harness/templates/page.md.jinja. Its lines may be broken anywhere: the lines of a paragraph are
joined, and an indented line of a table goes on with the row above. A table without rows is left out.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.console import Console

from experiments.harness.records import Row
from mpc_appraisal.reporting.figures import save
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table, number, whole

FOLDER = Path(__file__).resolve().parents[1]
WIDTH = 160  # of tables in a file or a pipe
IMAGE = re.compile(r"!\[\]\((.+)\.png\)")
ALONE = re.compile(r"(?m)^[ \t]*(\{(?:%(?:(?!%\}).)*%|#(?:(?!#\}).)*#)\})[ \t]*\n")
Fact = tuple[str, str]


@dataclass(frozen=True)
class Page:
    """A report as a reader sees it. `main` are the sections before the figures, `details` those after the trust."""

    title: str
    main: list[Table]
    figures: list[Fact]  # the name of the files, and the caption
    trust: tuple[str, ...]
    details: list[Table]
    text: str  # the whole page as Markdown


def times(value: float | None) -> str:
    """Format a ratio with three digits, as in '7.25 x'."""
    return DASH if value is None else f"{number(value, 3)} x"


def formatted(value: Any, specification: str) -> str:
    """Format a value, as in `format(value, ".1%")`; None is a dash."""
    return DASH if value is None else format(value, specification)


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'s' * (count > 1)}"


class Loader(FileSystemLoader):
    """Loads templates, and takes lines that are one tag alone out of the text, with their ends."""

    def get_source(self, environment: Environment, template: str) -> tuple:
        source, *rest = super().get_source(environment, template)
        return ALONE.sub(r"\1", source), *rest


def environment() -> Environment:
    """Return the templates of this folder, with the filters that write numbers."""
    found = Environment(loader=Loader(FOLDER), undefined=StrictUndefined)
    found.filters |= {"number": number, "times": times, "f": formatted, "whole": whole, "plural": plural}
    found.filters |= {"comma": lambda value: f"{value:,}", "words": lambda name: name.replace("_", " ")}
    found.globals |= {"DASH": DASH}
    return found


def page_of(template: str, figures: Mapping[str, Figure], **context: Any) -> Page:
    """Render a template, which finds the names of the figures in `drawn`."""
    text = environment().get_template(template).render(drawn=set(figures), **context)
    blocks = list(_blocks(text))
    return _page("\n\n".join(_with_captions(blocks)) + "\n", blocks)


def sections(template: str, macro: str, *arguments: Any) -> list[Table]:
    """Render one macro of a template, which gives sections."""
    text = getattr(environment().get_template(template).module, macro)(*arguments)
    return [_table(*section) for section in _sections(_blocks(text))]


def write_page(page: Page, figures: Mapping[str, Figure], folder: Path, stem: str) -> None:
    """Write <stem>.md, <stem>.html, and each figure as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for name, caption in page.figures:
        _, drawing = save(figures[name], folder, name)
        images.append(("data:image/svg+xml;base64," + base64.b64encode(drawing.read_bytes()).decode(), caption))
    template = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True).get_template(
        "harness/templates/page.html.jinja"
    )
    (folder / f"{stem}.html").write_text(template.render(page=page, images=images), encoding="utf-8")
    (folder / f"{stem}.md").write_text(page.text, encoding="utf-8")


def render(template: str, folder: Path, stem: str, figures: Mapping[str, Figure], **context: Any) -> Page:
    """Render a template, and write its page and figures."""
    page = page_of(template, figures, **context)
    write_page(page, figures, folder, stem)
    return page


def show(page: Page) -> None:
    """Print the main tables, as wide as the terminal or of a fixed width in a file."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in page.main:
        print_table(table, console)
        console.print()


def run_facts(about: Row, facts: Mapping[str, str], study: str) -> list[Fact]:
    """Return where and how the records were made and the report is rendered, for the table of the run."""
    found = {"machine": about["machine"], **facts, "revision": about["revision"] or DASH}
    found |= {name: version or DASH for name, version in about["versions"].items()}
    found |= {"measured by": about["command"]}
    found |= {"rendered by": f"python -m experiments {study} --out DIR --render-only"}
    return list(found.items())


def _blocks(text: str) -> Iterable[str]:
    """Yield headings, paragraphs and tables, each in its canonical form."""
    for block in re.split(r"\n\s*\n", text.strip()):
        lines: list[str] = []
        for line in block.splitlines():
            if not lines or line.startswith("|"):
                lines.append(line)
            else:
                lines[-1] += " " + line.strip()
        if not lines[0].startswith("|"):
            yield " ".join(" ".join(lines).split())
        elif len(lines) > 2:
            header, rule, *rows = lines
            yield "\n".join(["| " + " | ".join(_cells(header)) + " |", "|" + "|".join(_cells(rule)) + "|",
                             *("| " + " | ".join(_cells(row)) + " |" for row in rows)])  # fmt: skip


def _cells(line: str) -> list[str]:
    return [" ".join(cell.split()) for cell in re.split(r"(?<!\\)\|", line.strip().removesuffix("|"))[1:]]


def _with_captions(blocks: list[str]) -> Iterable[str]:
    """Yield the blocks, with the paragraph after an image as the text in its place."""
    for place, block in enumerate(blocks):
        found = IMAGE.fullmatch(block)
        yield f"![{blocks[place + 1]}]({found[1]}.png)" if found else block


def _page(text: str, blocks: list[str]) -> Page:
    title, *rest = blocks
    found = _sections(rest)
    middle = [name for name, _ in found].index("Figures")
    (_, figures), (_, trust) = found[middle : middle + 2]
    drawn = [(IMAGE.fullmatch(block)[1], figures[k + 1]) for k, block in enumerate(figures) if IMAGE.fullmatch(block)]
    main, details = ([_table(*section) for section in some] for some in (found[:middle], found[middle + 2 :]))
    return Page(title[2:], main, drawn, tuple(trust), details, text)


def _sections(blocks: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return the title and the other blocks of each section."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks:
        if block.startswith("## "):
            found.append((block[3:], []))
        else:
            found[-1][1].append(block)
    return found


def _table(title: str, blocks: list[str]) -> Table:
    tables, notes = ([b for b in blocks if b.startswith("|") == kind] for kind in (True, False))
    if not tables:
        return Table(title, (), "", [], tuple(notes))
    header, rule, *rows = tables[0].splitlines()
    align = "".join("r" if cell.endswith(":") else "l" for cell in _cells(rule))
    return Table(title, tuple(_cells(header)), align, [tuple(_cells(row)) for row in rows], tuple(notes))
