"""How well the values of a run or a sweep serve, as a table and as the figure of removal curves.

`Measured`s go in; a `Table` and a matplotlib figure come out. Headers and colours may change. A score has to stand
beside the range of random values wherever it is shown, because a score alone says little with few candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpc_appraisal.reporting.measured import DATAMODELLING, DETECTION, MEASURES, RANDOMISED, REMOVAL, Measured
from mpc_appraisal.reporting.table import DASH, Table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "How well the values serve"
HEADERS = {
    DATAMODELLING: "datamodelling",
    REMOVAL: "removal",
    DETECTION: "detection",
    RANDOMISED: "random model",
}
MEANING = {
    DATAMODELLING: "Datamodelling, the linear datamodelling score: the rank correlation of sums of values with what "
    "random sets of candidates are worth together, by retraining; 1 is best.",
    REMOVAL: "Removal: what the candidates left are worth, with the worst removed first less with the best removed "
    "first, as a fall of the test loss; higher is better.",
    DETECTION: "Detection: the probability that a clean candidate has a higher value than a corrupted one; 1 is best.",
    RANDOMISED: "Random model: the rank correlation of the values with those by random weights; near "
    "0 the values tell of this model, near 1 of the data alone.",
}
CHANCE = "by chance"
BY_CHANCE = "By chance: the middle 95% of the scores that random values get on the same candidates."
REMOVAL_CAPTION = (
    "What the candidates left are worth (the fall of the mean test loss by retraining), as candidates are removed: the "
    "best first (solid), the worst first (dashed)."
)


def measured_table(measured: Sequence[Measured]) -> Table:
    """Return a row for each method, a last one for random values, and a column for each measure."""
    shown = [measure for measure in MEASURES if any(one.measure == measure for one in measured)]
    found = {(one.method, one.measure): one for one in measured}
    methods = list(dict.fromkeys(one.method for one in measured))
    rows = [(method, *(_score(found.get((method, measure))) for measure in shown)) for method in methods]
    notes = [MEANING[measure] for measure in shown]
    drawn = {one.measure: one for one in measured if one.random_low is not None}
    if drawn:
        rows.append((CHANCE, *(_chance(drawn.get(measure)) for measure in shown)))
        notes.append(BY_CHANCE)
    reasons = {one.note: None for one in measured if one.score is None and one.note}
    header = ("method", *(HEADERS[measure] for measure in shown))
    return Table(TITLE, header, "l" + "r" * len(shown), rows, (*notes, *reasons))


def _score(one: Measured | None) -> str:
    return DASH if one is None or one.score is None else _number(one.score, one)


def _chance(one: Measured | None) -> str:
    return DASH if one is None else f"{_number(one.random_low, one)} to {_number(one.random_high, one)}"


def _number(value: float, one: Measured) -> str:
    return number(value, 2) if one.measure == REMOVAL else f"{value:.2f}"


def removal_figure(measured: Sequence[Measured]) -> Figure | None:
    """Draw the removal curves, in one colour a method. Return None where no curves are known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from mpc_appraisal.reporting.figures import plain
    from mpc_appraisal.reporting.sweep_figures import COLOURS, MOST

    curves = [one for one in measured if one.measure == REMOVAL and one.curves][:MOST]
    if not curves:
        return None
    figure = Figure(figsize=(7.0, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for one, colour in zip(curves, COLOURS, strict=False):
        best, worst = one.curves["best first"], one.curves["worst first"]
        axis.plot(range(len(best)), best, color=colour, label=one.method)
        axis.plot(range(len(worst)), worst, color=colour, linestyle="--")
    axis.set_xlabel("candidates removed")
    axis.set_ylabel("worth of those left")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False, fontsize=8)
    plain(axis)
    return figure
