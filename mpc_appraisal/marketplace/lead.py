"""What leads the page of a marketplace run: three numbers, and a figure of what was tried or of what it cost.

In goes a `MarketRecord`; pairs of a number and words, and a matplotlib figure, come out. Which numbers lead may be
changed, and so may colours and sizes. Nothing may be shown that the record does not hold.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE, plain
from mpc_appraisal.reporting.table import counted, number
from mpc_appraisal.reporting.tiles import Tile

TRIED = (
    "Share of wrong predictions on validation rows after retraining with each subset (bars), and the most with which "
    "it is accepted (lines)."
)
SPENT = "Seconds of each phase, by the role that takes longest."


def market_tiles(record: MarketRecord) -> list[Tile]:
    """Return how many rows were selected, what validation found, and what the run cost."""
    verdicts = record["verdicts"]
    tiles = [(f"{len(record['selected'])} of {record['offered']:,}", f"rows selected by {_words(record['selection'])}")]
    accepted = [v for v in verdicts if v["accepted"]]
    if verdicts:
        before = verdicts[0]["threshold"]
        after = accepted[-1]["wrong"] / accepted[-1]["of"] if accepted else before
        words = f"subsets accepted; error on {counted(verdicts[0]['of'], 'validation row')} {number(before, 3)} before"
        tiles.append((f"{len(accepted)} of {len(verdicts)}", f"{words}, {number(after, 3)} after"))
    spent = [c for roles in record["costs"].values() for c in roles.values()]
    sent = sum(c["bytes"] for c in spent) / 1e6
    seconds = sum(longest for _, longest in _phases(record))
    if spent:
        cost = f"{number(seconds, 3)} s" + (f", {number(sent, 3)} MB" if sent else "")
        tiles.append((cost, "in all" + (", and sent by all parties" if sent else "; nothing was sent")))
    return tiles


def market_figure(record: MarketRecord) -> tuple[Figure, str] | None:
    """Draw the verdicts, or the seconds by phase where nothing was validated, and return its caption too.

    None where the record has neither.
    """
    verdicts = record["verdicts"]
    phases = _phases(record)
    if not verdicts and not phases:
        return None
    lines = len(verdicts or phases)
    figure = Figure(figsize=(8.5, 1.2 + 0.4 * max(3, lines)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    if verdicts:
        _verdicts(axis, verdicts)
    else:
        axis.barh(range(lines), [seconds for _, seconds in phases], color=BLUE, height=0.6)
        axis.set_yticks(range(lines), [phase for phase, _ in phases])
        axis.set_xlabel("seconds")
    axis.invert_yaxis()
    plain(axis)
    return figure, TRIED if verdicts else SPENT


def _verdicts(axis: Axes, verdicts: list[dict]) -> None:
    for accepted, colour, word in ((True, BLUE, "accepted"), (False, GREY, "refused")):
        own = [(place, v["wrong"] / v["of"]) for place, v in enumerate(verdicts) if v["accepted"] is accepted]
        if own:
            places, wrong = zip(*own, strict=True)
            axis.barh(places, wrong, color=colour, height=0.6, label=word)
    limits = [v["threshold"] for v in verdicts]
    ends = [(place - 0.4, place + 0.4) for place in range(len(verdicts))]
    axis.vlines(limits, *zip(*ends, strict=True), color=ORANGE, linewidth=2, label="the most that is accepted")
    axis.set_yticks(range(len(verdicts)), [f"subset {k}" for k in range(1, len(verdicts) + 1)])
    axis.set_xlabel("share of wrong predictions on validation rows")
    axis.margins(x=0.08)
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3)


def _phases(record: MarketRecord) -> list[tuple[str, float]]:
    """Return each phase with the seconds of the role that takes longest in it."""
    return [(phase, max(c["seconds"] for c in roles.values())) for phase, roles in record["costs"].items() if roles]


def _words(name: str) -> str:
    return name.replace("_", " ")
