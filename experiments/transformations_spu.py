"""SPU in RTAS's tables 1 to 4: `spu_training.py`, run by an interpreter that has spu, and its rows for the page.

A job of its own, so that naming an interpreter later runs nothing else again. The CNN infers the smaller batch of
`transformations_tables.py` alone.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from bench_page import Row
from transformations_tables import BATCH, LR, SIZES
from transformations_tables_page import SPU

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS

RUNNER = Path(__file__).with_name("spu_training.py")
TURNS = 3


def measure(python: str, size: str, work: Path) -> list[Row]:
    """Raises InputError where `python` cannot run spu_training.py, or SPU's results are wrong; work is not used."""
    stated = SIZES[size]
    cnn = stated.models[1]
    asked = {
        "side": cnn.image[-1], "hidden": cnn.layers[1][0].units, "batch": BATCH, "inferred": stated.smaller,
        "turns": TURNS, "lr": LR,
    }  # fmt: skip
    try:
        done = subprocess.run(
            [python, RUNNER, json.dumps(asked)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        told = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except OSError as error:
        raise _refused(python, error.strerror) from None
    if done.returncode:
        raise _refused(python, told)
    rows = [_row(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if not rows:
        raise _refused(python, "no row")
    return rows


def _row(told: dict[str, Any]) -> Row:
    """Bytes by owner; SPU has no dealer."""
    sent = dict(zip(OWNERS, told["bytes"] or (), strict=False))
    return {"part": "table", "kind": "cost", **told, "system": SPU, "bytes": sent, "rounds": told["rounds"] or 0}


def _refused(python: str, reason: str) -> InputError:
    return InputError("--spu-python", Path(python).name, f"an interpreter that runs {RUNNER.name} ({reason})")
