"""Results and reports show answers that are no plain values."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from test_report import (
    TRUST,
    Page,
    result,  # noqa: F401  a fixture
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.figures import values_figure
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.report import print_result, write_report
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import correlations_table, values_table
from mpc_appraisal.reporting.table import DASH

# ---- Answers that are no plain values


def answered(name: str, value=None, to=("model_owner", "data_owner"), method="influence", **release) -> Record:
    stated = {"kind": "value", "to": list(to), "answered": False} | release
    return Record(method, name, value, session="join", rounds=43, trust=TRUST, release=stated)


def answers() -> list[Record]:
    return [
        answered("a", kind="best", winner=True, rank=2),
        answered("b", 0.375, kind="best", winner=True, rank=1),
        answered("c", kind="best", winner=False),
        answered("d", kind="bit", decision=True, method="bit"),
        answered("e", kind="bit", decision=False, method="bit"),
        answered("f", 0.2, kind="dp", low=0.12, high=0.31, epsilon=0.5, method="dp"),
        answered("g", 0.3, answered=True, method="dp"),
        answered("h", to=("data_owner",), method="dp"),
        answered("i", kind="best", winner=True, method="other"),
        answered("j", kind="best", winner=False, method="other"),
    ]


SHOWN = {
    "a": ("winner 2 of 3", DASH),
    "b": ("winner 1 of 3", "0.3750"),
    "c": ("not a winner", DASH),
    "d": ("yes", DASH),
    "e": ("no", DASH),
    "f": ("0.1200 to 0.3100 (95%)", "0.2000"),
    "g": ("0.3000", "0.3000"),
    "h": ("not opened", DASH),
    "i": ("a winner of 2", DASH),
    "j": ("not a winner", DASH),
}
NOTES = ("Yes: the value reached", "Winner: ", "Interval: noise", "to the data owner alone: dp of h.")
NOTES += ("From the ledger's record of an earlier answer, so that nothing was computed: dp of g.",)


def test_answers_have_a_column_and_values_that_were_not_told_a_dash(tmp_path):
    result = Result(answers())
    written = write_report(result, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    rows = [dict(zip(page.tables[0][0], row, strict=True)) for row in page.tables[0][1:]]
    assert {row["candidate"]: (row["answer"], row["private value"]) for row in rows} == SHOWN
    console = Console(file=io.StringIO(), width=120)
    print_result(result, console)
    short = {line.split("  ")[0]: " ".join(line.split()) for line in console.file.getvalue().splitlines()}
    assert short["a"] == "a winner 2 – – –" and short["b"] == "b 0.3750 – – –" and short["c"] == "c not a winner – – –"
    assert short["d"] == "d – yes – –" and short["f"] == "f – – 0.2000 ± 0.095 –" and short["i"] == "i – – – a winner"
    for text in (page.text, (tmp_path / "report.md").read_text(encoding="utf-8"), str(result)):
        assert all(note in text for note in NOTES)
    assert len(written) == 6 and "Bars: the 95% interval" in page.text and "Squares: yes or no" in page.text


def test_plain_values_have_no_column_of_answers():
    plain = Result([answered("a", 0.5), answered("b", 0.25)])
    assert "answer" not in values_table(plain).header
    assert values_table(plain).notes == values_table(Result(dataclasses.replace(r, release=None) for r in plain)).notes
    mixed = Result([*plain, answered("c", kind="bit", decision=True, method="bit"), Record("retraining", "c", 1.0)])
    assert [row[2] for row in values_table(mixed).rows] == ["0.5000", "0.2500", "yes", DASH]


def test_a_long_list_of_names_is_cut():
    many = Result(answered(f"s{k}", to=("data_owner",)) for k in range(50))
    (note,) = [note for note in values_table(many).notes if "alone" in note]
    assert "influence of s5, and 44 more." in note and "s6" not in note


def test_sort_and_best_without_values():
    result = Result(answers())
    assert [r.candidate for r in result.of("influence").sort()] == ["b", "a", "c"]
    assert [r.candidate for r in result.of("bit").sort(descending=False)] == ["e", "d"]
    assert [r.candidate for r in result.of("dp").sort()] == ["g", "f", "h"]
    assert [r.candidate for r in result.of("other").sort()] == ["i", "j"]
    assert result.best("influence").candidate == "b" and result.best("other").candidate == "i"
    ranked = Result([answered("a", kind="best", winner=True, rank=2), answered("b", kind="best", winner=True, rank=1)])
    assert ranked.best("influence").candidate == "b"
    unranked = [answered(name, kind="best", winner=True) for name in "ab"]
    for rows, method in ((answers(), "bit"), (unranked, "influence"), (answers()[2:3], "influence")):
        with pytest.raises(InputError, match="whose best candidate"):
            Result(rows).best(method)
    for name in ("release", "listing", "request", "budget"):
        with pytest.raises(InputError, match="by"):
            result.sort(by=name)


def test_to_frame_has_the_answers(result):
    frame = Result(answers()).to_frame().set_index("candidate")
    assert frame["release.kind"]["f"] == "dp" and frame["release.epsilon"]["f"] == 0.5
    assert (frame["release.low"]["f"], frame["release.high"]["f"]) == (0.12, 0.31)
    assert frame["release.decision"]["d"] is True and frame["release.winner"]["c"] is False
    assert frame["release.rank"]["a"] == 2 and frame["value"].isna().sum() == 7
    assert not {"release", "listing", "request", "budget"} & set(frame)
    assert not any(column.startswith("release") for column in result.to_frame())


def test_correlations_leave_out_what_was_not_told():
    rows = [dataclasses.replace(r, session="spawn", level=k / 10) for k, r in enumerate(answers()[5:8])]
    assert Result(rows).correlations()["dp"]["level"]["spearman"] == pytest.approx(1)
    assert any("do not count" in note for note in correlations_table(Result(rows)).notes)


def test_figures_of_answers(tmp_path):
    figure = values_figure(Result(answers()))
    best, bits, noised, other = figure.axes
    assert list(best.lines[0].get_xdata()) == [1] and list(best.lines[0].get_ydata()) == [0.375]
    assert list(bits.lines[0].get_ydata()) == [1, 0] and list(other.lines[0].get_ydata()) == [1, 0]
    assert [label.get_text() for label in bits.get_yticklabels()] == ["no", "yes"]
    (bars_,) = noised.collections
    assert [segment.tolist() for segment in bars_.get_segments()] == [[[0, 0.12], [0, 0.31]]]
    only = Result(answers()[3:5])
    assert values_figure(only).axes[0].get_ylabel() == "answer"


def test_where_nothing_can_be_drawn_there_is_no_figure(tmp_path):
    hidden = Result([answered("a", to=("data_owner",))])
    assert values_figure(hidden) is None
    written = write_report(hidden, tmp_path)
    assert [path.name for path in written] == ["report.md", "report.html", "costs.png", "costs.svg"]
    assert "values.png" not in (tmp_path / "report.md").read_text(encoding="utf-8")
