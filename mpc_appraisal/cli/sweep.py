"""What users see of a sweep, which is one command that runs many jobs (`--multirun`): each job's start and end.

A launcher may run jobs in other processes or on other machines. So each job leaves messages, one small JSON file each,
in a folder of the sweep, and the process that started the sweep reads and prints them. In go a job's number, its
overrides (its words of the command line, of which some differ between jobs) and its outcome. Out come lines on standard
error, and a summary. This module also locks the folder of a sweep, so that a second sweep cannot overwrite the records
of the first.

The wording of the lines and POLL_SECONDS may change. The lock and the names of the messages have to stay as they are
while a sweep may be resumed by another version.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from mpc_appraisal.cli.finished import CHOICE, RECORDS, SHARED, read_json, write_json
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.storage import take_lock
from mpc_appraisal.reporting.run_folders import FAILURE

MESSAGES, SWEEP_LOCK = ".sweep", ".sweep.lock"
POLL_SECONDS = 0.3
REUSED = "finished before"  # what a job returns if its records existed already


# ---- a sweep's folder ----


_claims: list[FileLock] = []  # at most one lock: that of the sweep that this process started


def claim(root: Path, resume: bool, overwrite: bool) -> None:
    """Hold the folder of a sweep until it ends.

    Raises InputError if another sweep is at work there, unless this one resumes; or if another one has left records
    there, unless this one resumes or overwrites.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = take_lock(root / SWEEP_LOCK, 0, SHARED)
    if lock is None:
        if resume:
            return  # each job waits for its own folder
        expected = "a folder that no other sweep is at work in, or resume=true"
        raise InputError("hydra.sweep.dir", os.path.relpath(root), expected)
    if not resume and not overwrite and (found := next(root.rglob(RECORDS), None)) is not None:
        lock.release()
        kept = os.path.relpath(found.parent)
        raise InputError(
            "hydra.sweep.dir", f"{os.path.relpath(root)}, with records in {kept}", f"no records; or {CHOICE}"
        )
    _claims.append(lock)


# ---- a sweep's jobs ----


def _stderr() -> list[Any]:
    """Identify standard error, to know whether a job's lines come out where the sweep's own do."""
    try:
        found = os.fstat(sys.stderr.fileno())
        return [platform.node(), found.st_dev, found.st_ino]
    except (OSError, ValueError):
        return [platform.node(), os.getpid()]


def clock(seconds: float) -> str:
    """Return a duration as text: 1:02:05, or 2:05 if it is below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True)
class Sweep:
    """One sweep as its jobs know it, wherever they run.

    Attributes:
        folder: The folder of the sweep.
        total: The number of jobs; None if a sweeper decides as it goes.
        swept: The keys that differ between jobs, which name a job. If there are none, all overrides name it.
        started: When the sweep began, in seconds of time.time().
        pid: The process that started the sweep.
        stderr: The standard error of that process, as `_stderr` identifies it.
    """

    folder: Path
    total: int | None
    swept: tuple[str, ...]
    started: float = field(default_factory=time.time)
    pid: int = field(default_factory=os.getpid)
    stderr: list[Any] = field(default_factory=_stderr)

    @property
    def messages(self) -> Path:
        """Return the folder of this sweep's messages."""
        return self.folder / MESSAGES / f"{self.pid}-{platform.node()}-{self.started:.6f}"

    def read(self) -> list[dict[str, Any]]:
        """Return the messages of all jobs so far, in the order of the jobs."""
        return [found for path in sorted(self.messages.glob("*.json")) if (found := read_json(path))]

    def label(self, overrides: Sequence[str]) -> str:
        """Name a job by the overrides that differ between jobs."""
        named = [one for one in overrides if one.partition("=")[0] in self.swept]
        return " ".join(named or overrides)

    def line(self, number: int, overrides: Sequence[str]) -> str:
        """Return a job's line, as in "[3/15] seed=2 appraisal=influence (0:41 so far, about 4:10 to go)"."""
        text = f"[{number + 1}/{self.total or '?'}] {self.label(overrides)}".rstrip()
        ended = [each for each in self.read() if each["state"] != "started"]
        if not ended:
            return text
        elapsed, computed = time.time() - self.started, sum(each["state"] != REUSED for each in ended)
        rest = (
            f", about {clock(elapsed / computed * (self.total - len(ended)))} to go" if computed and self.total else ""
        )
        return f"{text} ({clock(elapsed)} so far{rest})"

    def begins(self, number: int, overrides: Sequence[str]) -> None:
        """Say that a job begins. This is called where the job runs."""
        self._say(number, overrides, "started", self.line(number, overrides))

    def ends(
        self,
        number: int,
        overrides: Sequence[str],
        result: Any,
        error: BaseException | None,
        folder: Path | None = None,
    ) -> None:
        """Say how a job ended. This is called where the job ran.

        An error of this package is printed as one line; any other error is printed with its traceback too. The job's
        folder, if it is given and has no records, keeps the error for the sweep's report.
        """
        if error is None:
            self._say(number, overrides, REUSED if result == REUSED else "computed", "")
            return
        expected = isinstance(error, AppraisalError)
        if not expected:
            traceback.print_exception(error)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        self._say(number, overrides, "failed", f"error: {self.label(overrides)}: {text}")
        if folder is not None and not (folder / RECORDS).exists():
            write_json(folder / FAILURE, {"error": text})

    def _say(self, number: int, overrides: Sequence[str], state: str, line: str) -> None:
        if line:
            sys.stdout.flush()
            print(line, file=sys.stderr, flush=True)
        message = {"state": state, "label": self.label(overrides), "line": line, "pid": os.getpid()}
        write_json(
            self.messages / f"{number:06}.{state != 'started':d}.json", message | {"shown": _stderr() == self.stderr}
        )


