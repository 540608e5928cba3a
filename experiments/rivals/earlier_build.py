"""An earlier build of this project, which measures the same gradient and appraisals by its own benchmark.

The build is taken out of the git history of this checkout into a folder of its own and runs there, with the interpreter
and the packages of this run: a difference is one of the code. In goes a folder; out come seconds, bytes and rounds as
`studies.engine.gradient` counts them, because COMMIT's benchmark defines its works alike. Both builds' benchmarks have
to keep their definitions; another commit may be named only if its benchmark writes the same keys.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

COMMIT = "887b613"
ROOT = Path(__file__).resolve().parents[2]
WORKS = ("single", "kept")
FEW_ROWS = 64  # of the gradient that the earlier benchmark always measures beside whole appraisals
LIMIT = 3600  # seconds of one run of the earlier benchmark

Cost = tuple[float, float, float]  # seconds, bytes of all parties, rounds


class EarlierBuild:
    """The build of COMMIT in `folder`."""

    def __init__(self, folder: Path):
        """Take the build out of the history. ImportError says that this checkout does not have it."""
        found = subprocess.run(["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True)
        if found.returncode:
            raise ImportError(f"{COMMIT} is not in the history of this checkout")
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
            archive.extractall(folder / "build", filter="data")
        self._build, self._out = folder / "build", folder / "out"

    def gradient(self, rows: int, features: int, bound: float) -> tuple[dict[str, Cost], float | None]:
        """Measure one turn of the gradient. Return its costs by work, and the largest error."""
        given = ["--rows", str(rows), "--features", str(features), "--bound", str(bound), "--appraisals", ""]
        found = {row["work"].removeprefix("gradient, "): row for row in self._measure(given)}
        errors = [found[work]["error"] for work in WORKS if found[work]["error"] is not None]
        return {work: _cost(found[work]) for work in WORKS}, max(errors, default=None)

    def appraisal(self, method: str, small: bool, size: int | None) -> tuple[Cost, float]:
        """Measure one whole appraisal by a method. Return its cost and the largest difference from plaintext."""
        given = ["--rows", str(FEW_ROWS), "--appraisals", method, *["--small"] * small]
        given += ["--size", str(size)] if size else []
        (found,) = (row for row in self._measure(given) if row["work"].startswith(f"{method},"))
        return _cost(found), found["error"]

    def _measure(self, given: list[str]) -> list[dict]:
        command = [sys.executable, "experiments/bench_engine.py", "--out", str(self._out), "--repeat", "1"]
        environment = os.environ | {"PYTHONPATH": str(self._build), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, "--engines", "fast", *given],
            cwd=self._build, env=environment, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
        if done.returncode:
            raise OSError(f"the benchmark of {COMMIT} failed: {done.stderr.strip().splitlines()[-1:]}")
        rows = map(json.loads, (self._out / "engine.jsonl").read_text().splitlines())
        return [row for row in rows if row["engine"] == "fast"]


def _cost(row: dict) -> Cost:
    return row["seconds"], row["mb"] * 1e6, row["rounds"]
