"""A sweep as its report needs it: its runs, the frame of their results, and the frames that are computed from it.

Folders go in; a `SweepData` comes out, and `export` writes its frames for programs and papers. The names of the files
and of their columns have to stay, because users' programs read them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpc_appraisal.reporting.learning_sweep import learning_frame
from mpc_appraisal.reporting.load import frame_of
from mpc_appraisal.reporting.record import BASELINES
from mpc_appraisal.reporting.run_folders import RunFolder, run_folders
from mpc_appraisal.reporting.run_records import RANDOM
from mpc_appraisal.reporting.sweep_measured import measured_frame
from mpc_appraisal.reporting.sweep_tables import levels_table, paired_table, prepared, runs_table, summary_table

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class SweepData:
    """Hold one or several sweeps together.

    Attributes:
        runs: All runs, also those without records.
        results: The frame of `load`: a row for each result. It alone has the random baseline's; in place of that one
            draw, `summary` has the band of many.
        names: The settings that tell conditions apart.
        per_run: A row for each method of each run; see `sweep_tables.runs_table`.
        summary: A row for each condition and method, with mean and standard deviation over seeds.
        paired: A row for each paired comparison.
        levels: The values by level of corruption.
        measured: How well the values serve, a row for each run, method and measure.
        openings: What was opened, to whom and why, with the number of appraisals that opened it.
    """

    runs: list[RunFolder]
    results: DataFrame
    names: list[str]
    per_run: DataFrame
    summary: DataFrame
    paired: DataFrame
    levels: DataFrame
    measured: DataFrame
    openings: DataFrame

    @property
    def methods(self) -> list[str]:
        """The methods, those that appraise first and the one that agrees best at the head, baselines last."""
        return list(dict.fromkeys(self.summary["method"])) if len(self.summary) else []

    @property
    def baselines(self) -> list[str]:
        """The methods among them that are computed in the clear, to compare with."""
        return [method for method in self.methods if method in BASELINES]

    def folders(self) -> DataFrame:
        """Return the index of all runs, with the settings that differ."""
        import pandas

        rows = []
        for run in self.runs:
            row: dict[str, Any] = {"sweep": run.sweep, "folder": run.folder, "state": run.state}
            if run.learning is not None:
                row |= {"methods": run.learning["label"], "seed": run.learning["seed"]}
            elif run.whole:
                own = self.results[(self.results["sweep"] == run.sweep) & (self.results["folder"] == run.folder)]
                methods = [method for method in dict.fromkeys(own["label"]) if method not in BASELINES]
                row |= {"methods": ", ".join(methods), "seed": own["seed"].iloc[0]}
                row |= {name: own[name].iloc[0] for name in self.names}
            rows.append(row | {"reason": run.reason, "overrides": " ".join(run.overrides)})
        return pandas.DataFrame(rows)


def read_sweeps(folders: Sequence[str | Path]) -> SweepData:
    """Read all runs in folders of sweeps. Raises InputError as `run_folders` does."""
    return sweep_of(run_folders(folders))


def sweep_of(
    runs: list[RunFolder], names: Sequence[str] | None = None, own: Mapping[str, Sequence[str]] | None = None
) -> SweepData:
    """Return runs with the frames that are computed from them. names, own: as for `prepared`."""
    import pandas

    frame = frame_of(runs)
    if not len(frame):
        empty = [pandas.DataFrame() for _ in range(6)]
        return SweepData(runs, frame, [], *empty)
    results, names = prepared(frame, names, own)
    is_random = results["method"] == RANDOM
    appraised = results if is_random.all() else results[~is_random]
    per_run = _in_order(runs_table(appraised, names), names)
    summary = summary_table(appraised, per_run, names)
    levels = levels_table(appraised, names)
    paired, measured = paired_table(per_run, names), measured_frame(runs, per_run, names)
    return SweepData(runs, results, names, per_run, summary, paired, levels, measured, openings_table(runs))


def _in_order(per_run: DataFrame, names: Sequence[str]) -> DataFrame:
    """Sort by condition in order of appearance, then methods that appraise before baselines, the best one first."""
    mean = per_run.groupby("method")["agreement"].mean()
    conditions = {key: k for k, key in enumerate(dict.fromkeys(zip(*(per_run[n] for n in names), strict=True)))}

    def place(row: Any) -> tuple[Any, ...]:
        agreement = mean[row["method"]]
        where = conditions.get(tuple(row[name] for name in names), 0)
        return (where, row["kind"] in BASELINES, -agreement if agreement == agreement else 2.0, row["method"])

    order = sorted(per_run.index, key=lambda k: (place(per_run.loc[k]), k))
    sorted_runs = per_run.loc[order].reset_index(drop=True)
    sorted_runs.attrs = per_run.attrs
    return sorted_runs


def openings_table(runs: Sequence[RunFolder]) -> DataFrame:
    """Return what the protocols of all runs opened: to whom, what, how many numbers, why, and how often."""
    import pandas

    found: Counter[tuple[str, str, str, int, str]] = Counter()
    for run in runs:
        for record in run.result or ():
            each = Counter((" and ".join(o["to"]), o["what"], o["why"]) for o in record.openings)
            numbers = Counter()
            for opening in record.openings:
                numbers[" and ".join(opening["to"]), opening["what"], opening["why"]] += opening["numbers"]
            found.update((record.method, to, what, numbers[to, what, why], why) for to, what, why in each)
    rows = [(*key, count) for key, count in found.items()]
    return pandas.DataFrame(rows, columns=["method", "who_learned", "what", "numbers", "why", "appraisals"])


# ---- files for programs and papers ----


def export(sweep: SweepData, folder: Path) -> list[Path]:
    """Write the frames as CSV, Parquet and, all but the results themselves, LaTeX; return the files' paths."""
    frames = {
        "results": sweep.results.drop(columns=[*sweep.names, "label"], errors="ignore"),
        "runs": sweep.per_run,
        "summary": sweep.summary,
        "paired": sweep.paired,
        "measured": sweep.measured if len(sweep.measured) else sweep.measured[[]],
        "openings": sweep.openings,
        "folders": sweep.folders(),
        "learning": learning_frame(sweep.runs),
    }
    return [path for name, frame in frames.items() for path in write_frame(frame, folder, name, name != "results")]


def write_frame(frame: DataFrame, folder: Path, name: str, latex: bool = True) -> list[Path]:
    """Write one frame under a name, and return the files' paths. Nothing is written for a frame without columns."""
    if not len(frame.columns):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    flat = _flat(frame)
    paths = [folder / f"{name}.{kind}" for kind in ("csv", "parquet")]
    flat.to_csv(paths[0], index=False)
    flat.to_parquet(paths[1], index=False)
    if latex:
        paths.append(folder / f"{name}.tex")
        paths[-1].write_text(
            flat.to_latex(index=False, escape=True, float_format="%.4g", na_rep="--"), encoding="utf-8"
        )
    return paths


def _flat(frame: DataFrame) -> DataFrame:
    """Return a copy whose cells are numbers and texts, one kind for each column."""
    flat = frame.copy()
    flat.attrs = {}
    for column in [name for name in flat.columns if flat[name].dtype.kind == "O"]:
        kinds = {type(value) for value in flat[column].dropna()}
        if kinds & {dict, list, tuple}:
            flat[column] = flat[column].map(lambda value: json.dumps(value) if value is not None else None)
        elif len(kinds) > 1:
            flat[column] = flat[column].map(lambda value: None if value is None or value != value else str(value))
    return flat
