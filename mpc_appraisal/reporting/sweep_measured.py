"""How well the values of a sweep's runs serve: a row for each run, method and measure, and a table over seeds.

In go runs with what their measures say (`measured`), and the frame of runs that count (`sweep_tables.runs_table`). Out
come a frame for programs and a table for the page. Names of columns have to stay, because users' programs read them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpc_appraisal.reporting.measured import MEASURES
from mpc_appraisal.reporting.measured_tables import HEADERS, MEANING, TITLE
from mpc_appraisal.reporting.run_folders import RunFolder
from mpc_appraisal.reporting.table import DASH, Table, number

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("method", "measure", "seed", "score", "low", "high", "random_low", "random_high", "beyond_chance")


def measured_frame(runs: Sequence[RunFolder], per_run: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return one row for each run that counts, each of its methods and each measure. There may be no rows.

    names: the settings that tell conditions apart, which are columns too.
    """
    import pandas

    found = {
        (run.sweep, run.folder, one.method): [] for run in runs if run.result is not None for one in run.result.measured
    }
    for run in runs:
        for one in run.result.measured if run.result is not None else ():
            found[run.sweep, run.folder, one.method].append(one)
    rows = []
    for row in per_run.to_dict("records") if found else ():
        for one in found.get((row["sweep"], row["folder"], row["kind"]), ()):
            rows.append(
                {name: row[name] for name in ("sweep", "folder", *names, "method", "seed")}
                | {key: getattr(one, key) for key in COLUMNS if key not in ("method", "seed")}
            )
    return pandas.DataFrame(rows, columns=["sweep", "folder", *names, *COLUMNS])


def measured_cells(frame: DataFrame, names: Sequence[str]) -> Table:
    """Return the mean and standard deviation over seeds of each measure, by condition and method."""
    known = frame[frame["score"].notna()]
    shown = [measure for measure in MEASURES if (known["measure"] == measure).any()]
    rows = []
    for key, group in known.groupby([*names, "method"], sort=False):
        scores = {measure: group[group["measure"] == measure]["score"] for measure in shown}
        cells = [DASH if not len(s) else _spread(s.mean(), s.std(), measure) for measure, s in scores.items()]
        rows.append((*key, str(group["seed"].nunique()), *cells))
    notes = (*(MEANING[measure] for measure in shown), "Mean ± standard deviation over seeds.")
    header = (*names, "method", "seeds", *(HEADERS[measure] for measure in shown))
    return Table(TITLE, header, "l" * (len(names) + 1) + "r" * (len(shown) + 1), rows, notes if rows else ())


def _spread(mean: float, deviation: float, measure: str) -> str:
    text = (lambda value: number(value, 2)) if measure == "removal" else (lambda value: f"{value:.2f}")
    return text(mean) if math.isnan(deviation) else f"{text(mean)} ± {text(deviation)}"
