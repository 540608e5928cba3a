"""Pages made from the templates in templates/: a report as one HTML file that needs no other file, and in Markdown.

What goes in is a `Page` with its tables, sentences and figures; `write_page` writes the page in both forms. `render`
fills in any one template by its name. The layout of reports and cards is in the templates and may be changed there. A
template whose name ends in html.jinja escapes every value; a template in Markdown escapes with the filters `cell` and
`inert`. The escaping has to stay, because names of candidates come from the other party.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpc_appraisal.reporting.layout import Anchors, add_to
from mpc_appraisal.reporting.table import Table

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Image:
    """Hold a figure of a page.

    Attributes:
        drawing: The path of the SVG, beside which the same figure lies as PNG.
        caption: The sentence under the figure.
    """

    drawing: Path
    caption: str

    @property
    def file(self) -> str:
        """The name of the PNG file, to which the Markdown page refers."""
        return self.drawing.with_suffix(".png").name

    @property
    def photo(self) -> bool:
        """Whether the figure holds images of pixels, whose colours a dark page must not turn round."""
        return b"<image" in self.drawing.read_bytes()

    @property
    def source(self) -> str:
        """The SVG as a data URL, which the HTML page holds."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.drawing.read_bytes()).decode()


@dataclass(frozen=True)
class Lead:
    """Hold what stands first on a page: the numbers that matter most, and one figure.

    Attributes:
        tiles: At most three numbers, each with the words that say what it is.
        figure: The figure, or None where nothing can be drawn.
    """

    tiles: Sequence[tuple[str, str]]
    figure: Image | None = None


@dataclass(frozen=True)
class Page:
    """Hold the content of a report, in the order in which a reader sees it.

    Attributes:
        title: the heading of the whole page.
        main: the tables at the top.
        trust: sentences on what the reader has to trust.
        details: the tables at the end, which the HTML page folds away unless they have a figure.
        lead: what stands above everything else, or None.
        beside: figures by the title of the table above which they stand.
        trust_title: the heading of the section on trust.
        cards: the cards that the page links to, each a candidate with its card's file name without the ending.
    """

    title: str
    main: Sequence[Table]
    trust: Sequence[str]
    details: Sequence[Table]
    lead: Lead | None = None
    beside: Mapping[str, Image] = field(default_factory=dict)
    trust_title: str = "Trust"
    cards: Sequence[tuple[str, str]] = ()


def write_page(page: Page, folder: str | Path) -> list[Path]:
    """Write report.md and report.html into `folder`, and return their paths."""
    written = [Path(folder, f"report.{form}") for form in ("md", "html")]
    for path in written:
        path.write_text(render(f"{path.name}.jinja", page=page), encoding="utf-8")
    return written


def render(template: str, **values: Any) -> str:
    """Fill in one of the templates in templates/, for example 'card.html.jinja'."""
    return _environment().get_template(template).render(**{"anchor": Anchors(), **values})


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    escape = select_autoescape(disabled_extensions=["md.jinja"], default=True)
    loader = PackageLoader("mpc_appraisal.reporting", "templates")
    found = Environment(loader=loader, autoescape=escape, trim_blocks=True, undefined=StrictUndefined)
    found.filters |= {"cell": cell, "inert": inert}
    add_to(found)
    return found


def cell(text: str) -> str:
    """Escape a text so that it stays within its cell of a table in Markdown."""
    return text.replace("|", "\\|").replace("\n", " ")


def inert(text: str) -> str:
    """Escape a text so that Markdown shows it as it is: no markup, no HTML, no link that a renderer makes by itself."""
    return re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + "\\.", re.sub(r"([\\`*_\[\]<>|&#~$@])", r"\\\1", text))
