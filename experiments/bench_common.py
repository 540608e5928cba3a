"""What the benchmarks share: where and how they ran, memory, a common start, and files of records."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import revision, versions
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.mpc.net.rendezvous import Rendezvous

LEAD_SECONDS = 0.1
PLACES = {"out": "DIR", "spu_python": "PYTHON"}  # options with paths: records hold none


def machine() -> str:
    """CPU model and number of cores that this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    From /proc where there is one: `getrusage` counts the starting process's memory in, which a new process inherits.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def together(rendezvous: Rendezvous, name: str, roles: Sequence[str] = OWNERS) -> None:
    """Return in all `roles`, processes of one machine, at the same moment."""
    store, keys = rendezvous.store, [f"{name}/{role}" for role in roles]
    store.set(f"{name}/{rendezvous.role}", str(time.monotonic() + LEAD_SECONDS))
    while not store.check(keys):
        time.sleep(0.005)
    start = max(float(store.get(key)) for key in keys)
    time.sleep(max(0.0, start - time.monotonic() - 0.002))
    while time.monotonic() < start:
        pass


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def about(script: str, parser: argparse.ArgumentParser, args: argparse.Namespace, mnist: bool) -> dict[str, Any]:
    """Where and how a record was made: machine, versions, revision and the command, with words in place of paths."""
    words = ["OMP_NUM_THREADS=1", *["MPC_APPRAISAL_DATA=DATA"] * mnist, "python", f"experiments/{script}"]
    for name, value in vars(args).items():
        given = ",".join(value) if isinstance(value, list) else value
        if given != parser.get_default(name):
            shown = [] if given is True else [PLACES.get(name, shlex.quote(str(given)))]
            words += [f"--{name.replace('_', '-')}", *shown]
    return {"machine": machine(), "versions": versions(), "revision": revision(), "command": " ".join(words)}


def part_of(row: Mapping[str, Any]) -> str:
    """ "instahide-grouping" is of the part "instahide"."""
    return str(row.get("part")).partition("-")[0]


def read_parts(folder: Path, file: str, keys: Mapping[str, set[str]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the line about the run, the other rows) of a report's records. keys: that a row has, by part.

    Raises InputError, by file and line, for what is missing or damaged.
    """
    path = folder / file
    if not path.is_file():
        raise InputError("--out", f"no file {file} in {folder.name}", "the records of an earlier run")
    rows = []
    for place, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name = f"{file}, line {place}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(name, f"{line[:40]!r}", f"one JSON object ({error})") from None
        if not isinstance(row, dict) or part_of(row) not in keys:
            raise InputError(name, f"{line[:40]!r}", f"one JSON object, its part one of {', '.join(keys)}")
        if missing := sorted(keys[part_of(row)] - set(row)):
            raise InputError(name, f"no {', '.join(missing)}", "records of this version")
        rows.append(row)
    if not rows or rows[0]["part"] != "about":
        raise InputError(f"{file}, line 1", "no line about the run", "records of this version")
    return rows[0], rows[1:]
