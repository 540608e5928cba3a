"""The process of one party on this machine, which `launch` starts; it is never started by hand.

The only argument is the party's folder. The process reads `job.pkl` there, runs the function in it, and writes
`result.pkl` or `error.pkl`, and `traceback.txt` beside an error that nobody expected. It prints progress events as
JSON lines, and ends when its standard input is closed. The names of the files, the JSON lines and that end have to
stay, because `launch` relies on them. The process must unpickle nothing but its own job and, to see whether it can be
read, its own error. A traceback may quote private values: it must stay in the folder, which only the launcher reads.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from mpc_appraisal.common.environment import keep_freed_memory, threads
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.common.storage import write_whole


def _end_with_parent() -> None:
    """End this process when the parent closes the pipe to it, or dies."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):  # it returns nothing once the pipe is closed
            pass
        os._exit(17)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def _emit(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main(folder: Path) -> int:
    """Run the job in `folder`, and return the exit status: 0 with a result, 1 with an error."""
    _end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(threads())
    try:
        function, role, address, job = cloudpickle.loads((folder / "job.pkl").read_bytes())
        result = function(role=role, address=address, emit=_emit, folder=folder, **job)
    except Exception as error:
        traceback.print_exc()
        if not isinstance(error, AppraisalError):
            write_whole(folder / "traceback.txt", traceback.format_exc().encode(errors="replace"))
        error.__traceback__ = error.__cause__ = error.__context__ = None
        try:
            dumped = cloudpickle.dumps(error)
            cloudpickle.loads(dumped)
        except (TypeError, pickle.PicklingError, AttributeError):
            dumped = cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        write_whole(folder / "error.pkl", dumped)
        return 1
    write_whole(folder / "result.pkl", cloudpickle.dumps(result))
    return 0


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of torch.distributed may block an ordinary exit after a peer has died
