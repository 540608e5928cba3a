"""Labels beside the points of a figure, at the nearest places where none covers another label, a line or a point.

Points with texts go in; annotations that are placed come out. The distances may change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox


def labels_beside(axis: Axes, points: Sequence[tuple[float, float, str]]) -> list[Annotation]:
    """Put labels beside points (x, y, text), from left to right, and return them in this order.

    A label is at the nearest place where no label or line covers another or a point.
    """
    renderer = axis.figure.canvas.get_renderer()
    frame, found, boxes, lines = axis.get_window_extent(renderer), [], [], []
    places = [axis.transData.transform((x, y)) for x, y, _ in points]
    marks = [Bbox.from_bounds(x - 9, y - 9, 18, 18) for x, y in places]
    for (x, y, text), at in sorted(zip(points, places, strict=True), key=lambda each: each[0][0]):
        label = axis.annotate(
            text, (x, y), (0, 0), textcoords="offset points",
            ha="center", va="center", fontsize=9, color="0.15", zorder=5, linespacing=1.25,
            arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5},
        )  # fmt: skip
        apart = [other for other in marks if not other.contains(*at)]
        best = None
        for offset in _offsets(text_box(label, renderer)):
            label.set_position(offset)
            box = text_box(label, renderer).padded(3)
            line = np.linspace(at, ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2), 40)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            covered = sum(box.overlaps(other) for other in marks + boxes) + (not inside)
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
