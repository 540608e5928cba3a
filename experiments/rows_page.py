"""The report of `bench_rows` from the lines of rows.jsonl: one table and one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench_page import Drawing, Page, Row, blank, read_records, run_table, sentences, write_page
from matplotlib.figure import Figure

from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES, TRUST
from mpc_appraisal.reporting.figures import BLUE, GREY, ORANGE
from mpc_appraisal.reporting.table import Table, number, whole

KEYS = ("engine", "rows", "features", "classes", "seconds", "microseconds_per_row", "peak_mb", "mb", "rounds",
        "repeat", "machine", "versions", "revision", "command")  # fmt: skip
CAPTION = "Seconds and largest memory of one candidate's influence, by its number of rows."


def render(folder: Path) -> Page:
    """Writes rows.md, rows.html and rows.png, rows.svg beside rows.jsonl. Raises InputError for unfit records."""
    page = page_of(read_records(folder / "rows.jsonl", KEYS))
    write_page(page, folder, "rows")
    return page


def page_of(found: Sequence[Row]) -> Page:
    found = sorted(found, key=lambda each: each["rows"])
    last = found[-1]
    size = f"{last['features']} features, {last['classes']} classes"
    facts = {"threads": "one a party", "engine": last["engine"], "input": f"{size}, random, as sparse as MNIST"}
    drawings = [Drawing("rows", CAPTION, rows_figure(found))]
    main = [_summary(found, size), _table(found)]
    return Page("Influence by rows", main, drawings, [TRUST], [run_table(last, facts, "bench_rows.py")])


def _summary(found: Sequence[Row], size: str) -> Table:
    last = found[-1]
    peaks = ", ".join(f"{role.replace('_', ' ')} {number(last['peak_mb'][role], 3)} MB" for role in ROLES)
    spread = [each["microseconds_per_row"] for each in found]
    return sentences(
        "In short",
        [
            f"Measured: the private influence of one candidate ({size}), {last['engine']} engine, three processes on "
            f"one machine ({last['machine']}). {_repeats(found)}",
            f"How fast: {last['rows']:,} rows take {number(last['seconds'], 3)} s; "
            f"{number(min(spread), 3)} to {number(max(spread), 3)} microseconds a row over all sizes.",
            f"How much is sent: {number(last['mb'], 3)} MB by all parties in {last['rounds']} rounds "
            f"for {last['rows']:,} rows.",
            f"Largest memory at {last['rows']:,} rows, Python and torch included: {peaks}.",
        ],
    )


def _repeats(found: Sequence[Row]) -> str:
    repeat = min(each["repeat"] for each in found)
    return "Each size once." if repeat == 1 else f"Medians of {repeat} runs of each size; memory is their largest."


def _table(found: Sequence[Row]) -> Table:
    header = ("rows", "seconds", "microseconds a row", "MB sent", "rounds",
              *(f"{role.replace('_', ' ')}, MB" for role in ROLES))  # fmt: skip
    rows = [
        (
            f"{each['rows']:,}",
            number(each["seconds"], 3),
            number(each["microseconds_per_row"], 3),
            number(each["mb"], 3),
            whole(each["rounds"]),
            *(number(each["peak_mb"][role], 3) for role in ROLES),
        )
        for each in found
    ]
    notes = (
        f"{_repeats(found)} Seconds: of the joint computation. A party's MB: its process's largest resident memory.",
    )
    return Table("By rows", header, "r" * len(header), rows, notes)


def rows_figure(found: Sequence[Row]) -> Figure:
    """Left: microseconds a row; right: the largest memory by party, with a line at 2 GiB. Rows are logarithmic."""
    figure = blank(9.6, 3.6)
    time, memory = figure.subplots(1, 2)
    rows = [each["rows"] for each in found]
    time.plot(rows, [each["microseconds_per_row"] for each in found], "o-", color=BLUE)
    time.set(ylabel="microseconds a row", ylim=(0, 1.15 * max(each["microseconds_per_row"] for each in found)))
    for role, style, colour in zip(
        (MODEL_OWNER, DATA_OWNER, DEALER), ("o-", "s--", "^:"), (BLUE, ORANGE, GREY), strict=True
    ):
        memory.plot(rows, [each["peak_mb"][role] for each in found], style, color=colour, label=role.replace("_", " "))
    limit = 2 * 1024**3 / 1e6
    memory.axhline(limit, color="0.6", linewidth=1)
    memory.annotate("2 GiB", (0.01, limit), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                    color="0.4", fontsize=9)  # fmt: skip
    top = max(limit, *(max(each["peak_mb"].values()) for each in found))
    memory.set(ylabel="largest memory of a process, MB", ylim=(0, 1.12 * top))
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False)
    for axis in (time, memory):
        axis.set(xscale="log", xlabel="rows of the candidate, logarithmic")
        axis.grid(True, color="#e5e7eb", linewidth=0.8)
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure
