"""Figures 2 to 5."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.harness.plots import BLUE, GREY, INK, ORANGE, blank, heat_map, plain
from experiments.harness.records import Row
from experiments.studies.appraisal.tables import METHODS, grid, panels, pick, planes, pooled, spent
from mpc_appraisal.reporting.metrics import rank_of
from mpc_appraisal.reporting.table import DASH, number

TITLES = {"gradient_norm": "gradient norm", "finetuning": "fine-tuning", "influence": "influence"}


def values_figure(rows: Sequence[Row]) -> Figure:
    """Draw figure 2: values and test-loss reduction against label noise (MNIST) and class balance (CIFAR-10)."""
    figure = blank(13.0, 6.2)
    axes = figure.subplots(2, 4)
    for line, part, label in ((axes[0], "noise", "label noise"), (axes[1], "mismatch", "share of planes (class 0)")):
        for axis, (method, title) in zip(line, TITLES.items(), strict=False):
            kept = [row for row in pick(rows, part, method) if None not in row["value"]]
            _lines(axis, kept, part, "value", title)
        _lines(line[3], pick(rows, part, "influence"), part, "utility", "test-loss reduction, retrained")
        for axis in line:
            axis.set_xlabel(label)
        line[0].set_ylabel("value (higher is better)")
    return figure


def _lines(axis: Axes, rows: Sequence[Row], part: str, key: str, title: str) -> None:
    axis.set_title(title, fontsize=10)
    if not rows:
        axis.text(0.5, 0.5, "not appraised here", transform=axis.transAxes, ha="center", color="#6b7280")
        axis.set_axis_off()
        return
    places = rows[0]["level"] if part == "noise" else planes(rows[0])
    values = np.array([row[key] for row in rows], dtype=float)
    for line in values:
        axis.plot(places, line, color=BLUE, linewidth=0.7, alpha=0.45)
    middle, off = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(places))
    axis.fill_between(places, middle - off, middle + off, color=BLUE, alpha=0.15, linewidth=0)
    axis.plot(places, middle, color=BLUE, linewidth=2)
    if key == "value":
        clear = np.array([row["plaintext"] for row in rows], dtype=float).mean(0)
        axis.plot(places, clear, "x", color=ORANGE, markersize=5)
    axis.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    plain(axis, below=False)


def costs_figure(rows: Sequence[Row]) -> Figure:
    """Draw figure 3: runtime of each method, its plaintext part and its encrypted part."""
    figure = blank(8.5, 2.9)
    axis, place, places, everything = figure.subplots(), 0, [], []
    for method in METHODS:
        for name, values, colour in zip(("plaintext", "encrypted"), spent(rows, method), (GREY, BLUE), strict=True):
            if values:
                axis.barh(place, median(values), height=0.75, color=colour)
                axis.plot([min(values), max(values)], [place, place], color=INK, linewidth=1.2)
                axis.annotate(f"{number(median(values), 3)} s", (max(values), place), (5, 0),
                              textcoords="offset points", va="center", fontsize=9)  # fmt: skip
                everything += values
            places.append((place, f"{method.replace('_', ' ')}, {name}"))
            place += 1
        place += 0.5
    axis.set_yticks([p for p, _ in places], [text for _, text in places])
    axis.invert_yaxis()
    axis.set_xscale("log")
    if everything:
        axis.set_xlim(min(everything) / 2.5, max(everything) * 2.5)
    axis.set_xlabel("seconds, logarithmic")
    axis.tick_params(axis="y", length=0)
    plain(axis, grid=None, sides=("top", "right", "left"))
    return figure


def grid_figure(rows: Sequence[Row]) -> Figure:
    """Draw figure 4: fine-tuning over steps and rates, its correlation with utility and its runtime."""
    found = dict(reversed(grid(rows).items()))
    cells, steps = [list(line.values()) for line in found.values()], list(next(iter(found.values())))
    figure = blank(11.0, 1.2 + 0.62 * len(cells))
    left, right = figure.subplots(1, 2)
    shown, _, seconds = np.array(cells, dtype=float).transpose(2, 0, 1)
    first = heat_map(left, shown, cmap="viridis", vmin=-1, vmax=1)
    known = seconds[np.isfinite(seconds)]
    low, high = (known.min() / 1.05, known.max() * 1.05) if known.size else (0.1, 1.0)
    second = heat_map(right, seconds, cmap="RdYlBu_r", norm=LogNorm(low, high))
    for y, line in enumerate(cells):
        for x, (private, clear, spent_) in enumerate(line):
            middle = {"ha": "center", "va": "center", "fontsize": 9}
            if private is not None:
                left.text(x, y, f"{private:.2f}", color="white" if private < 0.4 else "black", **middle)
            elif clear is not None:
                for axis in (left, right):
                    axis.fill_between([x - 0.5, x + 0.5], y - 0.5, y + 0.5, facecolor="#f3f4f6", edgecolor="#9aa5b1",
                                      hatch="////", linewidth=0)  # fmt: skip
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
                left.text(x, y, f"({clear:.2f})", bbox=box, **middle)
            if spent_ is not None:
                right.text(x, y, f"{spent_:.2g}" if spent_ < 10 else f"{spent_:.0f}", **middle)
    for axis, title in ((left, "correlation with true utility"), (right, "private seconds of a candidate")):
        axis.set_xticks(range(len(steps)), [str(each) for each in steps])
        axis.set_yticks(range(len(found)), [f"{rate:g}" for rate in found])
        axis.set_xlabel("steps")
        axis.set_ylabel("rate")
        axis.set_title(title, fontsize=10)
    figure.colorbar(first, ax=left)
    figure.colorbar(second, ax=right)
    return figure


def ranks_figure(rows: Sequence[Row]) -> Figure:
    """Draw figure 5: ranks of influence against ranks of true utility and of test accuracy."""
    figure, dots = blank(13.0, 3.7), None
    for axis, one in zip(figure.subplots(1, 4), panels(rows), strict=True):
        shares = [min(share, 1 - share) for row in one["rows"] for share in planes(row)]
        ranks = [rank_of(pooled(one["rows"], key)) for key in (one["against"], "value")]
        dots = axis.scatter(*ranks, c=shares, s=18, cmap="viridis", vmin=0, vmax=0.5)
        shown = DASH if one["private"] is None else f"{one['private']:+.3f}"
        axis.set_title(f"({one['panel']}) measured {shown}\npublished {one['published']:+.3f}", fontsize=10)
        axis.set_xlabel(f"rank of {one['against'] if one['against'] == 'utility' else 'test accuracy'}")
        plain(axis, sides=())
    figure.axes[0].set_ylabel("rank of influence value")
    figure.colorbar(dots, ax=figure.axes, label="share of the rarer class")
    return figure
