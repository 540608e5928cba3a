"""Reports from templates: a template gives Markdown, from which one HTML file and the terminal's tables are made.

A template extends harness/templates/page.md.jinja. Its lines may be broken anywhere: the lines of a paragraph are
joined, and an indented line of a table goes on with the row above. A table without rows is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console

from experiments.harness.records import Row
from mpc_appraisal.reporting.figures import save
from mpc_appraisal.reporting.layout import Anchors, add_to, marked
from mpc_appraisal.reporting.page import Image, Lead
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table, number, whole

FOLDER = Path(__file__).resolve().parents[1]
WIDTH = 160  # of tables in a file or a pipe
CODE = re.compile(r"`([^`]+)`")
IMAGE = re.compile(r"!\[\]\((.+)\.png\)")
ALONE = re.compile(r"(?m)^[ \t]*(\{(?:%(?:(?!%\}).)*%|#(?:(?!#\}).)*#)\})[ \t]*\n")
Fact = tuple[str, str]
Block = str | Table | Fact  # a paragraph, a table, or a figure's name with its caption


@dataclass(frozen=True)
class Section:
    """A section as a reader sees it: paragraphs, tables and figures in their order."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def table(self) -> Table:
        """The first table with all paragraphs as its notes, for a terminal."""
        tables, notes = ([block for block in self.blocks if isinstance(block, kind)] for kind in (Table, str))
        first = tables[0] if tables else Table("", (), "", [])
        return replace(first, title=self.title, notes=tuple(notes))

    @property
    def items(self) -> list[tuple[str, Any]]:
        """The blocks with their kinds: paragraphs below a table are notes of it, and together one block."""
        found: list[tuple[str, Any]] = []
        after = False
        for block in self.blocks:
            if not isinstance(block, str):
                after |= isinstance(block, Table)
                found.append(("table" if isinstance(block, Table) else "figure", block))
            elif found and found[-1][0] in ("notes", "said"):
                found[-1][1].append(block)
            else:
                found.append(("notes" if after else "said", [block]))
        return found


@dataclass(frozen=True)
class Page:
    """A report as a reader sees it: numbers and a figure first, then sections, trust, and what folds away."""

    title: str
    lead: Section  # a table of numbers over the words that say what they are, and the first figure
    sections: list[Section]
    trust: tuple[str, ...]
    folded: list[Section]
    text: str  # the whole page as Markdown

    @property
    def main(self) -> list[Table]:
        return [section.table for section in self.sections]

    @property
    def details(self) -> list[Table]:
        return [section.table for section in self.folded]

    @property
    def figures(self) -> list[Fact]:
        """The name of the files and the caption of each figure, in their order on the page."""
        blocks = [block for section in (self.lead, *self.sections, *self.folded) for block in section.blocks]
        return [block for block in blocks if isinstance(block, tuple)]

    @property
    def tiles(self) -> list[Fact]:
        """The numbers that lead the page, each with its words."""
        tables = [block for block in self.lead.blocks if isinstance(block, Table)]
        return list(zip(tables[0].header, tables[0].rows[0], strict=True)) if tables else []


def coded(text: str) -> Markup:
    """Return a text of a template as HTML, in which words in backticks are code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(marked(text))))


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
    return [section.table for section in _sections(_blocks(text))]


def write_page(page: Page, figures: Mapping[str, Figure], folder: Path, stem: str) -> None:
    """Write <stem>.md, <stem>.html, and each figure as PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {name: Image(save(figures[name], folder, name)[1], caption) for name, caption in page.figures}
    loader = ChoiceLoader([FileSystemLoader(FOLDER), PackageLoader("mpc_appraisal.reporting", "templates")])
    found = Environment(loader=loader, autoescape=True, trim_blocks=True, undefined=StrictUndefined)
    add_to(found)
    found.filters["marked"] = coded
    first = next((images[block[0]] for block in page.lead.blocks if isinstance(block, tuple)), None)
    given = {"page": page, "images": images, "first": Lead(page.tiles, first), "anchor": Anchors()}
    shown = found.get_template("harness/templates/page.html.jinja").render(given)
    (folder / f"{stem}.html").write_text(shown, encoding="utf-8")
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
    lead, *found = _sections(["## ", *rest])
    middle = [section.title for section in found].index("Trust")
    return Page(title[2:], lead, found[:middle], found[middle].table.notes, found[middle + 1 :], text)


def _sections(blocks: Iterable[str]) -> list[Section]:
    """Return the sections that the headings begin. The paragraph after an image is its caption."""
    found: list[tuple[str, list[Block]]] = []
    name = None
    for block in blocks:
        if block.startswith("## "):
            found.append((block[3:], []))
        elif image := IMAGE.fullmatch(block):
            name = image[1]
        else:
            found[-1][1].append(_table(block) if block.startswith("|") else (name, block) if name else block)
            name = None
    return [Section(title, tuple(inside)) for title, inside in found]


def _table(block: str) -> Table:
    header, rule, *rows = block.splitlines()
    align = "".join("r" if cell.endswith(":") else "l" for cell in _cells(rule))
    return Table("", tuple(_cells(header)), align, [tuple(_cells(row)) for row in rows])
