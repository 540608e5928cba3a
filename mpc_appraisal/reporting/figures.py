"""Figures of a run: values against the truth, and costs.

The records of one run go in; matplotlib figures, and PNG and SVG files come out. The truth is a candidate's level, the
corruption that a scenario put into it, or its utility, the fall of the test loss by retraining with it. No display is
needed. Colours, sizes and labels may change. The same figure has to give the same SVG, so that files can be compared.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.result import Result
from mpc_appraisal.reporting.result_tables import yes_or_no

BLUE, ORANGE, GREY = "#2563a8", "#d9730d", "#6b7280"


class NotebookFigure(Figure):
    """A figure that shows itself in a notebook, whether or not pyplot was imported there."""

    def _repr_png_(self) -> bytes:
        drawn = io.BytesIO()
        self.savefig(drawn, format="png", dpi=100)
        return drawn.getvalue()


def values_figure(result: Result) -> Figure | None:
    """Draw values, with a column of panels for each method. Return None if there is nothing to draw.

    The upper panel has the value against level, or against the candidate if levels are not known. The lower panel has
    the value against utility, as far as it is known. The two panels of one method stand side by side. Rings are the
    method's values and crosses are the same in the clear; titles give Spearman's rank correlation of the rings. Bars
    are the intervals that noise leaves, or the intervals by the bootstrap. A method that released only decisions or
    winners has a row of squares for yes and a row for no. Baselines are drawn only if there is nothing else.
    """
    drawable = [m for m in result.methods if any(_drawable(r) and not r.error for r in result.of(m))]
    methods = [m for m in drawable if not result.of(m)[0].baseline] or drawable
    if not methods:
        return None
    truth = [m for m in methods if any(r.utility is not None for r in result.of(m))]
    rows, columns = 1 + bool(truth), len(methods)
    leveled = all(r.level is not None for r in result)
    names = max((len(r.candidate) for r in result), default=0)
    panel = 4.0 if leveled else max(4.0, 0.32 * len(result.candidates) + 1.2)
    extra = 0 if leveled else min(2.0, 0.06 * names)  # inches for the names under the axis
    across, down = (rows, 1) if columns == 1 else (columns, rows)
    figure = NotebookFigure(figsize=(max(5.0, panel * across), 3.4 * down + 0.5 + extra), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False)
    axes = panels.T if columns == 1 else panels
    found = result.correlations()
    for column, method in enumerate(methods):
        records = list(result.of(method))
        upper = axes[0][column]
        if leveled:
            places = [r.level for r in records]
            upper.set_xlabel("level of corruption")
        else:
            places = list(range(len(records)))
            upper.set_xticks(
                places,
                [_short(r.candidate) for r in records],
                rotation=40,
                ha="right",
                rotation_mode="anchor",
                fontsize=8,
            )
        _points(upper, places, records, result)
        upper.set_title(_title(method, found[method]["level"]["spearman"], "level"), fontsize=10)
        if truth:
            lower = axes[1][column]
            known = [r for r in records if r.utility is not None]
            _points(lower, [r.utility for r in known], known, result)
            measured = next((r.metric for r in known if r.metric is not None), "test loss")
            lower.set_xlabel(f"true utility (fall of {_short(measured)})")
            lower.xaxis.set_major_locator(MaxNLocator(5))
            lower.set_title(_title(method, found[method]["utility"]["spearman"], "utility"), fontsize=10)
    for row in axes:
        row[0].set_ylabel("answer" if yes_or_no(result.of(methods[0])) else "value (higher is better)")
    handles: dict[str, object] = {}
    for axis in axes.flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def cost_figure(result: Result) -> Figure:
    """Draw seconds and MB sent on log scales, with a dot for each candidate, and "none" if nothing was spent.

    A method whose records state no cost has no row, and MB are left out where nothing was sent at all.
    """
    spending = [m for m in result.methods if any(r.seconds or r.bytes_sent for r in result.of(m))]
    methods = spending or result.methods
    shown = [("total_seconds", "seconds"), ("megabytes", "MB sent by all parties")]
    shown = shown if any(record.bytes_sent for record in result) else shown[:1]
    figure = Figure(figsize=(9.0, 1.5 + 0.42 * len(methods)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, (key, label) in zip(panels, shown, strict=True):
        spent = {m: [getattr(r, key) for r in result.of(m) if getattr(r, key) > 0] for m in methods}
        for place, method in enumerate(methods):
            private = any(r.session != "plain" for r in result.of(method))
            axis.plot(
                spent[method],
                [place] * len(spent[method]),
                "o",
                color=BLUE if private else GREY,
                alpha=0.6,
                markeredgewidth=0,
            )
            if not spent[method]:
                axis.text(0.02, place, "none", transform=axis.get_yaxis_transform(), va="center", color=GREY)
        if any(spent.values()):
            axis.set_xscale("log")
            everything = [v for values in spent.values() for v in values]
            low, high = min(everything) / 3, max(everything) * 3
            axis.set_xlim(low, high)
            if high / low < 1e3:  # two decades or less: plain numbers at 1, 2 and 5
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set_xticks([])
        axis.set_yticks(range(len(methods)), methods)
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_xlabel(label)
        plain(axis)
    return figure


def save(figure: Figure, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write <name>.png and <name>.svg, and return both paths. The same figure gives the same SVG."""
    png, svg = Path(folder) / f"{name}.png", Path(folder) / f"{name}.svg"
    figure.savefig(png, dpi=130)
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, metadata={"Date": None})
    return png, svg


