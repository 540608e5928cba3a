"""The table of CrypTen's own tests on the page for CrypTen programs is that of the committed records."""

from __future__ import annotations

import re

from processes import ROOT

from experiments.studies.crypten.study import STUDY


def test_the_page_has_the_table_of_the_committed_report(tmp_path):
    (tmp_path / "crypten.jsonl").write_bytes((ROOT / "results" / "crypten" / "crypten.jsonl").read_bytes())
    (page,) = STUDY.render(tmp_path)
    (table,) = [found for found in page.main if found.title == "By file"]
    text = (ROOT / "docs" / "crypten.md").read_text(encoding="utf-8")
    rows = [tuple(cell.strip() for cell in line.strip("|\n ").split("|")) for line in text.splitlines()]
    shown = [row for row in rows if re.fullmatch("test_[a-z_]+|all", row[0])]
    assert shown == [tuple(row) for row in table.rows]
