"""Two sweeps side by side, of private learning, attacks and the marketplace: each figure of A and of B.

In go the runs of both sweeps. Out come a frame with a row for each protocol, condition and figure, its table, the
numbers and sentences that say what differs, and the picture of cost against leak with both sweeps in it. A condition is
made of the settings that differ within A or within B. The figures are those of `tracked`, as means over runs. Columns
of the frame have to stay, because users' programs read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mpc_appraisal.reporting.learning_sweep import leak_figure, leak_points
from mpc_appraisal.reporting.run_folders import RunFolder
from mpc_appraisal.reporting.table import DASH, Table, number
from mpc_appraisal.reporting.tiles import Tile
from mpc_appraisal.reporting.tracked import tracked_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

TITLE = "Protocols, attacks and the marketplace"
CAPTION = "Cost against leak of the protocols of A and of B. Down and left is better."
COLUMNS = ("protocol", "condition", "figure", "runs_a", "runs_b", "a", "b", "difference", "ratio")
RATIOS = ("seconds", "megabytes", "rounds")  # the figures whose ratio says more than their difference
OF_ATTACKS = ("recovered/", "chance/", "above_chance/", "seconds/in_the_clear")
SAID = {"accuracy/private": "accuracy by the protocol", "accuracy/in_the_clear": "accuracy in the clear"}


def protocols_frame(a: Sequence[RunFolder], b: Sequence[RunFolder]) -> DataFrame:
    """Return the frame of both sweeps, with the columns COLUMNS. There may be no rows."""
    import pandas

    sides = [_grouped(runs, _differing(a, b)) for runs in (a, b)]
    rows = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        found = [side.get(key, []) for side in sides]
        for name in dict.fromkeys(name for numbers in (*found[0], *found[1]) for name in numbers):
            known = [[numbers[name] for numbers in each if name in numbers] for each in found]
            left, right = (fmean(each) if each else None for each in known)
            both = left is not None and right is not None
            rows.append((*key, name, len(known[0]), len(known[1]), left, right, right - left if both else None,
                         right / left if both and left > 0 else None))  # fmt: skip
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def _label(run: RunFolder) -> str | None:
    """Return the protocol in words; None for an appraisal without attacks, which other tables compare."""
    if run.learning is not None:
        return run.learning["label"]
    if run.attacked is not None:
        return run.attacked.label
    return None if run.market is None else str(run.market["label"])


def _settings(run: RunFolder) -> dict[str, Any]:
    tracked = tracked_run(run)
    kept = {} if tracked is None else tracked.settings
    return {key: str(value) for key, value in kept.items() if key not in ("seed", "candidates", "role")}


def _differing(a: Sequence[RunFolder], b: Sequence[RunFolder]) -> dict[str, list[str]]:
    """Return, for each protocol, the settings that differ within one of the sweeps."""
    found: dict[str, list[str]] = {}
    for runs in (a, b):
        for label in {name for run in runs if (name := _label(run)) is not None}:
            stated = [_settings(run) for run in runs if _label(run) == label]
            keys = dict.fromkeys(key for one in stated for key in one)
            differing = [key for key in keys if len({one.get(key) for one in stated}) > 1]
            found[label] = list(dict.fromkeys([*found.get(label, []), *differing]))
    return found


def _grouped(
    runs: Sequence[RunFolder], differing: dict[str, list[str]]
) -> dict[tuple[str, str], list[dict[str, float]]]:
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for run in runs:
        label, tracked = _label(run), tracked_run(run)
        if label is None or tracked is None:
            continue
        own = _settings(run)
        words = ", ".join(f"{key}={own[key]}" for key in differing[label] if key in own)
        kept = dict(tracked.numbers)
        if run.result is not None:  # other tables compare the rest of an appraisal
            kept = {name: value for name, value in kept.items() if name.startswith(OF_ATTACKS)}
        groups.setdefault((label, words), []).append(kept)
    return groups


def protocols_table(frame: DataFrame) -> Table:
    """Return the frame as a table."""

    def cell(value: float | None) -> str:
        return DASH if value is None or value != value else number(value, 3)

    rows = []
    for row in frame.to_dict("records"):
        compared = row["ratio"] if row["figure"].split("/")[0] in RATIOS else row["difference"]
        by = f"{cell(compared)} x" if row["figure"].split("/")[0] in RATIOS else f"{cell(compared)}"
        known = compared is not None and compared == compared
        counts = (str(row["runs_a"]), str(row["runs_b"]), cell(row["a"]), cell(row["b"]))
        rows.append((row["protocol"], row["condition"] or DASH, row["figure"], *counts, by if known else DASH))
    header = ("protocol", "condition", "figure", "runs, A", "runs, B", "A", "B", "B against A")
    notes = ("Means over runs. Of seconds, MB and rounds the ratio B / A is stated, of other figures B minus A.",)
    return Table(TITLE, header, "lllrrrrr", rows, notes if rows else ())


def protocols_figure(a: Sequence[RunFolder], b: Sequence[RunFolder]) -> Figure | None:
    """Draw cost against leak of both sweeps; None where no protocol of them ran and was attacked."""
    sides = {"A": leak_points(a), "B": leak_points(b)}
    return leak_figure([replace(p, label=f"{side}: {p.label}") for side, points in sides.items() for p in points])


def protocols_tiles(frame: DataFrame) -> list[Tile]:
    """Return how accuracy, the largest leak and the seconds of B stand to those of A, over the rows that both have."""
    both = frame[frame["difference"].notna()]
    tiles = []
    for name, words in SAID.items():
        own = both[both["figure"] == name]
        if len(own):
            tiles.append((f"{own['difference'].astype(float).mean():+.3f}", f"{words}, B minus A"))
            break
    leaks = both[both["figure"].str.startswith("above_chance/")] if len(both) else both
    if len(leaks):
        shift = float(leaks["b"].max()) - float(leaks["a"].max())
        tiles.append((f"{shift:+.2f}", "the largest that an attack recovers above chance, B minus A"))
    for name, words in (("seconds/protocol", "by the protocol"), ("seconds/in_the_clear", "in the clear")):
        own = both[both["figure"] == name]
        if len(own) and own["a"].sum() > 0:
            tiles.append((f"{own['b'].sum() / own['a'].sum():.3g} x", f"the seconds of A {words}: what B takes"))
            break
    return tiles


def protocols_sentences(frame: DataFrame) -> list[str]:
    """Return what differs, in sentences."""
    if not len(frame):
        return []
    groups = frame.groupby(["protocol", "condition"], sort=False)
    both = sum(bool(group["difference"].notna().any()) for _, group in groups)
    said = [f"Of protocols under one condition, {both} of {groups.ngroups} are in both."]
    return said + [f"{words[:1].upper()}{words[1:]}: {value}." for value, words in protocols_tiles(frame)]
