"""Texts of a figure that a reader cannot read: those that leave the figure, and titles that lie on one another."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

SLACK = 2.0  # pixels by which a text may pass the edge, as letters have space around them


def unreadable(figure: Figure) -> list[str]:
    """Return the texts that leave the figure, and the pairs of titles that overlap. Labels of ticks are left out."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    ticks = {text for axis in figure.axes for side in (axis.xaxis, axis.yaxis) for text in side.findobj(Text)}
    ticks -= {side.label for axis in figure.axes for side in (axis.xaxis, axis.yaxis)}
    ticks |= {text for axis in figure.axes if not axis.axison for text in (axis.xaxis.label, axis.yaxis.label)}
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in ticks]
    # Of an annotation this is the extent of its words, without the line to what it is about.
    boxes = {text: Text.get_window_extent(text, canvas.get_renderer()) for text in shown}
    edge = figure.bbox.padded(SLACK)
    found = [t.get_text() for t, box in boxes.items() if not (edge.contains(*box.min) and edge.contains(*box.max))]
    titles = [axis.title for axis in figure.axes if axis.title in boxes]
    for k, one in enumerate(titles):
        found += [f"{one.get_text()} on {t.get_text()}" for t in titles[k + 1 :] if boxes[one].overlaps(boxes[t])]
    return found
