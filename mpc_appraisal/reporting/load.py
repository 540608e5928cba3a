"""`load`: the results of runs and sweeps as one pandas DataFrame, a row for each result.

    frame = mpc_appraisal.load("out/sweep")
    frame.groupby(["method", "settings.model.l2"])["value"].mean()

In go folders of runs or sweeps, finished or not. Out comes the frame that `frame_of` makes of `run_folders`: all
columns of `Result.to_frame`, the run's place in `sweep`, `folder` and `finished`, and its settings as `settings.<key>`.
Runs without records are no rows; `frame.attrs["left_out"]` lists them. A column may be added. Names of columns have to
stay, because users' programs read them.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpc_appraisal.common.roles import INTEGRITY, OFF
from mpc_appraisal.reporting.learning_sweep import learning_frame
from mpc_appraisal.reporting.record import Record
from mpc_appraisal.reporting.run_folders import DONE, RunFolder, run_folders

if TYPE_CHECKING:
    from pandas import DataFrame

SETTINGS = "settings."
# Words of the command line that are no settings of the result.
NO_SETTINGS = ("hydra", "resume", "overwrite", "quiet", "party")


def load(*folders: str | Path) -> DataFrame:
    """Return the results of runs as a pandas.DataFrame with one row for each method and candidate of each run.

    Args:
        folders: One or more folders of runs or of sweeps. All runs in them are read, in any depth.

    Returns:
        A frame with all columns of `Result.to_frame` and with these: `sweep` is the folder as it was stated, `folder`
        is the run's own relative to it, `finished` says whether the run marked itself as whole, and `settings.<key>` is
        a public setting of the run, as in `settings.model.l2`; a list of several is a text. Records of earlier versions
        hold no settings; theirs are the words of the run's command line. `frame.attrs["left_out"]` is a list of
        dictionaries (sweep, folder, state, reason, overrides) of the runs that have no readable records: failed,
        unfinished, damaged, or a marketplace's. A run of private learning has a row for each finding of an attack, or
        one row where none was measured, with the columns of `learning_sweep.learning_rows`.

    Raises:
        InputError: A folder does not exist, is stated twice, or there is no run in any of them.

    Warns UserWarning: No run in the folders has records, so that the frame is empty.
    """
    import pandas

    runs = run_folders(folders)
    frame, learned = frame_of(runs), learning_frame(runs)
    if not len(learned):
        if not len(frame):
            counted = Counter(each["state"] for each in frame.attrs["left_out"])
            states = ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))
            text = f"no run has readable records ({states}), so the frame is empty; attrs['left_out'] has the reasons"
            warnings.warn(text, stacklevel=2)
        return frame
    both = pandas.concat([each for each in (frame, learned) if len(each)], ignore_index=True)
    own = sorted(column for column in both.columns if column.startswith(SETTINGS))
    both = both[[column for column in both.columns if column not in own] + own]
    both.attrs["left_out"] = frame.attrs["left_out"]
    return both


def frame_of(runs: Sequence[RunFolder]) -> DataFrame:
    """Return the frame that `load` describes. runs: what `run_folders` returns."""
    import pandas

    frame = pandas.DataFrame([row for run in runs if run.result is not None for row in _rows(run)])
    if (checks := f"{SETTINGS}{INTEGRITY}") in frame:  # earlier versions had no check of messages
        frame[checks] = frame[checks].fillna(OFF)
    own = sorted(column for column in frame.columns if column.startswith(SETTINGS))
    frame = frame[[column for column in frame.columns if column not in own] + own]
    frame.attrs["left_out"] = [
        {key: getattr(run, key) for key in ("sweep", "folder", "state", "reason")} | {"overrides": list(run.overrides)}
        for run in runs
        if not run.whole
    ]
    return frame


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    place = {"sweep": run.sweep, "folder": run.folder, "finished": run.state == DONE}
    results = run.result.to_frame().astype(object).to_dict("records")
    return [place | row | settings_of_row(record, run) for record, row in zip(run.result, results, strict=True)]


def settings_of_row(record: Record, run: RunFolder) -> dict[str, Any]:
    """Return a record's settings by column; without any, those that the run's command line states."""
    stated = record.settings if record.settings is not None else _of_words(run.overrides)
    return {f"{SETTINGS}{key}": _cell(value) for key, value in stated.items() if value is not None}


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return ",".join(one if isinstance(one, str) else json.dumps(one) for one in value)
    return value


def _of_words(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings that words KEY=VALUE of a command line state."""
    import yaml

    found = {}
    for word in words:
        key, equals, text = word.lstrip("+").partition("=")
        if equals and key.split(".")[0].split("@")[0] not in NO_SETTINGS:
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                value = text
            found[key] = text if isinstance(value, dict) else value
    return found
