"""Figures show the values and the costs of the records."""

from __future__ import annotations

from scipy import stats
from test_report import (
    join_records,
    records,
    result,  # noqa: F401  a fixture
)

from mpc_appraisal.reporting.figures import cost_figure, save, values_figure
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result

# ---- Figures


def test_values_figure_draws_the_records(result):
    figure = values_figure(result)
    assert len(figure.axes) == 4  # two methods, against level and against utility
    rows = [r for r in records() if r.method == "influence"]
    rings, crosses = figure.axes[1].lines
    assert list(rings.get_xdata()) == [r.level for r in rows]
    assert list(rings.get_ydata()) == [r.value for r in rows]
    assert list(crosses.get_ydata()) == [r.plaintext_value for r in rows]
    assert list(figure.axes[3].lines[0].get_xdata()) == [r.utility for r in rows]
    rank = stats.spearmanr([r.value for r in rows], [r.level for r in rows])[0]
    assert f"{rank:.3f}" in figure.axes[1].get_title()


def test_values_figure_without_truth_names_the_candidates():
    figure = values_figure(Result(join_records()))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["north_region_customers_…", "b", "c"]
    assert len(axis.lines) == 1 and axis.get_title() == "influence"


def test_cost_figure_is_on_log_scales_and_says_none(result):
    seconds, megabytes = cost_figure(result).axes
    assert seconds.get_xscale() == megabytes.get_xscale() == "log"
    assert list(megabytes.lines[1].get_xdata()) == [r.megabytes for r in records() if r.method == "influence"]
    assert [text.get_text() for text in megabytes.texts] == ["none"] and not seconds.texts


def test_cost_figure_leaves_out_what_was_not_spent():
    clear = [Record("influence", "a", 1.0, seconds={"plaintext": 0.2}), Record("retraining", "a", 1.0)]
    (axis,) = cost_figure(Result(clear)).axes
    assert axis.get_xlabel() == "seconds" and [each.get_text() for each in axis.get_yticklabels()] == ["influence"]


def test_figures_are_the_same_each_time(result, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for place in (first, second):
        place.mkdir()
        png, svg = save(values_figure(result), place, "values")
        assert png.read_bytes().startswith(b"\x89PNG") and b"<svg" in svg.read_bytes()
    assert (first / "values.svg").read_bytes() == (second / "values.svg").read_bytes()
