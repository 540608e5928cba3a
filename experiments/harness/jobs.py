"""Pieces of a study that are kept once they are finished, so that the same command goes on where it stopped."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.harness.records import Row


@dataclass(frozen=True)
class Job:
    """One call, run(*arguments), that returns rows. The rows are kept in WORK/<name>.json.

    Jobs of a lower `turn` begin first, so that a run that is stopped has something of every part.
    """

    name: str
    run: Callable[..., list[Row]]
    arguments: tuple[Any, ...]
    turn: int = 0

    def rows(self, work: Path) -> list[Row] | None:
        """Return the kept rows, or None if the job is not finished or was finished with other arguments."""
        path = work / f"{self.name}.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        return kept["rows"] if kept.get("stated") == repr(self.arguments) else None

    def keep(self, work: Path) -> None:
        """Run the job on one thread and keep its rows. A run that is stopped leaves no half of a file."""
        torch.set_num_threads(1)
        rows = self.run(*self.arguments)
        work.mkdir(parents=True, exist_ok=True)
        half = work / f"{self.name}.part"
        half.write_text(json.dumps({"stated": repr(self.arguments), "rows": rows}, allow_nan=False))
        half.replace(work / f"{self.name}.json")


def run_all(jobs: Iterable[Job], work: Path, until: float | None, workers: int = 1) -> None:
    """Run what is not finished, and begin nothing after `until` (in the time of time.monotonic).

    One worker runs the jobs in this process, so that nothing disturbs their timings. More workers are processes.
    """
    left = sorted((job for job in jobs if job.rows(work) is None), key=lambda job: job.turn)
    run = partial(_run, work=work, until=until)
    if workers == 1:
        list(map(run, left))
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(run, left))


def _run(job: Job, work: Path, until: float | None) -> None:
    if until is None or time.monotonic() < until:
        job.keep(work)
        print(f"{time.strftime('%H:%M:%S')} {job.name}", flush=True)


def finished(jobs: Sequence[Job], work: Path) -> tuple[list[Row], list[str]]:
    """Return the rows of all finished jobs, and the names of the others."""
    found = [(job.name, job.rows(work)) for job in jobs]
    rows = [row for _, kept in found for row in kept or ()]
    return rows, [name for name, kept in found if kept is None]
