"""Two sweeps side by side: two versions, two engines, two protocols, or two of anything.

In go two folders of sweeps, A and B, of appraisals, of private learning or of markets. Out comes a page like that of
`sweep_report`: what differs between the two, and for each condition and method agreement, values and cost of A and of
B, with B minus A or B / A. Protocols, attacks and markets are compared by `compare_protocols`. Rows belong together if
the settings that differ within A or within B are the same; a row of one sweep alone has no partner. The names of the
files have to stay, because the documentation refers to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpc_appraisal.reporting.compare_protocols import CAPTION as LEAKS
from mpc_appraisal.reporting.compare_protocols import TITLE as PROTOCOLS
from mpc_appraisal.reporting.compare_protocols import (
    protocols_figure,
    protocols_frame,
    protocols_sentences,
    protocols_table,
    protocols_tiles,
)
from mpc_appraisal.reporting.load import SETTINGS, frame_of
from mpc_appraisal.reporting.page import Image, Lead
from mpc_appraisal.reporting.run_folders import RunFolder, run_folders
from mpc_appraisal.reporting.sweep_data import SweepData, sweep_of, write_frame
from mpc_appraisal.reporting.sweep_report import (
    AGREEMENT,
    TABLES,
    SweepPage,
    failed_table,
    index_of,
    trust_of_runs,
    write_page_of,
)
from mpc_appraisal.reporting.sweep_tables import condition_names, interval, own_settings
from mpc_appraisal.reporting.table import DASH, Table, counted, number
from mpc_appraisal.reporting.tiles import comparison_tiles
from mpc_appraisal.reporting.tracked import tracked_run

if TYPE_CHECKING:
    from pandas import DataFrame

TITLE = "Two sweeps side by side"
CAPTION = "Agreement with the truth by method and condition: rings are A, dots are B."
SHA256 = 64  # the digits of a digest, of which a page shows the first
COSTS = ("seconds", "megabytes", "rounds")


def write_comparison(a: str | Path, b: str | Path, out: str | Path) -> tuple[list[Path], SweepPage]:
    """Write the comparison of two sweeps into `out`, and return its files, report.html first, and the page's content.

    Raises InputError as `run_folders` does, and OSError where a file cannot be written.
    """
    from mpc_appraisal.reporting.figures import save
    from mpc_appraisal.reporting.sweep_figures import comparison_figure

    out = Path(out)
    pair, differing = compared(a, b)
    rows = side_by_side(*pair)
    out.mkdir(parents=True, exist_ok=True)
    files = write_frame(rows, out / TABLES, "comparison")
    both = sweep_of([run for one in pair for run in one.runs], pair[0].names, {})
    names = pair[0].names
    figure = comparison_figure(rows, names)
    drawn = None if figure is None else Image(save(figure, out, "comparison")[1], CAPTION)
    protocols = protocols_frame(*(one.runs for one in pair))
    files += write_frame(protocols, out / TABLES, "protocols") if len(protocols) else []
    leaks = protocols_figure(*(one.runs for one in pair))
    pictured = None if leaks is None else Image(save(leaks, out, "leaks")[1], LEAKS)
    parts = [differing, agreement_rows(rows, names), cost_rows(rows, names), protocols_table(protocols)]
    shown = [(table, None) for table in (*parts, failed_table(both)) if table.rows]
    common = (rows["seeds_a"].notna() & rows["seeds_b"].notna()).any()
    first = (drawn or pictured) if common else (pictured or drawn)
    if first is drawn and pictured is not None:
        shown = [(table, pictured if table.title == PROTOCOLS else None) for table, _ in shown]
    tiles = comparison_tiles(rows) if common else protocols_tiles(protocols) or comparison_tiles(rows)
    header, index = index_of(both, out)
    page = SweepPage(
        TITLE,
        Lead(tiles, first),
        in_short(str(a), str(b), pair, rows) + protocols_sentences(protocols),
        shown,
        trust_of_runs(both),
        header,
        index,
        [f"{TABLES}/{path.name}" for path in files],
    )
    return [*write_page_of(page, out), *files], page


def compared(a: str | Path, b: str | Path) -> tuple[tuple[SweepData, SweepData], Table]:
    """Return both sweeps by common conditions, and the table of what differs between them."""
    runs = run_folders([a, b])
    parts = [[run for run in runs if run.sweep == str(stated)] for stated in (a, b)]
    frames = [frame_of(part) for part in parts]
    within = [frame for frame in frames if len(frame)]
    names = list(dict.fromkeys(name for frame in within for name in condition_names(frame)))
    own: dict[str, list[str]] = {}
    for frame in within:
        for method, keys in own_settings(frame).items():
            own[method] = list(dict.fromkeys([*own.get(method, ()), *keys]))
    left, right = (sweep_of(part, names, own) for part in parts)
    return (left, right), differences_table(left, right)


def differences_table(a: SweepData, b: SweepData) -> Table:
    """Return the settings and versions whose values in A are others than in B, conditions aside."""
    facts = [_facts(one) for one in (a, b)]
    keys = [key for key in dict.fromkeys([*facts[0], *facts[1]]) if key not in (*a.names, "seed", "appraisal")]
    rows = [
        (key, *(_several(fact.get(key)) for fact in facts)) for key in keys if facts[0].get(key) != facts[1].get(key)
    ]
    return Table("What differs", ("setting or version", "A", "B"), "lll", rows)


def _facts(sweep: SweepData) -> dict[str, frozenset[str]]:
    """Return the different values of each setting, version and revision of a sweep, as texts."""
    frame = sweep.results
    columns = [column for column in frame.columns if column.startswith(SETTINGS)]
    found = {column.removeprefix(SETTINGS): frozenset(map(str, frame[column].dropna())) for column in columns}
    records = [record for run in sweep.runs for record in run.result or ()]
    for record in records:
        for key, value in {**record.versions, "revision": record.revision}.items():
            found[f"version of {key}" if key != "revision" else key] = found.get(key, frozenset()) | {str(value)}
    for run in sweep.runs:
        for key, value in _facts_of(run).items():
            found[key] = found.get(key, frozenset()) | {str(value)}
    return {key: values for key, values in found.items() if values}


def _facts_of(run: RunFolder) -> dict[str, object]:
    """Return the settings, versions and revision of a run of private learning or of a marketplace."""
    other = run.learning.facts if run.learning is not None else run.market
    tracked = tracked_run(run) if other is not None else None
    if tracked is None:
        return {}
    known = {**tracked.settings, **{f"version of {key}": value for key, value in other["versions"].items()}}
    return known | {"revision": other.get("revision")}


def _several(values: frozenset[str] | None, most: int = 4) -> str:
    texts = sorted(text if len(text) < SHA256 else f"{text[:12]}..." for text in values or ())
    return DASH if not texts else ", ".join(texts[:most]) + (" ..." if len(texts) > most else "")


def side_by_side(a: SweepData, b: SweepData) -> DataFrame:
    """Return a row for each condition and method: what `summary_table` says of A and of B, and how they compare.

    The frame has `<figure>_a` and `<figure>_b`, `agreement_difference` (B minus A), `<cost>_ratio` (B / A), and
    `value_difference`, the largest difference of two values of the same condition, method, seed and candidate.
    """
    import pandas

    names = [*a.names, "method"]
    kept = ["seeds", "agreement_mean", "agreement_sd", *(f"{cost}_mean" for cost in COSTS)]
    sides = [
        one.summary[[*names, *kept]] if len(one.summary) else pandas.DataFrame(columns=[*names, *kept])
        for one in (a, b)
    ]
    rows = sides[0].merge(sides[1], on=names, how="outer", suffixes=("_a", "_b"))
    order = {key: k for k, key in enumerate(dict.fromkeys(key for side in sides for key in _keys(side, names)))}
    rows = rows.iloc[sorted(range(len(rows)), key=[order[key] for key in _keys(rows, names)].__getitem__)]
    rows = rows.reset_index(drop=True)
    rows["agreement_difference"] = rows["agreement_mean_b"] - rows["agreement_mean_a"]
    for cost in COSTS:
        rows[f"{cost}_ratio"] = rows[f"{cost}_mean_b"] / rows[f"{cost}_mean_a"].where(rows[f"{cost}_mean_a"] > 0)
    pairs = _pairs(a, b)
    largest: dict[tuple[str, ...], float] = {}
    for key, distance in zip(_keys(pairs, names), pairs.get("distance", ()), strict=True):
        largest[key] = max(distance, largest.get(key, 0.0))
    rows["value_difference"] = [largest.get(key, math.nan) for key in _keys(rows, names)]
    return rows


def _keys(frame: DataFrame, names: Sequence[str]) -> list[tuple[str, ...]]:
    return list(frame[list(names)].itertuples(index=False, name=None)) if len(frame) else []


def _pairs(a: SweepData, b: SweepData) -> DataFrame:
    """Return the values of A and B of the same condition, method, seed and candidate, with their distance."""
    import pandas

    keys = [*a.names, "label", "seed", "candidate"]
    if not (len(a.results) and len(b.results)):
        return pandas.DataFrame()
    left, right = (one.results[[*keys, "value"]].dropna().drop_duplicates(keys) for one in (a, b))
    both = left.merge(right, on=keys, suffixes=("_a", "_b")).rename(columns={"label": "method"})
    both["distance"] = (both["value_b"] - both["value_a"]).abs()
    return both


def in_short(a: str, b: str, pair: tuple[SweepData, SweepData], rows: DataFrame) -> list[str]:
    """Return what the comparison found, in sentences with figures."""
    counts = [sum(not run.lost for run in one.runs) for one in pair]
    both = rows[rows["seeds_a"].notna() & rows["seeds_b"].notna()]
    said = [f"A is {a} with {counted(counts[0], 'run')}, and B is {b} with {counted(counts[1], 'run')}."]
    if len(rows):
        said.append(f"{len(both)} of {counted(len(rows), 'row')} (methods by condition) stand in both.")
    keys = [*pair[0].names, "method", "seed"]
    if all(len(one.per_run) for one in pair):
        left, right = (one.per_run.set_index(keys)["agreement"].dropna() for one in pair)
        if differences := (right - left).dropna().tolist():
            it = interval(differences)
            ends = "" if math.isnan(it["low"]) else f", 95% interval {it['low']:+.3f} to {it['high']:+.3f}"
            said.append(
                f"Agreement with the truth differs by {it['difference']:+.3f} (B minus A), as a mean over "
                f"{it['pairs']} pairs of one condition, method and seed{ends}."
            )
    if both["value_difference"].notna().any():
        largest = number(float(both["value_difference"].max()), 3)
        said.append(f"Two values of the same seed and candidate differ by {largest} at most.")
    ratios = [
        f"{both[f'{cost}_mean_b'].sum() / total:.3g} times the {words}"
        for cost, words in zip(COSTS, ("seconds", "bytes", "rounds"), strict=True)
        if (total := both[f"{cost}_mean_a"].sum()) > 0
    ]
    return said + ([f"Over the rows in both, B takes {', '.join(ratios)} of A."] if ratios else [])


def agreement_rows(rows: DataFrame, names: Sequence[str]) -> Table:
    """Return agreement and values of both sweeps as cells."""
    cells = [
        (*(row[name] for name in names), row["method"], _whole(row["seeds_a"]), _whole(row["seeds_b"]))
        + (_fixed(row["agreement_mean_a"]), _fixed(row["agreement_mean_b"]), _fixed(row["agreement_difference"], "+"))
        + (_cell(row["value_difference"]),)
        for _, row in rows.iterrows()
    ]
    header = (*names, "method", "seeds, A", "seeds, B", "agreement, A", "agreement, B", "B minus A")
    notes = (AGREEMENT, "The last column is the largest difference of two values of the same seed and candidate.")
    align = "l" * (len(names) + 1) + "r" * 6
    return Table("Agreement and values", (*header, "values differ by at most"), align, cells, notes)


def cost_rows(rows: DataFrame, names: Sequence[str]) -> Table:
    """Return the cost of both sweeps as cells, and the ratio B / A."""
    paid = rows[rows[[f"{cost}_mean_{side}" for cost in COSTS for side in "ab"]].fillna(0).sum(axis="columns") > 0]
    cells = [
        (*(row[name] for name in names), row["method"])
        + tuple(_cell(row[f"{cost}_{key}"]) for cost in COSTS for key in ("mean_a", "mean_b", "ratio"))
        for _, row in paid.iterrows()
    ]
    header = tuple(f"{what}, {side}" for what in ("seconds", "MB", "rounds") for side in ("A", "B", "B / A"))
    notes = ("Each figure is of all candidates of a run together, as a mean over seeds.",)
    return Table("Cost", (*names, "method", *header), "l" * (len(names) + 1) + "r" * 9, cells, notes)


def _cell(value: float) -> str:
    return DASH if value is None or math.isnan(value) else number(value, 3)


def _fixed(value: float, sign: str = "") -> str:
    return DASH if value is None or math.isnan(value) else f"{value:{sign}.3f}"


def _whole(value: float) -> str:
    return DASH if math.isnan(value) else f"{value:.0f}"
