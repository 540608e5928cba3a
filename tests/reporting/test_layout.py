"""How pages are laid out: no word is lost by folding, ids are unique, and wide tables stack on a narrow screen."""

from __future__ import annotations

import pytest
from browser import CHROMIUM, REASON, measured

from mpc_appraisal.reporting.layout import SHORT, Anchors, breakable, folded, label, marked, shape, split, stacks
from mpc_appraisal.reporting.page import Lead, Page, write_page
from mpc_appraisal.reporting.table import Table

SAID = "Seconds, of 3.5 runs, are medians. MB (10^6 bytes) are of all parties. " * 6


def table(columns: int, cell: str, title: str = "A table") -> Table:
    return Table(title, ("method", *(f"column {k}" for k in range(1, columns))), "l" + "r" * (columns - 1),
                 [(cell,) * columns] * 3, (SAID, "Second."))  # fmt: skip


def test_headings_of_one_page_have_different_ids():
    anchor = Anchors()
    assert [anchor(title) for title in ("Table 1: a, b", "Run", "Run", "run", "Run 2", "±")] == [
        "table-1-a-b", "run", "run-2", "run-3", "run-2-2", "section"]  # fmt: skip


@pytest.mark.parametrize("texts", [(), ("Short.",), (SAID,), (SAID, "Second."), ("A. " * 100,), ("x" * 900,)])
def test_folding_loses_no_word_and_shows_one_sentence_at_most_where_text_is_long(texts):
    shown, more = folded(texts)
    assert " ".join([*shown, *more]).split() == " ".join(texts).split()
    assert not more or len(shown) == 1 and split(shown[0])[1] == "" and sum(map(len, texts)) > SHORT
    assert more or sum(map(len, shown)) <= SHORT or len(shown) == 1


def test_a_sentence_ends_where_the_next_one_begins_and_not_within_a_number():
    first = "One private gradient takes 0.5 s."
    assert split(f"{first} Then 27 MB are sent.") == (first, "Then 27 MB are sent.")
    assert split("It takes 0.5 s, e.g. on a phone.") == ("It takes 0.5 s, e.g. on a phone.", "")
    assert label("How fast: 1 s. More: 2.") == ("How fast:", "1 s. More: 2.")
    assert label("One sentence. How fast: 1 s.") == ("", "One sentence. How fast: 1 s.")


def test_what_folds_stays_behind_a_sentence_that_says_something():
    said = "Figure 2. Values against label noise, and the same in the clear."
    assert split(f"{said} Lines are seeds.") == (said, "Lines are seeds.")
    asked = "May a buyer decide by one bit, whether a value reaches a threshold? It errs in 2 of 50 cases."
    assert split(f"{asked} The bits are private.") == (asked, "The bits are private.")


def test_a_long_name_breaks_between_its_words_and_a_number_does_not():
    assert breakable("label_noise=0.1") == "label_<wbr>noise=<wbr>0.1" and breakable("<b>") == "&lt;b&gt;"
    assert marked("off by 1.2e-05 <b>") == 'off by <span class="n">1.2e-05</span> &lt;b&gt;'


def test_tables_stack_by_the_least_width_that_they_need():
    assert stacks(table(3, "1.0")) == "" and stacks(table(6, "1.0")) == "stack"
    assert stacks(table(12, "1.0")) == "stack far" and stacks(table(3, "x" * 60)) == "stack far"
    assert stacks(table(13, "+0.99 ± 0.01")) == "stack far tight" and stacks(table(40, "1.0")) == "stack far tight all"
    assert [shape(cell) for cell in ("0.123", "one or two words", "some words " * 4, "x" * 40)] == [
        "n", "", "long", "long w"]  # fmt: skip


@pytest.fixture
def page(tmp_path):
    shapes = ((13, "+0.99 ± 0.01"), (7, "seller " * 9), (4, "x" * 300), (40, "1.0"))
    main = [table(*shape, f"T{k}") for k, shape in enumerate(shapes)]
    tiles = [("x" * 40, "the best candidate"), ("0.93", "agreement"), ("1.2 s, 4 MB", "in all")]
    return write_page(Page("Title", main, ["Trust."], [table(2, "f" * 64, "Run")], Lead(tiles)), tmp_path)


def test_the_lead_comes_first_and_every_cell_names_its_column(page):
    text, html = (path.read_text(encoding="utf-8") for path in page)
    assert text.startswith(
        f"# Title\n\n| {'x' * 40} | 0.93 | 1.2 s, 4 MB |\n|:---:|:---:|:---:|\n| the best candidate |"
    )
    assert html.index('<div class="lead">') < html.index("<h2") and html.count('<div class="tile">') == 3
    assert html.count("<td") == html.count("<td class=") == html.count("data-label=") == 3 * (13 + 7 + 4 + 40 + 2)
    assert html.count("prefers-color-scheme: dark") == 1 and "color-scheme: light dark" in html


# Only a browser knows how wide a table is drawn. Without one, the test above still checks the labels and classes of
# cells that the layout is made of.
@pytest.mark.skipif(CHROMIUM is None, reason=REASON)
def test_no_table_of_long_cells_is_cut_off(page, tmp_path):
    found = sorted(measured(page[1:], (400, 1200), tmp_path), key=lambda one: one["width"])
    assert [(one["width"], one["tables"], one["cut"]) for one in found] == [(400, 5, []), (1200, 5, [])]
    assert all(one["document"] <= one["width"] for one in found)
