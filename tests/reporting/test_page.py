"""Pages from templates: text of others is no markup in either form, and a misspelt name is an error."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from mpc_appraisal.reporting.page import Page, cell, inert, render, write_page
from mpc_appraisal.reporting.table import Table

FOREIGN = "a <b> | c & d"


def test_foreign_text_is_escaped_in_html_and_stays_in_its_cell_in_markdown(tmp_path):
    table = Table(FOREIGN, ("name", "number"), "lr", [(FOREIGN, "1")], (FOREIGN,))
    text, html = (
        p.read_text() for p in write_page(Page("Title", [table], [FOREIGN], [], trust_title="Words"), tmp_path)
    )
    assert html.count("a &lt;b&gt; | c &amp; d") == 4 and "<b>" not in html and '<h2 id="words">Words<' in html
    assert text == (
        f"# Title\n\n## {FOREIGN}\n\n| name | number |\n|---|---:|\n| a <b> \\| c & d | 1 |\n\n{FOREIGN}\n\n"
        f"## Words\n\n{FOREIGN}\n"
    )


def test_a_value_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        render("card.md.jinja", title="a", subtitle="b")


def test_markdown_filters():
    assert cell("a|b\nc") == "a\\|b c"
    assert inert("www.x.org *a* <b>") == "www\\.x.org \\*a\\* \\<b\\>"
