"""Figure 3: runtime of each method, its plaintext part and its encrypted part; 16 steps of full batches."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from bench_page import Drawing, blank
from paper_measure import Row, pick, private_seconds, seconds_of

from mpc_appraisal.reporting.figures import BLUE, GREY
from mpc_appraisal.reporting.table import Table, number

METHODS = ("gradient_norm", "finetuning", "influence")
CAPTION = (
    "Figure 3. Seconds (logarithmic) of an appraisal of all candidates of one seed: the model owner's own work in the "
    "clear, and the encrypted part (sharing and joint computation). Fine-tuning takes 16 steps of all rows. Bars: "
    "medians over seeds; lines: the fastest and the slowest seed."
)


def spent(rows: Sequence[Row], method: str) -> tuple[list[float], list[float]]:
    """Seconds in the clear and encrypted, of all candidates together, by seed."""
    kept = pick(rows, "noise", method)
    kept = [row for row in kept if private_seconds(row)]
    return [row["clear"] for row in kept], [sum(private_seconds(row)) for row in kept]


def table(rows: Sequence[Row]) -> Table:
    body = []
    for method in METHODS:
        kept = [row for row in pick(rows, "noise", method) if private_seconds(row)]
        if not kept:
            continue
        clear, secret = spent(rows, method)
        body.append((
            method, number(median(clear), 3), number(median(secret), 3), number(seconds_of(kept), 3),
            number(median(m for row in kept for m in row["mb"]), 3), str(max(max(row["rounds"]) for row in kept)),
        ))  # fmt: skip
    sizes = next((row for row in rows if row["part"] == "noise"), None)
    about = f" Candidates of {sizes['n'][0]:,} rows, {sizes['features']} features." if sizes else ""
    return Table("Figure 3's numbers: what an appraisal costs",
                 ("method", "plaintext s, all candidates", "encrypted s, all candidates", "encrypted s, one candidate",
                  "MB, one candidate", "rounds"), "lrrrrr", body,
                 (f"Medians over seeds; rounds: of the candidate with the most.{about} The plaintext part is the fit "
                  "of the model and the method's preparation, once for all candidates.",))  # fmt: skip


def drawing(rows: Sequence[Row]) -> Drawing:
    figure = blank(8.5, 2.9)
    axis = figure.subplots()
    place, places, everything = 0, [], []
    for method in METHODS:
        for name, values, colour in zip(("plaintext", "encrypted"), spent(rows, method), (GREY, BLUE), strict=True):
            if values:
                axis.barh(place, median(values), height=0.75, color=colour)
                axis.plot([min(values), max(values)], [place, place], color="#1c2430", linewidth=1.2)
                axis.annotate(f"{number(median(values), 3)} s", (max(values), place), (5, 0),
                              textcoords="offset points", va="center", fontsize=9)  # fmt: skip
                everything += values
            places.append((place, f"{method.replace('_', ' ')}, {name}"))
            place += 1
        place += 0.5
    axis.set_yticks([p for p, _ in places], [text for _, text in places])
    axis.invert_yaxis()
    axis.set_xscale("log")
    if everything:
        axis.set_xlim(min(everything) / 2.5, max(everything) * 2.5)
    axis.set_xlabel("seconds, logarithmic")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return Drawing("paper-figure3", CAPTION, figure)
