"""A picture of what an attack recovered: private images beside what was recovered of each.

In go `RecoveredImages`, pixels that an attack hands on beside its findings; out comes a figure. Records hold no pixel,
and only a run on a built-in data set, which is public, may draw the figure: a page holds no row of anybody's own files.
Colours and sizes may change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MOST = 10  # images in a row of the picture
CAPTION = (
    "Private images, and what attacks recovered of each. Image recovery finds pixels up to their signs, so that the "
    "images without signs are what it seeks."
)


@dataclass(frozen=True, eq=False)
class RecoveredImages:
    """Private images and what was recovered of them.

    Attributes:
        attack: The attack in words.
        private: The private images, (k, d) pixels.
        recovered: What was recovered of each, (k, d).
        signed: Whether the signs of pixels are recovered too.
    """

    attack: str
    private: np.ndarray
    recovered: np.ndarray
    signed: bool

    @property
    def rows(self) -> list[tuple[str, np.ndarray]]:
        """Return the rows of the picture, each with its name."""
        sought = [] if self.signed else [("without signs", np.abs(self.private))]
        found = self.recovered if self.signed else np.abs(self.recovered)
        return [("private", self.private), *sought, (f"recovered by\n{self.attack}", found)]


def drawable(pixels: int) -> tuple[int, ...] | None:
    """Return the shape of an image of so many numbers, grey or in three colours; None where it is no square."""
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side * side * channels == pixels:
            return (side, side) if channels == 1 else (channels, side, side)
    return None


def recovered_figure(found: Sequence[RecoveredImages]) -> Figure | None:
    """Draw the images of all attacks, one below the other; None where there are none, or none that can be drawn."""
    shown = [(name, row[:MOST]) for one in found if drawable(one.private.shape[1]) for name, row in one.rows]
    if not shown:
        return None
    columns = max(len(row) for _, row in shown)
    figure = Figure(figsize=(1.5 + 0.8 * columns, 0.9 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), columns, squeeze=False)
    for (name, row), line in zip(shown, axes, strict=True):
        for axis, pixels in zip(line, [*row, *[None] * (columns - len(row))], strict=True):
            _draw(axis, pixels)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _draw(axis: Axes, pixels: np.ndarray | None) -> None:
    axis.set(xticks=[], yticks=[], frame_on=False)
    if pixels is None:
        return
    shape, low, high = drawable(len(pixels)), float(pixels.min()), float(pixels.max())
    grey = ((pixels - low) / (high - low if high > low else 1.0)).reshape(shape)
    axis.imshow(grey if len(shape) == 2 else grey.transpose(1, 2, 0), cmap="gray", interpolation="nearest")
