"""How pages are laid out: which text folds away, which tables stack on a narrow screen, and the ids of headings.

Texts and tables go in; what the templates in templates/ need to place them comes out. `add_to` gives these functions to
an environment of Jinja, so that the pages of runs, of sweeps and of studies share one layout. The limits may be
changed: they say how much text a reader sees before opening it. No text may be dropped, for a page that is printed or
read without style has to hold every word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpc_appraisal.reporting.table import Table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

SHORT = 240  # characters of text that a page shows beside a table or in a paragraph; more folds away
PHONE, TABLET, DESK = 34, 70, 150  # the least widths of a table, in characters, above which it stacks on each
CELL = 13  # characters up to which a cell stays on one line
LONG = 30  # characters above which a cell of a stacked row has a line of its own
WORD = 32  # characters above which a word breaks anywhere
PADDING = 3  # characters that the space between two columns takes
# The first sentence of a text that folds: one of a few words, such as "Figure 2.", would say nothing, and a question
# would hide its answer, so that the next sentence goes with it.
SENTENCE = re.compile(r"(.{30,}?[.!])\s+(?=[A-Z(±+\d])")
POWER = re.compile(r"[+-]?\d[\d.]*e-\d+")
BREAKS = re.compile(r"(?<=[_=/,])(?=\w)")
LABEL = re.compile(r"([A-Z][^:.;]{1,48}):\s+(.+)", re.DOTALL)


class Anchors:
    """Give each heading of one page an id of its own."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def __call__(self, title: str) -> str:
        """Return the title in small letters with hyphens, and a number from its second use on."""
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        self._used[name] += 1
        if self._used[name] == 1:
            return name
        return self(f"{name}-{self._used[name]}")


def folded(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paragraphs that a reader sees at once, and those that fold away behind their first sentence."""
    if not texts or sum(map(len, texts)) <= SHORT:
        return list(texts), []
    head, rest = split(texts[0])
    return [head], [text for text in (rest, *texts[1:]) if text]


def split(text: str) -> tuple[str, str]:
    """Split a text after its first sentence; the rest is empty where there is but one."""
    found = SENTENCE.match(text)
    return (found[1], text[found.end() :]) if found else (text, "")


def label(text: str) -> tuple[str, str]:
    """Split 'How fast: 1 s.' into 'How fast:' and '1 s.'; a text without such words has none."""
    found = LABEL.fullmatch(text)
    return (f"{found[1]}:", found[2]) if found else ("", text)


def stacks(table: Table) -> str:
    """Return the classes of a table that becomes stacked rows: 'stack' on a phone, 'far' on a tablet, 'all' everywhere.

    A table that fits a desk only if cells break has the class 'tight'.
    """
    columns = list(zip(table.header, *table.rows, strict=True))
    whole, broken = (sum(max(_least(cell, on) for cell in one) + PADDING for one in columns) for on in (CELL, 0))
    if whole <= PHONE:
        return ""
    found = ["stack"] + ["far"] * (whole > TABLET) + ["tight"] * (whole > DESK) + ["all"] * (broken > DESK)
    return " ".join(found)


def _least(cell: str, on: int) -> int:
    """Return the characters of a cell's longest piece that is never broken; cells up to `on` characters are whole."""
    return len(cell) if len(cell) <= on else min(WORD, max(map(len, cell.split()), default=0))


def shape(cell: str) -> str:
    """Return a cell's classes: 'n' for one line, 'long' for a line of its own in a stacked row, 'w' to break words."""
    if len(cell) <= CELL:
        return "n"
    return " ".join(["long"] * (len(cell) > LONG) + ["w"] * any(len(word) > WORD for word in cell.split()))


def marked(text: str) -> Markup:
    """Return a text as HTML in which a number such as 1.2e-05 stays on one line."""
    from markupsafe import Markup, escape

    return Markup(POWER.sub(r'<span class="n">\g<0></span>', str(escape(text))))


def breakable(text: str) -> Markup:
    """Return a name as HTML that may break after the signs between its words, and elsewhere only if it has to."""
    from markupsafe import Markup

    return Markup("<wbr>").join(BREAKS.split(text))


def add_to(environment: Environment) -> None:
    """Give the functions of this file to the templates of an environment."""
    environment.filters |= {"marked": marked, "breakable": breakable}
    environment.filters |= {"folded": folded, "split": split, "label": label, "stacks": stacks, "shape": shape}
    environment.globals["SHORT"] = SHORT
