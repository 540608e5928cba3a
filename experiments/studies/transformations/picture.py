"""One picture: for every protocol, what it costs against what its best attack here recovers, from rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.studies.transformations.protocols import Protocol
from mpc_appraisal.reporting.point_labels import labels_beside, text_box

__all__ = ["drawing", "place_labels", "text_box"]


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
    """Put the name of each protocol and of its best attack beside its point, from left to right."""
    return labels_beside(axis, [(p.cost.ratio, p.attack.above, f"{p.name}\n{p.attack.name}") for p in shown])
