"""Reports of the experiments: the committed ones are those of their records, and templates are laid out right."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from figure_texts import unreadable
from matplotlib.figure import Figure

from experiments.__main__ import NAMES
from experiments.harness import page
from experiments.harness.records import read_rows
from experiments.harness.run import main
from experiments.harness.size import Size
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.figures import save

ROOT = Path(__file__).resolve().parents[2]
STEMS = {
    "crypten": ("crypten", "functions", "steps"),
    "engine": ("engine", "rows", "models"),
    "extraction": ("extraction",),
    "inflation": ("inflation",),
    "marketplace": ("marketplace",),
    "relay": ("relay",),
    "relevance": ("relevance",),
}


def words(text: str) -> list[str]:
    """Return the words of an HTML page's body that a reader sees."""
    body = re.sub(r"<(style|head)>.*?</\1>", "", text, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", body)).split()


@pytest.mark.parametrize("name", STEMS)
def test_the_committed_reports_are_those_of_the_committed_records(name, tmp_path, monkeypatch):
    """The two other studies have this test beside their own ones."""
    figures: dict[str, Figure] = {}
    monkeypatch.setattr(
        page, "save", lambda *arguments: save(figures.setdefault(arguments[2], arguments[0]), *arguments[1:])
    )
    for records in (ROOT / "results" / name).glob("*.jsonl"):
        shutil.copy(records, tmp_path)
    import_module(f"experiments.studies.{name}.study").STUDY.render(tmp_path)
    for stem in STEMS[name]:
        shown = (tmp_path / f"{stem}.md").read_text()
        assert shown == (ROOT / "results" / name / f"{stem}.md").read_text()
        found = words((tmp_path / f"{stem}.html").read_text())
        assert found == words((ROOT / "results" / name / f"{stem}.html").read_text())
        for line in shown.splitlines():
            if line.startswith("| "):  # every cell of the Markdown is in the HTML
                assert set(line.replace("|", " ").split()) <= set(found), line
    assert figures and {name: found for name, one in figures.items() if (found := unreadable(one))} == {}


def test_a_text_that_leaves_the_figure_or_lies_on_another_is_found():
    figure = Figure(figsize=(4.0, 2.0))
    left, right = figure.subplots(1, 2)
    left.set_title("in bounds")
    assert unreadable(figure) == []
    right.set_title("a title that is much wider than its panel, and wider than the figure")
    assert len(unreadable(figure)) == 2  # it leaves the figure, and lies on the other title


def test_every_study_has_sizes_parts_and_a_help_text(capsys):
    for name in NAMES:
        study = import_module(f"experiments.studies.{name}.study").STUDY
        assert study.name == name and study.parts and study.summary
        with pytest.raises(SystemExit):
            main([study], [name, "--help"])
        assert "--render-only" in capsys.readouterr().out
        with pytest.raises(SystemExit) as stopped:
            main([study], [name, "--only", "nothing"])
        assert stopped.value.code == 2 and "expected some of" in capsys.readouterr().err
    for name, part in (("appraisal", "sweeps"), ("marketplace", "market"), ("transformations", "tables")):
        small, full = (Size(name, size, 1).settings(part) for size in (True, False))
        assert vars(small).keys() == vars(full).keys() and small != full


def test_the_command_lists_all_studies():
    command = [sys.executable, "-m", "experiments", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()[::2]] == list(NAMES)


def laid_out(text: str) -> list[str]:
    return list(page._blocks(text))


def test_lines_of_a_paragraph_are_joined_and_tables_keep_their_rows():
    text = "## A title\n\nOne\nsentence,  in two lines.\n\n| a | b |\n|---|---:|\n| 1\n  | 2 |\n| 3 | |\n\n\nLast.\n"
    assert laid_out(text) == [
        "## A title",
        "One sentence, in two lines.",
        "| a | b |\n|---|---:|\n| 1 | 2 |\n| 3 |  |",
        "Last.",
    ]
    assert laid_out("| a |\n|---|\n\nNo row.") == ["No row."]


def test_a_page_has_a_lead_sections_figures_with_captions_and_trust():
    blocks = laid_out(
        "# T\n\n| 7 | 8 |\n|:---:|:---:|\n| apples | pears |\n\n![](one.png)\n\nA caption.\n\n## In short\n\nS.\n\n"
        "| a | b |\n|---|---:|\n| x | 1 |\n\nN.\n\n## More\n\n![](two.png)\n\nAnother.\n\n| c |\n|---|\n| y |\n\n"
        "## Trust\n\nNobody.\n\n## Details\n\nD."
    )
    found = page._page("text", blocks)
    assert (found.title, found.figures, found.trust) == (
        "T",
        [("one", "A caption."), ("two", "Another.")],
        ("Nobody.",),
    )
    assert found.tiles == [("7", "apples"), ("8", "pears")]
    (main, more), (details,) = found.main, found.details
    assert (main.header, main.align, main.rows, main.notes) == (("a", "b"), "lr", [("x", "1")], ("S.", "N."))
    assert details.notes == ("D.",) and "![A caption.](one.png)" in list(page._with_captions(blocks))
    assert [kind for kind, _ in found.sections[0].items] == ["said", "table", "notes"]
    assert [kind for kind, _ in found.sections[1].items] == ["figure", "table"] and more.rows == [("y",)]


def test_records_are_read_with_and_without_a_line_about_the_run(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text('{"part": "about", "size": "small"}\n{"part": "a-b", "x": 1}\n')
    about, rows = read_rows(file, {"about": {"size"}, "a": {"x"}})
    assert about["size"] == "small" and rows == [{"part": "a-b", "x": 1}]
    file.write_text('{"x": 1}\n{"x": 2}\n')
    assert read_rows(file, {"": {"x"}}) == ({"x": 1}, [{"x": 1}, {"x": 2}])
    file.write_text("")
    with pytest.raises(InputError, match="r.jsonl without lines"):
        read_rows(file, {"": {"x"}})