# At most one sweep: the one that this process started.
_started: list[tuple[Sweep, threading.Event, threading.Thread]] = []


def begin(sweep: Sweep) -> None:
    """Begin a sweep in this process, and print from now on what its jobs say elsewhere."""
    for left in (sweep.folder / MESSAGES).glob(f"*-{platform.node()}-*"):  # left by a sweep that was killed
        if not _alive(int(left.name.partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    sweep.messages.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(sweep, over), daemon=True)
    watcher.start()
    _started.append((sweep, over, watcher))


def _alive(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _watch(sweep: Sweep, over: threading.Event) -> None:
    """Print each line that a job printed somewhere else, until the sweep is over; equal lines are printed once."""
    shown: set[str] = set()
    last = False
    while not last:
        last = over.wait(POLL_SECONDS)
        for message in sweep.read():
            line = message["line"]
            if line and not message["shown"] and line not in shown:
                shown.add(line)
                print(line, file=sys.stderr, flush=True)


def started_here() -> bool:
    """Return whether this process started a sweep. A process that only runs jobs of another one did not."""
    return bool(_started)


@dataclass(frozen=True)
class Summary:
    """How a sweep ended.

    Attributes:
        failed: The number of jobs that failed.
        of: The number of all jobs.
        inside: Whether all jobs ran in this process.
        folder: The sweep's folder; None where this process started no sweep.
    """

    failed: int
    of: int
    inside: bool
    folder: Path | None = None


def end(whole: bool = True) -> Summary:
    """End the sweep, and print one line that sums it up. whole: whether the launcher ran all jobs."""
    while _claims:
        _claims.pop().release()
    if not _started:
        return Summary(0, 0, True)
    sweep, over, watcher = _started.pop()
    over.set()
    watcher.join(10)
    messages = sweep.read()
    shutil.rmtree(sweep.messages, ignore_errors=True)
    with suppress(OSError):  # another sweep's messages may be there
        sweep.messages.parent.rmdir()
    done = [each for each in messages if each["state"] in ("computed", REUSED)]
    failed = [each["label"] for each in messages if each["state"] == "failed"]
    total = sweep.total or len(messages)
    where = f"{clock(time.time() - sweep.started)}, {os.path.relpath(sweep.folder)}"
    if not whole:
        text = f"ended early: {len(done)} of {total} jobs finished ({where})"
        if done:
            text += "; with resume=true and this folder as hydra.sweep.dir they are not computed again"
        print(text, file=sys.stderr, flush=True)
    if failed:
        print(f"{len(failed)} of {total} jobs failed ({where}): {'; '.join(failed)}", file=sys.stderr, flush=True)
    elif whole:
        before = sum(each["state"] == REUSED for each in messages)
        text = f"{len(done)} of {total} jobs finished" + (f", {before} of them in an earlier run" if before else "")
        print(f"{text} ({where})", file=sys.stderr, flush=True)
    return Summary(len(failed), total, all(each["pid"] == os.getpid() for each in messages), sweep.folder)
