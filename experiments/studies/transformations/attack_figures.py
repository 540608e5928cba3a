"""Figures of the attacks on RTAS, from their rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from experiments.harness.plots import BLUE, GREEN, GREY, ORANGE, blank, plain, show_images
from experiments.harness.records import Row
from mpc_appraisal.attacks.rtas.float_drift import expected


def drawings(rows: Sequence[Row]) -> dict[str, Figure]:
    names = ("transformations-helper", "transformations-known-rows", "transformations-float-drift")
    return {name: draw(rows) for name, draw in zip(names, (_helper, _known, _drift), strict=True)} if rows else {}


def _of(rows: Sequence[Row], attack: str, key: str = "points") -> list[Row]:
    return [row for row in rows if row["attack"] == attack and row.get(key)]


def _helper(rows: Sequence[Row]) -> Figure:
    figure = blank(13.5, 4.2)
    left, middle, right = axes = figure.subplots(1, 3)
    (row,) = _of(rows, "histogram: gradient-norm appraisal")
    for name, colour, mark in (("missing data", BLUE, "o"), ("label noise", ORANGE, "^")):
        of = [p for p in row["points"] if p["scenario"] == name]
        rho = row["recovered"] if name == "missing data" else row["stopped"]
        left.plot([p["value"] for p in of], [p["predicted value"] for p in of], mark, color=colour, markersize=5,
                  label=f"{name}: rank correlation {rho:.2f}")  # fmt: skip
    left.set(title="(a) appraisals, predicted by the helper", xlabel="appraisal", ylabel="predicted")
    left.legend(frameon=False, fontsize=9, loc="upper left")
    low, high = left.get_ylim()
    left.set_ylim(low, high + 0.22 * (high - low))  # room for the legend
    for row, style, colour in zip(_of(rows, "linking"), ("o-", "s-", "^-"), (BLUE, GREEN, GREY), strict=True):
        _curve(middle, row["points"], "epoch", "linked", style, colour, row["setting"].split(";")[0])
    middle.set(title="(b) rows linked across epochs", xlabel="epoch, with the next", ylabel="share linked rightly")
    middle.set_ylim(-0.03, 1.35)
    (row,) = _of(rows, "membership")
    for part, colour in zip(row["points"], (BLUE, GREY, ORANGE), strict=True):
        right.plot(part["distances"], np.linspace(0, 1, len(part["distances"])), color=colour, label=part["of"])
    right.axvline(row["tolerance"], ymax=1 / 1.35, color="0.3", linestyle=":")
    right.set(title="(c) is it in the batch?", xlabel="distance to the nearest seen row", xscale="log", ylim=(0, 1.35),
              ylabel="share of examples")  # fmt: skip
    for axis in (middle, right):
        axis.set_yticks(np.linspace(0, 1, 6))
        axis.legend(frameon=False, fontsize=9, loc="upper left")
    plain(*axes)
    return figure


def _curve(axis: Axes, points: Sequence[Row], x: str, y: str, style: str, colour: str, label: str) -> None:
    axis.plot([p[x] for p in points], [p[y] for p in points], style, color=colour, markersize=5, label=label)


def _known(rows: Sequence[Row]) -> Figure:
    figure = blank(11.5, 5.0)
    curves, images = figure.subfigures(1, 2, width_ratios=(1.35, 1))
    axis = curves.subplots()
    for row, colour in zip(_of(rows, "known rows"), (GREY, BLUE, ORANGE, GREEN), strict=False):
        _curve(axis, row["points"], "known", "explained", "o-", colour, f"m = {row['outputs']}")
        axis.axhline(row["outputs"] / row["features"], color=colour, linestyle=":")
    axis.set(xscale="log", ylim=(0, 1.02), xlabel="known rows", ylabel="share of variance explained")
    axis.legend(frameon=False, fontsize=9, title="outputs of the layer", loc="upper left")
    plain(axis)
    (row,) = _of(rows, "known rows", "images")
    _gallery(images, row["images"], row["side"])
    return figure


def _drift(rows: Sequence[Row]) -> Figure:
    figure = blank(11.5, 4.2)
    curves, images = figure.subfigures(1, 2, width_ratios=(1.8, 1))
    axis, found = curves.subplots(), _of(rows, "float drift")
    for row, colour in zip(found, (BLUE, ORANGE, GREEN), strict=True):
        times = [p["sharings"] for p in row["points"]]
        line = np.geomspace(times[0], times[-1], 60)
        axis.plot(line, [expected(row["factor"], 1, count) for count in line], "-", color=colour, alpha=0.6)
        axis.plot(times, [p["measured"] for p in row["points"]], "o", color=colour, label=f"{row['factor']} x")
    axis.plot(times, [p["ring"] for p in found[0]["points"]], "x--", color=GREY, label="ring")
    axis.set(xscale="log", xlabel="sharings of the same data", ylabel="correlation with the data", ylim=(-0.08, 1.04))
    axis.legend(frameon=False, fontsize=9, title="mask to data", loc="center left", bbox_to_anchor=(1.0, 0.5))
    plain(axis)
    (row,) = _of(rows, "float drift", "images")
    _gallery(images, {f"T = {int(count):,}": of for count, of in row["images"].items()}, row["side"])
    return figure


def _gallery(figure: SubFigure, images: dict[str, list[str]], side: int) -> None:
    """Draw a line of images for each name, from bytes in hexadecimal; the values of a line are stretched alike."""
    grid = figure.subplots(len(images), max(map(len, images.values())), squeeze=False)
    pixels = {name: np.frombuffer(bytes.fromhex("".join(of)), np.uint8) for name, of in images.items()}
    strips = {name.replace(", ", ",\n"): of.reshape(-1, side, side) for name, of in pixels.items()}
    show_images(grid, strips, 9, cmap="gray_r", vmin=0, vmax=255)
