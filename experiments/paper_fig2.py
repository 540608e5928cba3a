"""Figure 2: values and test-loss reduction against label noise (MNIST) and class balance (CIFAR-10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bench_page import Drawing, blank
from matplotlib.axes import Axes
from paper_fig5 import planes
from paper_measure import Row, pick

from mpc_appraisal.reporting.figures import BLUE, ORANGE

CAPTION = (
    "Figure 2. Values, and test-loss reduction by retraining, against label noise (top) and class balance (bottom). "
    "Thin lines: one seed each, private values; thick line and band: mean and deviation over seeds; crosses: the mean "
    "of the same values in plaintext. Higher is better data; each method has a unit of its own."
)
PANELS = (("gradient_norm", "gradient norm"), ("finetuning", "fine-tuning"), ("influence", "influence"))


def drawing(rows: Sequence[Row]) -> Drawing:
    figure = blank(13.0, 6.2)
    axes = figure.subplots(2, 4)
    for line, part, label in ((axes[0], "noise", "label noise"), (axes[1], "mismatch", "share of planes (class 0)")):
        for axis, (method, title) in zip(line, PANELS, strict=False):
            kept = [row for row in pick(rows, part, method) if None not in row["value"]]
            _panel(axis, kept, part, "value", title)
        _panel(line[3], pick(rows, part, "influence"), part, "utility", "test-loss reduction, retrained")
        for axis in line:
            axis.set_xlabel(label)
        line[0].set_ylabel("value (higher is better)")
    return Drawing("paper-figure2", CAPTION, figure)


def _panel(axis: Axes, rows: Sequence[Row], part: str, key: str, title: str) -> None:
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
    axis.grid(True, color="#e5e7eb", linewidth=0.8)
    axis.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
