"""The report of a sweep: one page, in HTML and in Markdown, with its figures and its tables as files.

In go folders of sweeps, through `sweep_data`. Out come report.html, report.md, figures and tables/ in one folder. The
page says in short what was found, then shows agreement by method and condition, paired comparisons, values by level,
cost, what was opened, what failed, and an index of all runs; protocols that were attacked come first, with their cost
against their leak (`learning_sweep`). Sentences and captions may be changed here, and the layout in templates/. The
names of the files have to stay, because the documentation and users refer to them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from mpc_appraisal.reporting.learning_sweep import (
    CAPTION,
    leak_figure,
    leak_points,
    leak_sentences,
    leak_sources,
    leak_table,
    leak_tiles,
    other_attacks_table,
    tiles_of_both,
)
from mpc_appraisal.reporting.metrics import BAND
from mpc_appraisal.reporting.page import Image, Lead, render
from mpc_appraisal.reporting.run_folders import WHOLE, RunFolder
from mpc_appraisal.reporting.sweep_data import SweepData, export, read_sweeps
from mpc_appraisal.reporting.sweep_measured import measured_cells
from mpc_appraisal.reporting.sweep_tables import PLAINTEXT, interval
from mpc_appraisal.reporting.table import DASH, Table, counted, number
from mpc_appraisal.reporting.tiles import pooled, ranked, sweep_tiles

if TYPE_CHECKING:
    from pandas import DataFrame

TITLE = "Report of a sweep"
TABLES = "tables"
FEW = 5  # pairs below which a page warns of its intervals
AGREEMENT = (
    "Agreement: Spearman's rank correlation of a method's values with the true utility over the candidates of a run; "
    "where no utility is known, minus that with the level of corruption. 1 is the truth's own order, 0 is chance."
)
CAPTIONS = {
    "agreement": "Agreement with the truth by condition: mean and one standard deviation over seeds.",
    "levels": "Mean value of the candidates by their level of corruption. Band: one standard deviation over seeds.",
}


@dataclass(frozen=True)
class IndexRow:
    """One run in the index: the address of its own report, or None, and its cells."""

    link: str | None
    cells: tuple[str, ...]


@dataclass(frozen=True)
class SweepPage:
    """Hold what the templates sweep.html and sweep.md show, in the order in which a reader sees it.

    Attributes:
        title: The heading of the whole page.
        lead: The numbers and the figure that stand above everything else.
        short: The sentences of "In short".
        parts: Each table with the figure that stands above it, or None.
        trust: Sentences on what the reader has to trust.
        index: The header of the index of runs, without cells of its own.
        runs: The rows of the index.
        files: The addresses of the tables' files, relative to the page.
    """

    title: str
    lead: Lead
    short: Sequence[str]
    parts: Sequence[tuple[Table, Image | None]]
    trust: Sequence[str]
    index: Table
    runs: Sequence[IndexRow]
    files: Sequence[str]


def write_sweep_report(folders: Sequence[str | Path], out: str | Path) -> list[Path]:
    """Write the report of all runs in `folders` into `out`, and return the paths of its files, report.html first.

    Raises InputError as `run_folders` does, and OSError where a file cannot be written.
    """
    return write_report_of(read_sweeps(folders), Path(out))


def write_report_of(sweep: SweepData, out: Path) -> list[Path]:
    """Write the report of runs that are read already; see `write_sweep_report`."""
    from mpc_appraisal.reporting.figures import save
    from mpc_appraisal.reporting.sweep_figures import agreement_figure, levels_figure

    out.mkdir(parents=True, exist_ok=True)
    images: dict[str, Image] = {}
    if len(sweep.results):
        baselines = sweep.baselines
        drawn = {
            "agreement": agreement_figure(sweep.summary, sweep.names, baselines),
            "levels": levels_figure(sweep.levels, sweep.names, baselines),
        }
        for name, figure in drawn.items():
            if figure is not None:
                dashed = name == "agreement" and any(line.get_linestyle() == "--" for line in figure.axes[0].lines)
                said = CAPTIONS[name] + " A dashed line is a baseline's, without its deviation." * dashed
                images[name] = Image(save(figure, out, name)[1], said)
    leaks = leak_figure(leak_points(sweep.runs))
    if leaks is not None:
        images["leaks"] = Image(save(leaks, out, "leaks")[1], CAPTION)
    files = export(sweep, out / TABLES)
    page = sweep_page(sweep, images, out, [f"{TABLES}/{path.name}" for path in files])
    return [*write_page_of(page, out), *files]


def write_page_of(page: SweepPage, out: Path) -> list[Path]:
    """Write report.html and report.md, and return their paths."""
    written = [out / f"report.{form}" for form in ("html", "md")]
    for path, form in zip(written, ("html", "md"), strict=True):
        path.write_text(render(f"sweep.{form}.jinja", page=page), encoding="utf-8")
    return written


def sweep_page(sweep: SweepData, images: dict[str, Image], out: Path, files: Sequence[str] = ()) -> SweepPage:
    """Return the page's content. images: the figures by name; out: the page's folder, from which links lead."""
    parts: list[tuple[Table, Image | None]] = []
    if len(sweep.results):
        paired = paired_cells(sweep)
        tables = [agreement_matrix(sweep), *[paired] * bool(paired.rows), cost_cells(sweep), openings_cells(sweep)]
        parts = [(table, None) for table in tables]
    if len(sweep.measured):
        parts.insert(-2, (measured_cells(sweep.measured, sweep.names), None))  # before cost and openings
    points = leak_points(sweep.runs)
    first = next((images[name] for name in ("leaks", "agreement", "levels") if name in images), None)
    if "agreement" in images and images["agreement"] is not first:
        parts[0] = (parts[0][0], images["agreement"])
    if "levels" in images and images["levels"] is not first:
        parts.insert(-2, (Table("Values by level", (), "", []), images["levels"]))
    if points:
        parts.insert(0 if "leaks" in images else len(parts), (leak_table(points), None))
    parts += [(table, None) for table in (other_attacks_table(sweep.runs),) if table.rows]
    parts += [(table, None) for table in (failed_table(sweep),) if table.rows]
    header, rows = index_of(sweep, out)
    tiles = sweep_tiles(sweep)
    if points:
        tiles = tiles_of_both(sweep_tiles(sweep, False), points) if len(sweep.results) else leak_tiles(points)
    return SweepPage(TITLE, Lead(tiles, first), in_short(sweep), parts, trust_of_runs(sweep), header, rows, files)


# ---- in short ----


def in_short(sweep: SweepData) -> list[str]:
    """Return what was found, in three to five sentences with figures."""
    whole = [run for run in sweep.runs if run.whole]
    failed = sum(run.lost for run in sweep.runs)
    learned = leak_sentences(leak_points(sweep.runs))
    lost = f" Without results: {failed} of {len(sweep.runs)} runs, failed or unfinished." if failed else ""
    if not whole and not learned:
        return [f"No run has records: {failed} failed or are unfinished."]
    if not len(sweep.results):
        return [learned[0] + lost, *learned[1:]]
    conditions = sweep.summary.groupby(sweep.names).ngroups if sweep.names else 1
    counts = [
        counted(len([run for run in whole if run.result is not None]), "run"),
        counted(len([m for m in sweep.methods if m not in sweep.baselines]), "method"),
        counted(conditions, "condition"),
        counted(sweep.results["seed"].nunique(), "seed"),
    ]
    said = [f"{', '.join(counts[:-1])} and {counts[-1]}.{lost}"]
    return said + _ranking(sweep) + _difference(sweep) + _price(sweep) + learned


def _ranking(sweep: SweepData) -> list[str]:
    """Return which method agrees best with the truth, and how far it is ahead of the next one."""
    known, table = ranked(sweep)
    if not len(table):
        return ["No truth is known, neither a utility nor a level, so that no agreement can be stated."]
    best, found = table.index[0], table.iloc[0]
    off = "" if math.isnan(found["std"]) else f" ± {found['std']:.2f}"
    over = counted(int(found["count"]), "run")
    which = "the highest mean" if len(table) > 1 else "a mean"
    said = [f"{best} has {which} agreement with the truth: {found['mean']:.2f}{off} over {over}."]
    if len(table) > 1:
        second = table.index[1]
        pairs = pooled(known, sweep.names, best, second)
        if pairs:
            it = interval(pairs)
            chance = "" if it["low"] > 0 else ", which may be chance"
            said.append(
                f"Its lead over {second} is {it['difference']:.2f} ({_interval(it['low'], it['high'], 2)}; "
                f"{counted(it['pairs'], 'pair')} of one condition and seed){chance}."
            )
    return said


def _interval(low: float, high: float, decimals: int) -> str:
    if math.isnan(low):
        return "no interval from one pair"
    return f"95% interval {low:.{decimals}f} to {high:.{decimals}f}"


def _difference(sweep: SweepData) -> list[str]:
    private = sweep.per_run[sweep.per_run["session"] != "plain"]
    if not len(private):
        return ["All runs were computed in the clear (session=plain), so that no value is private."]
    largest = private["largest_difference"].max()
    if math.isnan(largest):
        return []
    return [f"Private values differ from the same in plaintext by {number(largest, 2)} at most."]


def _price(sweep: SweepData) -> list[str]:
    paid = sweep.per_run[~sweep.per_run["method"].isin(sweep.baselines)]
    mean = paid.groupby("method", sort=False)[["seconds", "megabytes", "rounds"]].mean()
    if not len(mean) or not mean["megabytes"].max() > 0:
        return []
    cells = [
        f"{method} {number(row['seconds'], 2)} s, {number(row['megabytes'], 3)} MB and {row['rounds']:.0f} rounds"
        for method, row in mean.head(3).iterrows()
    ]
    return [f"One run costs on average: {'; '.join(cells)}."]


# ---- tables ----


def spread(mean: float, deviation: float, digits: int = 3, fixed: bool = False) -> str:
    """Return mean ± standard deviation as a cell; the mean alone where one seed gives no deviation."""
    if mean is None or math.isnan(mean):
        return DASH
    shown = (lambda value: f"{value:.2f}") if fixed else (lambda value: number(value, digits))
    return shown(mean) if math.isnan(deviation) else f"{shown(mean)} ± {shown(deviation)}"


def agreement_matrix(sweep: SweepData) -> Table:
    """Return agreement, condition by method: each swept setting is a column, and so is each method."""
    known = sweep.summary[sweep.summary["agreement_mean"].notna()]
    methods = [method for method in sweep.methods if method in set(known["method"])]
    rows = []
    for key, group in _by_condition(sweep.summary, sweep.names):
        cells = {r["method"]: spread(r["agreement_mean"], r["agreement_sd"], fixed=True) for _, r in group.iterrows()}
        cells[BAND] = _band(*group[["random_low", "random_high"]].iloc[0])
        rows.append((*key, str(group["seeds"].max()), *(cells.get(each, DASH) for each in (*methods, BAND))))
    notes = [AGREEMENT, "Mean ± standard deviation over seeds."]
    if len(known):
        notes.append(
            "Random: between these ends lie 95% of 1,000 draws of values that mean nothing, as means over the same "
            "seeds. A method whose mean is inside may be as good as chance."
        )
    if "level" in set(known["truth"]):
        notes.append("No utility is known of some runs here, so that their truth is the level.")
    if repeated := sweep.per_run.attrs.get("repeated"):
        notes.append(f"{counted(repeated, 'result')} of equal condition, method and seed in several runs count once.")
    header = (*sweep.names, "seeds", *methods, BAND)
    return Table("Agreement with the truth", header, _align(sweep.names, len(methods) + 2), rows, tuple(notes))


def _band(low: float, high: float) -> str:
    return DASH if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _by_condition(frame: DataFrame, names: Sequence[str]) -> list[tuple[tuple[str, ...], DataFrame]]:
    return list(frame.groupby(list(names), sort=False)) if names else [((), frame)]


def _align(names: Sequence[str], numbers: int, texts: int = 0) -> str:
    return "l" * (len(names) + texts) + "r" * numbers


def paired_cells(sweep: SweepData) -> Table:
    """Return the paired comparisons: mean difference of agreement, and its 95% interval by Student's t."""
    rows = [
        (*(r[n] for n in sweep.names), r["method"], r["compared_with"], str(r["pairs"]))
        + (f"{r['difference']:+.2f}", DASH if math.isnan(r["low"]) else f"{r['low']:+.2f} to {r['high']:+.2f}")
        for _, r in sweep.paired.iterrows()
    ]
    notes = (
        "Differences of agreement between runs of one condition and seed. Above 0: the first method agrees better. The "
        "interval is the mean ± t(0.975, n - 1) s / √n for n pairs; one pair has none.",
    )
    if len(sweep.paired) and sweep.paired["pairs"].max() < FEW:
        notes += (f"With fewer than {FEW} pairs an interval says little.",)
    if not any(PLAINTEXT in row for row in rows):
        notes += ("No private method is here, so that none is compared with its plaintext values.",)
    header = (*sweep.names, "method", "compared with", "pairs", "difference", "95% interval")
    return Table("Paired comparisons", header, _align(sweep.names, 3, 2), rows, notes)


