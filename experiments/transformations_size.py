"""Sizes of `transformations.py`, and jobs that are kept once they are finished.

`full`: MNIST, a candidate of 5,940 rows, as in the paper on appraisal. `small`: scikit-learn's digits, which shows that
all of it runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.data import DataSource, Digits, Mnist

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """One candidate of `rows` rows, appraised `turns` times by every engine. l2: of the model."""

    name: str
    data: str
    own: int
    rows: int
    tested: int
    l2: float
    turns: int

    @property
    def source(self) -> DataSource:
        return {"mnist": Mnist, "digits": Digits}[self.data]()

    @property
    def overrides(self) -> list[str]:
        """For the app."""
        return [
            f"data={self.data}", f"data.train_size={self.own}", f"scenario.size={self.rows}",
            f"scenario.test_size={self.tested}", f"model.l2={self.l2}",
        ]  # fmt: skip


def full(turns: int) -> Size:
    return Size("full", "mnist", 600, 5940, 2000, 0.003, turns)


def small(turns: int) -> Size:
    return Size("small", "digits", 150, 200, 300, 0.01, turns)


@dataclass(frozen=True)
class Job:
    """Rows of one part, or of a piece of it: run(*arguments, work). Kept in WORK/<name>.json."""

    name: str
    run: Callable[..., list[Row]]
    arguments: tuple[Any, ...]

    def rows(self, work: Path) -> list[Row] | None:
        """None where it is not finished, or was finished with other sizes."""
        path = work / f"{self.name}.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        return kept["rows"] if kept.get("stated") == repr(self.arguments) else None

    def keep(self, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        rows = self.run(*self.arguments, work)
        half = work / f"{self.name}.part"  # a run that is stopped leaves no half of a file
        half.write_text(json.dumps({"stated": repr(self.arguments), "rows": rows}, allow_nan=False))
        half.replace(work / f"{self.name}.json")


def run_all(jobs: Sequence[Job], work: Path, until: float | None) -> None:
    """One after the other, for they are timed; after `until` (of time.monotonic) begins nothing more."""
    for job in jobs:
        if job.rows(work) is not None:
            continue
        if until is not None and time.monotonic() >= until:
            return
        start = time.monotonic()
        job.keep(work)
        print(f"{time.strftime('%H:%M:%S')} {job.name}: {time.monotonic() - start:.0f} s", flush=True)
