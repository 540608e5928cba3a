"""SPU in RTAS's tables 1 to 4: `rivals/spu_training.py`, run by an interpreter that has spu, and its rows.

It is a job of its own, so that naming an interpreter later runs nothing else again. The CNN infers the smaller batch
alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import experiments.rivals
from experiments.harness.records import Row
from experiments.studies.transformations.tables_report import SPU
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS

RUNNER = Path(experiments.rivals.__file__).with_name("spu_training.py")
TURNS = 3


def measure(python: str, asked: dict[str, Any]) -> list[Row]:
    """Return SPU's rows. InputError tells that `python` cannot run the rival, or that its results are wrong."""
    command = [python, RUNNER, json.dumps(asked | {"turns": TURNS})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    except OSError as error:
        raise _refused(python, error.strerror) from None
    if done.returncode:
        raise _refused(python, (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    rows = [_row(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise _refused(python, "no row")
    return rows


def _row(told: dict[str, Any]) -> Row:
    """Give each owner its bytes; SPU has no dealer."""
    sent = dict(zip(OWNERS, told["bytes"] or (), strict=False))
    return {"part": "table", "kind": "cost", **told, "system": SPU, "bytes": sent, "rounds": told["rounds"] or 0}


def _refused(python: str, reason: str) -> InputError:
    return InputError("--spu-python", Path(python).name, f"an interpreter that runs {RUNNER.name} ({reason})")
