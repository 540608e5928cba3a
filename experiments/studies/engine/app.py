"""The app's command as `make appraise` runs it, by today's build and an earlier one in turn: wall clock and CPU.

Each run is a new process, `mpc-appraisal` of the build, with its default configuration. CPU seconds are those of the
process and of all that it started and waited for, as the kernel adds them up (`wait4`), and wall clock is until the
command ends. The largest memory is not known by party, and no error is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from experiments.harness.records import Row
from experiments.rivals.earlier_build import Builds
from experiments.studies.engine.appraisals import own_engines
from experiments.studies.engine.costs import Cost, Measured, in_turns, records

ENTRY = re.compile(r'^mpc-appraisal = "([\w.]+):(\w+)"$', re.MULTILINE)
SMALL = ("appraisal=influence", "scenario.candidates=2")


def command_of(build: Path, folder: Path) -> Path:
    """Write the script that an installation of the build has as its command, as pip writes it, and return its path."""
    module, function = ENTRY.search((build / "pyproject.toml").read_text(encoding="utf-8")).groups()
    script = folder / "mpc-appraisal"
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return script


def run(build: Path, folder: Path, overrides: tuple[str, ...] = ()) -> Cost:
    """Run the command once in `folder`, which must be new. OSError has its last words if it fails."""
    folder.mkdir(parents=True)
    script, log = command_of(build, folder), folder / "log.txt"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = str(build)
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, str(script), *overrides, f"hydra.run.dir={folder / 'run'}"],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise OSError(f"mpc-appraisal failed: {log.read_text(errors='replace').strip().splitlines()[-1:]}")
    cpu = {"all processes": used.ru_utime + used.ru_stime}
    return {"seconds": seconds, "bytes": 0, "rounds": 0, "cpu_seconds": cpu, "peak_bytes": None}


def measure(args: Namespace, builds: Builds, folder: Path, turns: int) -> list[Row]:
    """Measure the command in turns."""

    def turn(k: int) -> list[Measured]:
        found = []
        for engine in own_engines(builds)[:: (-1) ** k]:
            cost = run(builds.folder(engine), folder / f"{engine}{k}", SMALL if args.small else ())
            found.append(Measured(engine, f"make appraise{', two candidates by influence' * args.small}", k, cost))
        print(f"app: turn {k} of {turns} done", file=sys.stderr, flush=True)
        return found

    return records("app", in_turns(turns, turn))
