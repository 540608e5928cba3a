"""One picture: for every protocol, what it costs against what its best attack here recovers, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.studies.transformations.protocols import Protocol


def drawing(every: Sequence[Protocol]) -> Figure | None:
    """Draw the one picture; None if no cost is known."""
    shown = [p for p in every if p.cost and p.attack]
    if not shown:
        return None
    figure = blank(10.0, 5.6)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0.09, 0.12, 0.88, 0.83))
    ratios = [p.cost.ratio for p in shown]
    axis.set(xscale="log", xlim=(min(ratios) / 4, max(ratios) * 6), ylim=(-0.3, 1.35),
             xlabel="seconds, to those of the same operation in the clear",
             ylabel="recovered by the best attack here, above chance")  # fmt: skip
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0\na guess", "0.25", "0.5", "0.75", "1\nall"])
    plain(axis)
    axis.plot(ratios, [p.attack.above for p in shown], linestyle="none")
    for p in shown:
        axis.plot(p.cost.ratio, p.attack.above, "o", markersize=10, color=_colour(p), markeredgecolor="white",
                  zorder=4 if p.key == "fast" else 3)  # fmt: skip
    place_labels(axis, shown)
    return figure


def _colour(protocol: Protocol) -> str:
    return BLUE if protocol.key == "fast" else GREY if protocol.attack.above == 0 else ORANGE


def place_labels(axis: Axes, shown: Sequence[Protocol]) -> list[Annotation]:
    """Put labels beside the points, at the nearest place where no label or line covers another or a point."""
    renderer = axis.figure.canvas.get_renderer()
    frame, found, boxes, lines = axis.get_window_extent(renderer), [], [], []
    places = [axis.transData.transform((p.cost.ratio, p.attack.above)) for p in shown]
    points = [Bbox.from_bounds(x - 9, y - 9, 18, 18) for x, y in places]
    for p, at in sorted(zip(shown, places, strict=True), key=lambda each: each[0].cost.ratio):
        label = axis.annotate(
            f"{p.name}\n{p.attack.name}", (p.cost.ratio, p.attack.above), (0, 0), textcoords="offset points",
            ha="center", va="center", fontsize=9, color="0.15", zorder=5, linespacing=1.25,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5},
        )  # fmt: skip
        apart = [other for other in points if not other.contains(*at)]
        best = None
        for offset in _offsets(text_box(label, renderer)):
            label.set_position(offset)
            box = text_box(label, renderer).padded(3)
            line = np.linspace(at, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), 40)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            covered = sum(box.overlaps(other) for other in points + boxes) + (not inside)
            crossed = sum(_meets(line, other) for other in apart + boxes) + sum(_meets(other, box) for other in lines)
            faults = (covered, crossed, abs(offset[0]) / 2 + abs(offset[1]))
            if best is None or faults < best[0]:
                best = faults, offset, box, line
        label.set_position(best[1])
        boxes.append(best[2])
        lines.append(best[3])
        found.append(label)
    return found


def _meets(line: np.ndarray, box: Bbox) -> bool:
    """Tell whether some of the points of a line, (n, 2) in pixels, are in the box."""
    return bool(((line > box.min) & (line < box.max)).all(axis=1).any())


def text_box(label: Annotation, renderer: RendererBase) -> Bbox:
    """Return the box of the words alone, in pixels: an annotation's own box has its line in it."""
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)


def _offsets(size: Bbox) -> list[tuple[float, float]]:
    """Return places in points, around a point that the label must not cover."""
    half = size.width / 2
    return [(side * (half + 14) * step, dy) for side in (-1, 0, 1) for step in (0.75, 1) for dy in range(-150, 151, 15)
            if abs(dy) >= 30 or abs(side * (half + 14) * step) > half + 10]  # fmt: skip