def cost_cells(sweep: SweepData) -> Table:
    """Return what one run of each method costs, and how far its values are from those in plaintext."""
    rows = [
        (*(r[n] for n in sweep.names), r["method"], str(r["seeds"]), spread(r["seconds_mean"], r["seconds_sd"]))
        + (number(r["megabytes_mean"]), f"{r['rounds_mean']:.0f}")
        + (DASH if math.isnan(r["largest_difference"]) else number(r["largest_difference"], 2),)
        for _, r in sweep.summary.iterrows()
        if r["method"] not in sweep.baselines
    ]
    header = (*sweep.names, "method", "seeds", "seconds", "MB sent", "rounds", "largest difference from plaintext")
    notes = ("Seconds, MB of all parties and rounds are of all candidates of a run together, as means over seeds.",)
    return Table("Cost", header, _align(sweep.names, 5, 1), rows, notes)


def openings_cells(sweep: SweepData) -> Table:
    """Return what was opened in all runs, and to whom."""
    rows = [
        (r["who_learned"].replace("_", " ") or "nobody", r["what"], str(r["numbers"]), r["why"], r["method"])
        + (str(r["appraisals"]),)
        for _, r in sweep.openings.iterrows()
    ]
    notes = ("Numbers: how many numbers the appraisal of one candidate opened.",) if rows else ()
    if not rows:
        notes = ("Nothing was opened by a protocol.",)
    header = ("who learned", "what", "numbers", "why", "method", "appraisals")
    return Table("What was opened", header, "llrllr", rows, notes)


