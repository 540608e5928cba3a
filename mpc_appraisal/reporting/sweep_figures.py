"""Figures of a sweep, each with a band over seeds: agreement by condition, and values by level of corruption.

The frames of `sweep_tables` go in; matplotlib figures come out, which `figures.save` writes. A band and a bar reach one
standard deviation over seeds to either side of the mean. No display is needed. Colours, sizes and labels may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpc_appraisal.reporting.figures import GREY, plain

if TYPE_CHECKING:
    from pandas import DataFrame

# Okabe and Ito's colours, which people who do not tell red from green tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b7280", "#000000")
MARKS = "osD^vPX*"
MOST = len(COLOURS)  # curves of one panel; a figure of more could not be read
MOST_PANELS = 6
MOST_LINES = 24
LINE = 0.2  # inches that a line of a legend takes


def agreement_figure(summary: DataFrame, names: Sequence[str], baselines: Sequence[str] = ()) -> Figure | None:
    """Draw the mean agreement of each method by condition, with bars, or with a band along one numeric setting.

    Return None where no agreement is known. summary, names: what `summary_table` and `prepared` return. baselines: the
    methods that have a dashed line without a band.
    """
    known = summary[summary["agreement_mean"].notna()]
    methods = list(known["method"].unique())[:MOST]
    if not methods:
        return None
    numbers = _numbers(known[names[0]]) if len(names) == 1 else None
    conditions = list(dict.fromkeys(_condition(row, names) for row in known.to_dict("records")))
    places = numbers or list(range(len(conditions)))
    figure = Figure(figsize=(7.5, 3.8 + (0 if numbers else 0.05 * max(map(len, conditions)))), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for k, method in enumerate(methods):
        rows = known[known["method"] == method]
        own = [_condition(row, names) for row in rows.to_dict("records")]
        at = [places[conditions.index(one)] for one in own]
        _curve(axis, at, rows["agreement_mean"], rows["agreement_sd"], method, k, numbers is not None, len(methods))
        if method in baselines and numbers:
            axis.collections[-1].remove()
            axis.lines[-1].set(color=GREY, linestyle="--", marker="")
    axis.axhline(0, color="#9aa5b1", linewidth=0.8)
    mean, off = known["agreement_mean"].astype(float), known["agreement_sd"].astype(float).fillna(0)
    low, high = (mean - off).min(), (mean + off).max()  # a bar may pass 1, and has to be seen whole
    axis.set_ylim(min(-1.08, low - 0.05) if low < 0 else -0.04, max(1.08, high + 0.05))
    axis.set_ylabel("agreement with the truth")
    if numbers:
        axis.set_xlabel(names[0])
        if min(numbers) > 0 and max(numbers) / min(numbers) >= 9:
            axis.set_xscale("log")
    else:
        many = len(conditions) > 3
        axis.set_xticks(places, conditions, rotation=25 if many else 0, ha="right" if many else "center", fontsize=8)
        axis.set_xlim(-0.6, len(conditions) - 0.4)
    axis.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    plain(axis)
    return figure


def levels_figure(levels: DataFrame, names: Sequence[str], baselines: Sequence[str]) -> Figure | None:
    """Draw the mean value by level, a panel for each method and a curve with its band for each condition.

    Return None where no level is known. levels: what `levels_table` returns; baselines: methods to leave out.
    """
    methods = [one for one in levels["method"].unique() if one not in baselines][:MOST_PANELS]
    if not methods:
        return None
    columns = min(2, len(methods))
    rows = -(-len(methods) // columns)
    conditions = min(MOST, len(levels[list(names)].drop_duplicates())) if names else 0
    legend = LINE * len(names) * -(-conditions // 2)
    figure = Figure(figsize=(max(5.0, 3.8 * columns), 2.9 * rows + 0.5 + legend), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, method in zip(axes, methods, strict=False):
        own = levels[levels["method"] == method]
        grouped = own.groupby(list(names), sort=False) if names else [((), own)]
        for k, (_, curve) in enumerate(list(grouped)[:MOST]):
            curve = curve.sort_values("level")
            label = _condition(curve.iloc[0], names)
            _curve(axis, curve["level"], curve["value_mean"], curve["value_sd"], label, k, True, 1)
        axis.set_title(method, fontsize=10)
        axis.set_xlabel("level of corruption")
        axis.ticklabel_format(axis="y", scilimits=(-4, 6), useOffset=False)
        plain(axis)
    for axis in axes[len(methods) :]:
        axis.set_axis_off()
    figure.axes[0].set_ylabel("value (higher is better)")
    handles = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
    if names:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def comparison_figure(rows: DataFrame, names: Sequence[str]) -> Figure | None:
    """Draw the agreement of two sweeps, a line for each method and condition: a ring for A, and a dot for B.

    Return None where no agreement is known. rows: what `sweep_compare.side_by_side` returns, of which the first
    MOST_LINES that have an agreement are drawn.
    """
    known = rows[rows["agreement_mean_a"].notna() | rows["agreement_mean_b"].notna()].head(MOST_LINES)
    if not len(known):
        return None
    figure = Figure(figsize=(7.5, 1.2 + 0.32 * len(known)), layout="constrained")
    FigureCanvasAgg(figure)
    axis, places = figure.subplots(), range(len(known))
    axis.hlines(places, known["agreement_mean_a"], known["agreement_mean_b"], color=GREY, linewidth=1.2)
    axis.plot(known["agreement_mean_a"], places, "o", color=COLOURS[0], markerfacecolor="none", markersize=9, label="A")
    axis.plot(known["agreement_mean_b"], places, "o", color=COLOURS[1], markersize=5, label="B")
    labels = (
        (row["method"], *(f"{name.rsplit('.', 1)[-1]}={row[name]}" for name in names)) for _, row in known.iterrows()
    )
    axis.set_yticks(places, [", ".join(parts) for parts in labels])
    axis.set_ylim(len(known) - 0.5, -0.5)
    axis.set_xlim(-1.08, 1.08)
    axis.set_xlabel("agreement with the truth")
    axis.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0))
    plain(axis)
    return figure


def _curve(axis: Axes, places: Sequence[float], means, deviations, label: str, k: int, band: bool, of: int) -> None:
    """Draw one curve with its band, or points with bars side by side. k: the number of the curve among `of`."""
    means, off = means.astype(float).to_numpy(), deviations.astype(float).fillna(0).to_numpy()
    colour, mark = COLOURS[k % MOST], MARKS[k % len(MARKS)]
    if band:
        order = sorted(range(len(places)), key=list(places).__getitem__)
        at = [list(places)[i] for i in order]
        axis.plot(at, means[order], f"{mark}-", color=colour, label=label, markersize=5, linewidth=1.6)
        axis.fill_between(at, (means - off)[order], (means + off)[order], color=colour, alpha=0.15, linewidth=0)
        return
    at = [place + 0.7 * ((k + 0.5) / of - 0.5) for place in places]
    axis.errorbar(at, means, off, fmt=mark, color=colour, label=label, markersize=6, capsize=3, linewidth=1.4)


def _numbers(texts: Sequence[str]) -> list[float] | None:
    """Return the different texts as numbers, in their order; None where one is none, or for one alone."""
    try:
        found = [float(text) for text in dict.fromkeys(texts)]
    except ValueError:
        return None
    return found if len(found) >= 2 else None


def _condition(row, names: Sequence[str]) -> str:
    return "\n".join(f"{name.rsplit('.', 1)[-1]}={row[name]}" for name in names) or "all runs"
