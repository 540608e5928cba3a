"""The report of influence by rows, from the lines of rows.jsonl: one table and one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.harness.page import Page, page_of, run_facts, write_page
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.harness.records import ABOUT, Row, read_rows
from mpc_appraisal.common.roles import ASSUMPTION, DATA_OWNER, DEALER, MODEL_OWNER, ROLES

KEYS = ABOUT | {"engine", "rows", "features", "classes", "seconds", "microseconds_per_row", "peak_mb", "mb", "rounds",
                "repeat"}  # fmt: skip
STYLES = {MODEL_OWNER: ("o-", BLUE), DATA_OWNER: ("s--", ORANGE), DEALER: ("^:", GREY)}
LIMIT = 2 * 1024**3 / 1e6  # MB


def render(folder: Path) -> Page:
    """Write rows.md, rows.html and the figure beside rows.jsonl."""
    _, rows = read_rows(folder / "rows.jsonl", {"": KEYS})
    rows.sort(key=lambda row: row["rows"])
    last, figures = rows[-1], {"rows": rows_figure(rows)}
    size = f"{last['features']} features, {last['classes']} classes"
    facts = {"threads": "one a party", "engine": last["engine"], "input": f"{size}, random, as sparse as MNIST"}
    page = page_of("studies/engine/rows.md.jinja", figures, found=rows, ROLES=ROLES, TRUST=ASSUMPTION,
                   facts=run_facts(last, facts, "engine"))  # fmt: skip
    write_page(page, figures, folder, "rows")
    return page


def rows_figure(rows: Sequence[Row]) -> Figure:
    """Draw microseconds a row on the left, and on the right the largest memory by party, with a line at 2 GiB."""
    figure = blank(9.6, 3.6)
    time, memory = figure.subplots(1, 2)
    counts, each = ([row[key] for row in rows] for key in ("rows", "microseconds_per_row"))
    time.plot(counts, each, "o-", color=BLUE)
    time.set(ylabel="microseconds a row", ylim=(0, 1.15 * max(each)))
    for role, (style, colour) in STYLES.items():
        memory.plot(counts, [r["peak_mb"][role] for r in rows], style, color=colour, label=role.replace("_", " "))
    memory.axhline(LIMIT, color="0.6", linewidth=1)
    memory.annotate("2 GiB", (0.01, LIMIT), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                    color="0.4", fontsize=9)  # fmt: skip
    top = max(LIMIT, *(max(row["peak_mb"].values()) for row in rows))
    memory.set(ylabel="largest memory of a process, MB", ylim=(0, 1.12 * top))
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False)
    for axis in (time, memory):
        axis.set(xscale="log", xlabel="rows of the candidate, logarithmic")
    plain(time, memory)
    return figure
