"""CrypTen's own tests that fit two parties, on three sides: as installed, made importable, and over the engine.

Each file runs in a process of its own (`suite_worker`), which appends one line a test to a file in the work folder. A
run that was ended goes on where it stopped. Out come rows, one for each test and side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.records import Row
from experiments.studies.crypten.suite_worker import COMPATIBLE, ENGINE, INSTALLED

SIDES = (INSTALLED, COMPATIBLE, ENGINE)
# The files whose tests are of two parties, from the quick ones to those that take minutes.
FILES = ("test_arithmetic", "test_binary", "test_communicator", "test_context", "test_crypten", "test_optim",
         "test_distributions", "test_privacy_models", "test_onnx_converter", "test_autograd", "test_nn",
         "test_gradients", "test_mpc")  # fmt: skip
KEYS = {"part", "side", "file", "test", "outcome", "seconds", "reason", "cut"}
NO_IMPORT = "(import)"  # stands for the name of a test where no test of a file could run
WORKER = "experiments.studies.crypten.suite_worker"


def run_suite(
    source: Path,
    work: Path,
    sides: Sequence[str] = SIDES,
    files: Sequence[str] = FILES,
    until: float | None = None,
    cut: int = 0,
) -> list[Row]:
    """Run what is not finished, and return the rows of all that is.

    Args:
        source: The folder of CrypTen's source distribution.
        work: The folder of what is finished.
        sides: Names in SIDES.
        files: Names in FILES.
        until: The time (monotonic clock) after which no file begins.
        cut: The loops of tests that are run now take so many elements at most; 0 for all.
    """
    work.mkdir(parents=True, exist_ok=True)
    for file in files:
        for side in sides:
            if until is None or time.monotonic() < until:
                _run_file(source, work, side, file, cut)
                print(f"suite: {file} on {side} done", file=sys.stderr, flush=True)
    return rows_of(work)


def rows_of(work: Path) -> list[Row]:
    """Return the rows of all tests that are finished."""
    rows = []
    for file in FILES:
        for side in SIDES:
            lines = _lines(work / f"{side}-{file}.jsonl")
            rows += [_row(side, file, line) for line in lines if "test" in line or line.get("imported") is False]
    return rows


def _run_file(source: Path, work: Path, side: str, file: str, cut: int) -> None:
    place = work / f"{side}-{file}.jsonl"
    done = [line["test"] for line in _lines(place) if "test" in line]
    if any(line.get("imported") is False or line.get("ended") for line in _lines(place)):
        return
    command = [sys.executable, "-m", WORKER, side, str(source), file, str(cut), *done]
    with open(place, "a") as lines, open(work / f"{side}-{file}.log", "a") as log:
        status = subprocess.run(command, stdout=lines, stderr=log, env=environment(), check=False).returncode
        if status == 0:
            lines.write(json.dumps({"ended": True}) + "\n")


def environment() -> dict[str, str]:
    """Return the environment of the workers, which must find this repository."""
    root = str(Path(__file__).resolve().parents[3])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def _lines(place: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, without what CrypTen's tests have printed between them."""
    found = []
    for line in place.read_text().splitlines() if place.is_file() else ():
        try:
            read = json.loads(line)
        except ValueError:
            continue
        if isinstance(read, dict):
            found.append(read)
    return found


def _row(side: str, file: str, line: dict[str, Any]) -> Row:
    common = {"part": "suite", "side": side, "file": file}
    if line.get("imported") is False:
        return common | {"test": NO_IMPORT, "outcome": "failed", "seconds": 0.0, "reason": line["reason"],
                         "cut": 0}  # fmt: skip
    return {"cut": 0} | common | line


def totals(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many of the tests passed, failed and were skipped."""
    found = {"passed": 0, "failed": 0, "skipped": 0}
    for row in rows:
        found[row["outcome"]] += 1
    return found
