"""What the studies' figures have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from mpc_appraisal.reporting import figures

BLUE, ORANGE, GREY = figures.BLUE, figures.ORANGE, figures.GREY
GREEN, PURPLE, INK = "#2f855a", "#8b5cf6", "#1c2430"


def blank(width: float, height: float) -> Figure:
    """Return an empty figure, its size in inches, that is drawn without a display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(*axes: Axes, grid: str | None = "both", below: bool = True, sides: Sequence[str] = ("top", "right")) -> None:
    """Draw a light grid along `grid`, under the data if `below`, and leave out the frame at `sides`."""
    for axis in axes:
        if grid:
            axis.grid(True, axis=grid, color="#e5e7eb", linewidth=0.8)
        if grid and below:
            axis.set_axisbelow(True)
        for side in sides:
            axis.spines[side].set_visible(False)


def logarithmic(axis: Axes, places: Sequence[int]) -> None:
    """Make the x axis logarithmic, with ticks at these places alone."""
    axis.set_xscale("log")
    axis.set_xticks(places, [f"{place:,}" for place in places])
    axis.minorticks_off()


def heat_map(axis: Axes, cells: Sequence[Sequence[float]], **look) -> QuadMesh:
    """Fill a cell for each number, the first line on top, with cell (x, y) around the point (x, y).

    The cells are drawn as shapes and not as pixels, so that a page on a dark screen turns the figure round.
    """
    lines, columns = len(cells), len(cells[0])
    edges = [[k - 0.5 for k in range(count + 1)] for count in (columns, lines)]
    mesh = axis.pcolormesh(*edges, np.asarray(cells, dtype=float), edgecolors="face", linewidth=0.3, **look)
    axis.set_ylim(lines - 0.5, -0.5)
    return mesh


def without_ticks(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def show_images(grid: Sequence[Sequence[Axes]], strips: Mapping[str, Iterable], size: float, **look) -> None:
    """Show a line of images for each name, which stands on the left in letters of `size`."""
    for line, (name, images) in zip(grid, strips.items(), strict=True):
        for axis, pixels in zip(line, images, strict=True):
            axis.imshow(pixels, **look)
            without_ticks(axis)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=size)
