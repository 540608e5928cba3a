"""Sweeps: what a finished job leaves so that it is not repeated, and what the jobs of a sweep tell of themselves.

A job that has written all its files writes `finished.json` last: the hash of its configuration, SHA-256 of its records,
and the package's version. Whatever contradicts it is computed again. Jobs run in other processes, or on other machines,
under some launchers, so they leave notes in `SWEEP/.sweep`; the process that started the sweep reads those.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.provenance import config_hash, versions
from mpc_appraisal.common.storage import take_lock, write_whole

FINISHED, RECORDS, NOTES, LOCK = "finished.json", "records.jsonl", ".sweep", ".lock"
SWEEP_LOCK, SUPERSEDED = ".sweep.lock", "records.superseded.jsonl"
CHOICE = "resume=true, which keeps what is finished, or overwrite=true, which replaces it"
POLL_SECONDS = 0.3
SHARED = 0o644  # the mode of a lock in a folder that others may read
REUSED = "finished before"  # what a job returns that computed nothing
# Presets and launchers: the extra that installs them, and their module.
SUBMITIT = ("submitit", "hydra_plugins.hydra_submitit_launcher")
LAUNCHERS = {
    "joblib": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "submitit_local": SUBMITIT,
    "submitit_slurm": SUBMITIT,
    "slurm": SUBMITIT,
}


# ---- finished jobs ----


def job_key(config: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Of a job's whole configuration and of the contents of the files that it names."""
    return config_hash({"config": config, "files": [_sha256(path) for path in files]})


def settings_key(config: Mapping[str, Any]) -> str:
    """Of a job's whole configuration alone: the same while the files that it names change."""
    return config_hash({"config": config})


def _sha256(path: Path) -> str | None:
    found = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except OSError:
        return None
    return found.hexdigest()


def finish(folder: Path, key: str, settings: str | None = None) -> None:
    """Say that the run in `folder` is whole; the last thing that a job writes, and written in one step."""
    text = {"config": key, "records": _sha256(folder / RECORDS), "version": versions()["mpc_appraisal"]}
    _write(folder / FINISHED, text | ({} if settings is None else {"settings": settings}))


def clear(folder: Path) -> None:
    """Remove what an earlier run left that another one's reader would take for its own."""
    for path in (folder / FINISHED, folder / RECORDS, *folder.glob("card-*.md"), *folder.glob("card-*.html")):
        path.unlink(missing_ok=True)


def fresh(folder: Path, name: str) -> None:
    """Refuse a folder that holds the records of an earlier run. name: of the key that states the folder."""
    if (folder / RECORDS).exists():
        expected = f"a folder without records of an earlier run; or {CHOICE}"
        raise InputError(name, os.path.relpath(folder), expected)


def stale(root: Path, key: str, settings: str) -> list[Path]:
    """Folders of finished runs of these very settings on files that have changed since."""
    marks = ((path.parent, mark(path.parent)) for path in sorted(root.rglob(FINISHED)))
    return [folder for folder, said in marks if said.get("settings") == settings and said.get("config") != key]


def supersede(root: Path, key: str, settings: str) -> None:
    """Put aside the records of runs of these settings on earlier contents of the files: reports read one truth."""
    for folder in stale(root, key, settings):
        os.replace(folder / RECORDS, folder / SUPERSEDED)
        (folder / FINISHED).unlink()
        where = os.path.relpath(folder / SUPERSEDED)
        print(f"a file has changed since an earlier run, whose records are put aside: {where}", file=sys.stderr)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content))


def _read(path: Path) -> dict[str, Any]:
    """A note or a mark; empty for none, or for one that is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def mark(folder: Path) -> dict[str, Any]:
    """What `finished.json` says, if the records are those that it speaks of; else nothing."""
    found = _read(folder / FINISHED)
    return found if found and found.get("records") == (_sha256(folder / RECORDS) or "") else {}


def finished(folder: Path, key: str) -> bool:
    """Whether a run of this very configuration, by this version of the package, stands whole in `folder`."""
    found = mark(folder)
    stated = found.get("config") == key and found.get("version") == versions()["mpc_appraisal"]
    return stated and (folder / RECORDS).stat().st_size > 0


def find(root: Path, key: str, first: Path) -> Path | None:
    """The folder of a finished run: `first`, or any folder in `root`, so that a sweep may be defined anew."""
    if finished(first, key):
        return first
    return next((path.parent for path in sorted(root.rglob(FINISHED)) if finished(path.parent, key)), None)


def folder_of(root: Path, number: int, key: str, settings: str | None = None) -> str:
    """Of a resumed sweep's job, inside `root`: where it finished before, else its number; never a folder that keeps a
    finished run of another configuration, as job 0 has when a seed was put in front of the others. A run of the same
    settings on files that have changed since is replaced where it is."""
    found = find(root, key, root / str(number))
    if found is None and settings is not None:
        found = next(iter(stale(root, key, settings)), None)
    if found is not None:
        return str(found.relative_to(root))
    return str(number) if mark(root / str(number)).get("config") in (None, key) else f"{number}-{key[:8]}"


@contextmanager
def alone(folder: Path, wait: bool = True, name: str = "hydra.sweep.dir", apart: bool = False) -> Iterator[Path]:
    """Hold the folder, and say which one it is.

    wait: a job that outlived its sweep may still be writing there, and is waited for; else another process at work is
    an InputError under `name`, the key that states the folder. apart: the folder's name is nobody's choice, so that a
    run that finds it taken goes to one beside it.
    """
    place, number = folder, 1
    while True:
        place.mkdir(parents=True, exist_ok=True)
        lock = take_lock(place / LOCK, 0, SHARED)
        if lock is None and not apart:
            if not wait:
                expected = "a folder that no other run is at work in; resume=true waits for it"
                raise InputError(name, os.path.relpath(place), expected)
            print(f"waiting for another process at work in {os.path.relpath(place)}", file=sys.stderr, flush=True)
            lock = take_lock(place / LOCK, None, SHARED)
        if lock is not None:
            if not (apart and (place / RECORDS).exists()):
                break
            lock.release()
        number += 1
        place = folder.with_name(f"{folder.name}-{number}")
    try:
        yield place
    finally:
        lock.release()


_claims: list[FileLock] = []  # at most one: of the sweep that this process started


def claim(root: Path, resume: bool, overwrite: bool) -> None:
    """Hold the folder of a sweep until it ends; InputError where another sweep is at work there or has left records."""
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
    """What standard error is: whether a job's lines come out where the sweep's own do."""
    try:
        found = os.fstat(sys.stderr.fileno())
        return [platform.node(), found.st_dev, found.st_ino]
    except (OSError, ValueError):
        return [platform.node(), os.getpid()]


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True)
class Sweep:
    """One sweep, as its jobs know it, wherever they run.

    Attributes:
        folder: of the sweep.
        total: number of jobs; None where a sweeper decides as it goes.
        swept: keys that differ between jobs; they name a job. Empty: all that was stated does.
    """

    folder: Path
    total: int | None
    swept: tuple[str, ...]
    started: float = field(default_factory=time.time)
    pid: int = field(default_factory=os.getpid)
    stderr: list[Any] = field(default_factory=_stderr)

    @property
    def notes(self) -> Path:
        return self.folder / NOTES / f"{self.pid}-{platform.node()}-{self.started:.6f}"

    def read(self) -> list[dict[str, Any]]:
        return [note for path in sorted(self.notes.glob("*.json")) if (note := _read(path))]

    def label(self, overrides: Sequence[str]) -> str:
        named = [one for one in overrides if one.partition("=")[0] in self.swept]
        return " ".join(named or overrides)

    def line(self, number: int, overrides: Sequence[str]) -> str:
        """[3/15] seed=2 appraisal=influence (0:41 so far, about 4:10 to go)"""
        text = f"[{number + 1}/{self.total or '?'}] {self.label(overrides)}".rstrip()
        ended = [note for note in self.read() if note["state"] != "started"]
        if not ended:
            return text
        elapsed, computed = time.time() - self.started, sum(note["state"] != REUSED for note in ended)
        rest = (
            f", about {clock(elapsed / computed * (self.total - len(ended)))} to go" if computed and self.total else ""
        )
        return f"{text} ({clock(elapsed)} so far{rest})"

    def begins(self, number: int, overrides: Sequence[str]) -> None:
        """Called where the job runs."""
        self._note(number, overrides, "started", self.line(number, overrides))

    def ends(self, number: int, overrides: Sequence[str], result: Any, error: BaseException | None) -> None:
        """Called where the job ran. An error of this package is one line, any other one that and its traceback."""
        if error is None:
            self._note(number, overrides, REUSED if result == REUSED else "computed", "")
            return
        expected = isinstance(error, AppraisalError)
        if not expected:
            traceback.print_exception(error)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        self._note(number, overrides, "failed", f"error: {self.label(overrides)}: {text}")

    def _note(self, number: int, overrides: Sequence[str], state: str, line: str) -> None:
        if line:
            sys.stdout.flush()
            print(line, file=sys.stderr, flush=True)
        note = {"state": state, "label": self.label(overrides), "line": line, "pid": os.getpid()}
        _write(self.notes / f"{number:06}.{state != 'started':d}.json", note | {"shown": _stderr() == self.stderr})


_started: list[tuple[Sweep, threading.Event, threading.Thread]] = []  # at most one: the sweep that this process started


def begin(sweep: Sweep) -> None:
    """The process that starts a sweep says so, and shows what jobs say elsewhere."""
    for left in (sweep.folder / NOTES).glob(f"*-{platform.node()}-*"):  # by a sweep that was killed
        if not _alive(int(left.name.partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    sweep.notes.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(sweep, over), daemon=True)
    watcher.start()
    _started.append((sweep, over, watcher))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _watch(sweep: Sweep, over: threading.Event) -> None:
    shown: set[str] = set()
    last = False
    while not last:
        last = over.wait(POLL_SECONDS)
        for note in sweep.read():
            if note["line"] and not note["shown"] and note["line"] not in shown:
                shown.add(note["line"])
                print(note["line"], file=sys.stderr, flush=True)


def started_here() -> bool:
    """Whether this process started a sweep, and did not get its jobs from another one."""
    return bool(_started)


@dataclass(frozen=True)
class Summary:
    """of: jobs. inside: whether they ran in this process."""

    failed: int
    of: int
    inside: bool


def end(whole: bool = True) -> Summary:
    """The sweep is over: one line that sums it up. whole: whether the launcher came to its end."""
    while _claims:
        _claims.pop().release()
    if not _started:
        return Summary(0, 0, True)
    sweep, over, watcher = _started.pop()
    over.set()
    watcher.join(10)
    notes = sweep.read()
    shutil.rmtree(sweep.notes, ignore_errors=True)
    with suppress(OSError):  # another sweep's may be there
        sweep.notes.parent.rmdir()
    done = [note for note in notes if note["state"] in ("computed", REUSED)]
    failed = [note["label"] for note in notes if note["state"] == "failed"]
    total = sweep.total or len(notes)
    where = f"{clock(time.time() - sweep.started)}, {os.path.relpath(sweep.folder)}"
    if not whole:
        text = f"ended early: {len(done)} of {total} jobs finished ({where}); with resume=true and this folder as"
        print(f"{text} hydra.sweep.dir they are not computed again", file=sys.stderr, flush=True)
    if failed:
        print(f"{len(failed)} of {total} jobs failed: {'; '.join(failed)}", file=sys.stderr, flush=True)
    elif whole:
        before = sum(note["state"] == REUSED for note in notes)
        text = f"{len(done)} of {total} jobs finished" + (f", {before} of them before" if before else "")
        print(f"{text} ({where})", file=sys.stderr, flush=True)
    return Summary(len(failed), total, all(note["pid"] == os.getpid() for note in notes))


# ---- launchers ----


def jobs_at_once(processes: int) -> int:
    """Jobs of so many processes each that this machine has cores for; 1 at least."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // processes)


def check_launcher(arguments: Sequence[str]) -> None:
    """InputError for a launcher whose plugin is not installed."""
    for argument in arguments:
        found = re.fullmatch(r"(?:\+{0,2}launch|hydra/launcher)=(\w+)", argument)
        extra, module = LAUNCHERS.get(found[1] if found else "", ("", ""))
        try:
            missing = bool(module) and find_spec(module) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            raise InputError("launcher", found[1], f"its plugin: pip install 'mpc_appraisal[{extra}]'")
        if module and found[1].endswith("slurm") and shutil.which("srun") is None:
            raise InputError("launcher", found[1], "srun on this machine: a login node of a Slurm cluster")