def failed_table(sweep: SweepData) -> Table:
    """Return the runs that have no records which count, and why. There may be no rows."""
    rows = [(_run_name(run), run.state, run.reason or DASH, " ".join(run.overrides)) for run in sweep.runs if run.lost]
    return Table("Failed or unfinished", ("run", "state", "reason", "described by"), "llll", rows)


def trust_of_runs(sweep: SweepData) -> list[str]:
    """Return the trust models that the records state, each sentence once."""
    records = [record for run in sweep.runs for record in run.result or () if not record.baseline]
    return [*dict.fromkeys(record.trust for record in records if record.trust), *leak_sources(sweep.runs)]


def index_of(sweep: SweepData, out: Path) -> tuple[Table, list[IndexRow]]:
    """Return the index's header and its rows, one for each run, with the settings that differ."""
    several = len({run.sweep for run in sweep.runs}) > 1
    header = (*("sweep",) * several, "run", *sweep.names, "seed", "methods", "state")
    rows = []
    for run, (_, row) in zip(sweep.runs, sweep.folders().iterrows(), strict=True):
        own = Path(run.sweep, run.folder, "report.html")
        is_page = own.resolve() == (out / "report.html").resolve()
        link = quote(Path(os.path.relpath(own, out)).as_posix()) if own.exists() and not is_page else None
        names = (*sweep.names, "seed", "methods")
        cells = (*(Path(run.sweep).name,) * several, _run_name(run), *(_cell(row.get(name)) for name in names))
        rows.append(IndexRow(link if run.state in WHOLE else None, (*cells, run.state)))
    align = _align((), 0, len(header))
    return Table("Runs", header, align, [row.cells for row in rows]), rows


def _run_name(run: RunFolder) -> str:
    """Return the name of a run's folder in a link: that of the sweep where the run is the whole of it."""
    return Path(run.sweep).resolve().name if run.folder == "." else run.folder


def _cell(value: object) -> str:
    if value is None or value != value:
        return DASH
    return f"{value:g}" if isinstance(value, float) else str(value)