def _drawable(record: Record) -> bool:
    """Return whether the record has a value or an answer."""
    return any(x is not None for x in (record.value, record.plaintext_value, record.decision, record.winner))


def _points(axis: Axes, places: Sequence[float], records: Sequence[Record], result: Result) -> None:
    """Draw the records of one method at their places on the horizontal axis."""
    if yes_or_no(records):
        answers = [r.winner if r.decision is None else r.decision for r in records]
        known = [(p, int(a)) for p, a in zip(places, answers, strict=True) if a is not None]
        axis.plot(*zip(*known, strict=True), "s", color=BLUE, markersize=8, label="answer")
        axis.set_yticks([0, 1], ["no", "yes"])
        axis.set_ylim(-0.5, 1.5)
        plain(axis)
        return
    intervals = [(p, *r.interval) for p, r in zip(places, records, strict=True) if r.interval]
    if intervals:
        axis.vlines(*zip(*intervals, strict=True), color=BLUE, linewidth=1.4, label="95% of the noise")
    margins = [(p, r.value, m) for p, r in zip(places, records, strict=True) if (m := result.margin(r)) is not None]
    if margins:
        ends = [(place, value - margin, value + margin) for place, value, margin in margins]
        axis.vlines(*zip(*ends, strict=True), color=GREY, linewidth=1.4, label="95% interval")
    values = [(p, r.value) for p, r in zip(places, records, strict=True) if r.value is not None]
    if values:
        private = any(r.session != "plain" for r in records)
        axis.plot(
            *zip(*values, strict=True),
            "o",
            color=BLUE if private else GREY,
            markersize=10,
            markeredgewidth=1.6,
            markerfacecolor="none",
            label="private value" if private else "value, in the clear",
        )
    clear = [(p, r.plaintext_value) for p, r in zip(places, records, strict=True) if r.plaintext_value is not None]
    if clear:
        axis.plot(
            *zip(*clear, strict=True),
            "x",
            color=ORANGE,
            markersize=6,
            markeredgewidth=1.6,
            label="the same in plaintext",
        )
    axis.margins(0.08)
    axis.ticklabel_format(axis="y", scilimits=(-4, 6), useOffset=False)
    plain(axis)


def plain(axis: Axes) -> None:
    """Draw a faint grid, and no frame on the right and at the top."""
    axis.grid(True, color="#e5e7eb", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _title(method: str, rank: float | None, reference: str) -> str:
    return method if rank is None else f"{method}\nrank correlation with {reference} {rank:.3f}"


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
