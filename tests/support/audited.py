"""Run the app, and write down every file that this process opens: `python audited.py LOG ARGUMENTS...`.

Python raises the audit event `open` for each open() and os.open(), by whichever library. LOG holds one path a line;
under a launcher that starts several processes each writes LOG.<rank>. LOG.bound holds the addresses to which this
process has bound a socket.
"""

from __future__ import annotations

import os
import sys


def record_opens(path: str) -> None:
    """From now on append to `path` the absolute path of each file opened. An audit hook cannot be taken off again."""
    log, bound = (os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND) for name in (path, f"{path}.bound"))

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            os.write(log, os.path.abspath(os.fsdecode(arguments[0])).encode() + b"\n")
        if event == "socket.bind":
            os.write(bound, f"{arguments[1]}\n".encode())

    sys.addaudithook(hook)


if __name__ == "__main__":
    destination = sys.argv.pop(1)
    record_opens(destination + (f".{os.environ['RANK']}" if "RANK" in os.environ else ""))
    from mpc_appraisal.cli.app import main

    main()
