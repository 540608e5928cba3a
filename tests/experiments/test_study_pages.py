"""The committed pages are for people who look: a figure and numbers first, no table cut off, headings that link."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import CHROMIUM, REASON, measured

from mpc_appraisal.reporting.layout import SHORT, split

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "results").glob("*/*.html"))
VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """What a page is made of, in its order, with the attributes of each element and the text of paragraphs."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {"p": [], "th": [], "figcaption": []}
        self.inside: list[str] = []
        self.visible: list[str] = []  # paragraphs under a table or of a section that no reader has to open
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in self.text:
            self.text[tag].append("")
        if tag == "p":
            self.note = dict(attributes).get("class") in ("note", "said") and "details" not in self.inside
            self.visible += [""] * self.note
        if tag not in VOID:
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if "p" in self.inside and self.note:
            self.visible[-1] += data
        for tag, found in self.text.items():
            if tag in self.inside:
                found[-1] += data

    def tags(self, *names: str) -> list[str]:
        return [tag for tag, _ in self.elements if tag in names]

    def of(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(params=PAGES, ids=lambda path: path.stem)
def outline(request) -> Outline:
    return Outline(request.param.read_text(encoding="utf-8"))


def test_one_figure_and_three_numbers_come_first(outline):
    tags = outline.tags("h1", "img", "h2", "p", "table")
    assert tags[:3] == ["h1", "img", "h2"]
    classes = [attributes.get("class") for attributes in outline.of("div")]
    assert classes[:5] == ["lead", "tiles", "tile", "tile", "tile"] and classes.count("tile") == 3


def test_the_same_order_is_in_markdown():
    for path in PAGES:
        first = path.with_suffix(".md").read_text(encoding="utf-8").split("\n## ")[0].split("\n\n")
        assert first[0].startswith("# ") and first[1].count("\n") == 2 and first[1].splitlines()[0].count(" | ") == 2
        assert first[2].startswith("![")


def test_figures_stand_above_the_table_that_they_show(outline):
    tags = outline.tags("h2", "img", "table")
    sections = " ".join(tags).split("h2")[1:]  # what stands before the first heading is the lead
    assert all(re.fullmatch(r"( img)*( table)*", section.rstrip()) for section in sections)
    assert not [section for section in sections if "img" in section and "table" not in section]


def test_headings_have_ids_of_their_own_and_link_to_themselves(outline):
    ids = [attributes["id"] for attributes in outline.of("h2")]
    links = [attributes["href"] for attributes in outline.of("a") if attributes.get("class") == "to"]
    assert len(set(ids)) == len(ids) > 3 and links == [f"#{name}" for name in ids]


def test_each_cell_has_the_name_of_its_column(outline):
    names = set(outline.text["th"])
    cells = outline.of("td")
    assert cells and all(cell["data-label"] in names for cell in cells)


def test_what_is_read_in_place_of_a_figure_or_of_a_folded_text_says_something(outline):
    """A figure that is not seen, and a text that is not opened, are known by one sentence."""
    assert all(len(image["alt"].split()) > 4 for image in outline.of("img"))
    assert all(len(text.split()) > 4 for text in outline.text["figcaption"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_columns_have_names_of_their_own_and_no_markup_is_left(path):
    page = re.sub(r'"data:[^"]*"', '""', path.read_text(encoding="utf-8"))
    headers = [re.findall(r"<th[^>]*>(.*?)</th>", head) for head in re.findall(r"<thead>.*?</thead>", page, re.DOTALL)]
    assert headers and all(len(set(names)) == len(names) for names in headers)
    assert "`" not in page and "**" not in page and "](" not in page


def test_long_text_folds_away(outline):
    """What a reader sees of a paragraph is short, or it is one sentence."""
    assert outline.of("details") and outline.visible
    assert [text for text in outline.visible if len(text) > SHORT and split(text)[1]] == []


# Only a browser knows how wide a table is drawn. Without one, the tests of the pages' outlines above still run.
@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_no_table_is_cut_off_on_a_phone_or_on_a_desk(tmp_path):
    found = measured(PAGES, (400, 800, 1200), tmp_path)
    assert len(found) == 3 * len(PAGES) and {one["width"] for one in found} == {400, 800, 1200}
    assert all(one["tables"] for one in found)
    assert [(one["page"], one["width"], one["cut"]) for one in found if one["cut"]] == []
    assert all(one["document"] <= one["width"] for one in found)


# This shows that the test above can fail, so that it needs the same browser.
@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_a_table_that_is_too_wide_is_found(tmp_path):
    page = tmp_path / "wide.html"
    row = "".join(f"<td>{'x' * 30}</td>" for _ in range(9))
    page.write_text(f"<!doctype html><html><body><div><table><tr>{row}</tr></table></div></body></html>")
    (found,) = measured([page], (1200,), tmp_path)
    assert len(found["cut"]) == 1
