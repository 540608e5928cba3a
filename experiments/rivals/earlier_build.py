"""Builds of this project as rivals of each other: today's, and an earlier one that is taken out of the history.

The earlier build lies in a folder of its own and runs there, with the interpreter and the packages of this run, so that
a difference is one of the code. Both builds run `any_build`, the same file, in a process that stays. In goes a work of
that file; out comes what it cost. Another commit may be named if `any_build` knows where its modules are.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

COMMIT, BASELINE = "887b613", "baseline"
ROOT = Path(__file__).resolve().parents[2]
ANY_BUILD = Path(__file__).with_name("any_build.py")
Cost = dict[str, Any]


class Build:
    """The build whose package lies in `folder`, in a process that does one work after the other.

    A work that fails ends the process, and the next work has a new one.
    """

    def __init__(self, folder: Path = ROOT):
        self.folder = folder
        self._start()

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, str(ANY_BUILD)], cwd=self.folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip

    def do(self, work: str, **arguments: Any) -> Cost:
        """Do a work of `any_build`. OSError has the last line that the process said if it fails."""
        if self._process.stdin.closed:
            self._start()
        try:
            self._process.stdin.write(json.dumps({"work": work, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer is missing too
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            self.close()
            raise OSError(f"the build in {self.folder.name} failed at {work}: {said[-1:]}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self._process.stdin.closed:
            return
        with suppress(BrokenPipeError):  # of a work that the process was not there to read
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


class Builds:
    """The builds that a run compares, by the engine's name: fast and stock are today's, and baseline is COMMIT's.

    Attributes:
        engines: Those of the wanted engines that this checkout can run, in the order in which they were asked for.
    """

    def __init__(self, wanted: Sequence[str], folder: Path):
        self._today, self._earlier = Build(), None
        if BASELINE in wanted:
            try:
                self._earlier = Build(extracted(folder / "build"))
            except ImportError as reason:
                print(f"the earlier build is left out: {reason}", flush=True)
        known = ("fast", "stock", *[BASELINE] * (self._earlier is not None))
        self.engines = tuple(engine for engine in wanted if engine in known)

    def folder(self, engine: str) -> Path:
        """Return the folder of the engine's package."""
        return (self._earlier if engine == BASELINE else self._today).folder

    def do(self, engine: str, work: str, **arguments: Any) -> Cost:
        """Do a work of `any_build` on the engine."""
        build = self._earlier if engine == BASELINE else self._today
        return build.do(work, engine="stock" if engine == "stock" else "fast", **arguments)

    def close(self) -> None:
        for build in (self._today, self._earlier):
            if build is not None:
                build.close()


def extracted(folder: Path, commit: str = COMMIT) -> Path:
    """Take a commit out of the history into `folder`, which it returns. ImportError says that it is not there."""
    found = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True)
    if found.returncode:
        raise ImportError(f"{commit} is not in the history of this checkout")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder
