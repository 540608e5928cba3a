"""Finished jobs: what a job leaves in its folder so that it is not computed again, and who may write in a folder.

A job is one run of the app, alone or as part of a sweep. In go folders and keys of jobs, which are hashes of a job's
configuration and files. Out comes the folder that a job takes, or that it finished in before. A job that has written
all its files writes `finished.json` last: the key, the SHA-256 of its records and the package version. This file is the
job's mark. If a folder's contents contradict its mark, its job is computed again.

What a key hashes and the names of the files have to stay: a change computes all finished jobs anew. The mark has to be
the last thing that a job writes, because whatever stops the job earlier leaves no mark then.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash, versions
from mpc_appraisal.common.storage import take_lock, write_whole
from mpc_appraisal.reporting.attacked import FILE as ATTACKS
from mpc_appraisal.reporting.measured import FILE as EVALUATION
from mpc_appraisal.reporting.run_folders import (
    FAILURE,
    FINISHED,
    RECORDS,
    SUPERSEDED,
    mark,
    read_json,
    sha256_of,
)

__all__ = ["FINISHED", "RECORDS", "SUPERSEDED", "mark", "read_json"]  # these are read under this module's name too

LOCK = ".lock"
SHARED = 0o644  # the mode of a lock in a folder that others may read
CHOICE = "resume=true, which keeps what is finished, or overwrite=true, which replaces it"


# ---- keys ----


def job_key(config: Mapping[str, Any], files: Iterable[Path]) -> str:
    """Hash a job's whole configuration and the contents of the files that it names."""
    return config_hash({"config": config, "files": [sha256_of(path) for path in files]})


def settings_key(config: Mapping[str, Any]) -> str:
    """Hash a job's whole configuration alone, so that the key stays the same while the files that it names change."""
    return config_hash({"config": config})


# ---- marks ----


def finish(folder: Path, key: str, settings: str | None = None) -> None:
    """Mark the run in `folder` as whole. The mark is the last thing that a job writes, and it is written in one step.

    Args:
        folder: The job's folder, which has its records.
        key: The hash of the job's configuration and files, from `job_key`.
        settings: The hash of the configuration alone, from `settings_key`; None leaves it out.
    """
    text = {"config": key, "records": sha256_of(folder / RECORDS), "version": versions()["mpc_appraisal"]}
    write_json(folder / FINISHED, text | ({} if settings is None else {"settings": settings}))


def finished(folder: Path, key: str) -> bool:
    """Return whether a whole run of this very configuration, by this version of the package, stands in `folder`."""
    found = mark(folder)
    stated = found.get("config") == key and found.get("version") == versions()["mpc_appraisal"]
    return stated and (folder / RECORDS).stat().st_size > 0


def find(root: Path, key: str, first: Path) -> Path | None:
    """Return the folder of a finished run of this key, or None.

    `first` is looked at first, and then every folder in `root`, because a sweep may have been defined anew.
    """
    if finished(first, key):
        return first
    return next((path.parent for path in sorted(root.rglob(FINISHED)) if finished(path.parent, key)), None)


def stale(root: Path, key: str, settings: str) -> list[Path]:
    """Return the folders of finished runs of these very settings whose files have changed since."""
    marks = ((path.parent, mark(path.parent)) for path in sorted(root.rglob(FINISHED)))
    return [folder for folder, said in marks if said.get("settings") == settings and said.get("config") != key]


def supersede(root: Path, key: str, settings: str) -> None:
    """Put aside the records of runs of these settings on earlier contents of the files: no report may read both."""
    for folder in stale(root, key, settings):
        os.replace(folder / RECORDS, folder / SUPERSEDED)
        for name in (EVALUATION, ATTACKS):
            (folder / name).unlink(missing_ok=True)
        (folder / FINISHED).unlink()
        where = os.path.relpath(folder / SUPERSEDED)
        print(f"a file has changed since an earlier run, whose records are put aside: {where}", file=sys.stderr)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file in one step, and wait until it is on the disk. The folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content))


# ---- folders ----

_held: list[Path] = []  # the folder that this process held last, which may be another one than it was asked for


def last_folder() -> Path | None:
    """Return the folder that `alone` gave to the last job of this process; None before the first one."""
    return _held[-1] if _held else None


def clear(folder: Path) -> None:
    """Remove the files of an earlier run that would be taken for those of the next run: mark, records and cards."""
    files = [folder / name for name in (FINISHED, RECORDS, FAILURE, EVALUATION, ATTACKS)]
    for path in (*files, *folder.glob("card-*.md"), *folder.glob("card-*.html")):
        path.unlink(missing_ok=True)


def fresh(folder: Path, name: str) -> None:
    """Raise InputError under `name`, the key that states the folder, if it holds the records of an earlier run."""
    if (folder / RECORDS).exists():
        expected = f"a folder without records of an earlier run; or {CHOICE}"
        raise InputError(name, os.path.relpath(folder), expected)


def folder_of(root: Path, number: int, key: str, settings: str | None = None) -> str:
    """Return the name of the folder, inside `root`, of a resumed sweep's job.

    The name is that of the folder where the job finished before, or else the job's number. It is never that of a folder
    with a finished run of another configuration, as the folder of job 0 has when a seed was put in front of the others.
    A run of the same settings on files that have changed since is replaced in its own folder.
    """
    found = find(root, key, root / str(number))
    if found is None and settings is not None:
        found = next(iter(stale(root, key, settings)), None)
    if found is not None:
        return str(found.relative_to(root))
    return str(number) if mark(root / str(number)).get("config") in (None, key) else f"{number}-{key[:8]}"


@contextmanager
def alone(folder: Path, wait: bool = True, name: str = "hydra.sweep.dir", apart: bool = False) -> Iterator[Path]:
    """Hold a folder against other processes, and yield the folder that is held.

    Args:
        folder: The folder, which is created if it is not there.
        wait: Whether to wait for another process at work in the folder, such as a job that outlived its sweep. Without
            waiting, InputError is raised.
        name: The key that states the folder; the error names it.
        apart: Whether nobody chose the folder's name. If such a folder is taken or has records, one beside it is held.

    Raises:
        InputError: Another process is at work in the folder, and neither `wait` nor `apart` is true.
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
    _held[:] = [place]
    try:
        yield place
    finally:
        lock.release()
