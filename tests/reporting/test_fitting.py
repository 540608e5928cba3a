"""Tables fit the width of a terminal, and no cell is lost on the way."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mpc_appraisal.reporting.fitting import bands
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import Table

KEYS = ("data", "session", "method")
NUMBERS = tuple(f"seconds of number {k}" for k in range(9))


def wide(rows: int = 4) -> Table:
    """A table of three texts and nine numbers, each cell of which stands nowhere else in it."""
    texts = [(f"set{r}", "plain", ("influence", "gradient_norm")[r % 2]) for r in range(rows)]
    numbers = [tuple(f"{1000 * r + k}.125" for k in range(len(NUMBERS))) for r in range(rows)]
    cells = [text + number for text, number in zip(texts, numbers, strict=True)]
    return Table("Wide", KEYS + NUMBERS, "lll" + "r" * len(NUMBERS), cells, ("A note of some words. " * 9,))


def printed(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_table(table, console)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 97, 120, 200])
def test_no_line_is_longer_than_the_terminal_and_every_number_is_whole(width):
    lines = printed(wide(), width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert all(words.count(cell) == 1 for row in wide().rows for cell in row[len(KEYS) :])


def test_each_band_says_what_its_rows_are_about():
    found = bands(wide(), 80)
    assert len(found) > 1
    for band in found:
        assert {"data", "method"} < set(band.header)  # the session is the same in all rows, and may be left out
        assert [(row[0], row[band.header.index("method")]) for row in band.rows] == [(r[0], r[2]) for r in wide().rows]
    shown = [name for band in found for name in band.header if name not in ("data", "method")]
    assert sorted(set(shown)) == sorted({"session", *NUMBERS}) and len(set(NUMBERS)) == len(NUMBERS)


def test_a_table_that_fits_stays_one_with_its_header_in_one_band():
    assert bands(wide(), 200) == [wide()]
    assert sum(line.startswith("Wide") for line in printed(wide(), 200)) == 1


def test_texts_break_at_words_and_a_long_word_breaks_anywhere():
    table = Table("Texts", ("key", "value"), "ll", [("a" * 12, "one two three " * 9), ("b", "q" * 200)])
    lines = printed(table, 50)
    assert max(map(len, lines)) <= 50 and "".join("".join(lines).split()).count("q") == 200
    assert sum(line.count("three") for line in lines) == 9


def test_a_digest_stays_in_one_line_at_80_columns_and_its_label_breaks():
    digest = "0123456789abcdef" * 4
    rows = [("the counterparty's certificate key", digest), ("answer", "a text that goes on " * 6)]
    lines = printed(Table("Facts", ("what", "value"), "ll", rows, ()), 80)
    assert any(digest in line for line in lines) and max(map(len, lines)) <= 80
