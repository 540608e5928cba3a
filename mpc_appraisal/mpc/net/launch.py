"""Runs the parties of a session as processes on this machine, which are started and ended together.

`launch` takes a function and each party's arguments, and returns each party's result. Each party is a process, forked
from a clean one that has imported the package and read nothing (`fork_server`), or started by `subprocess` where that
cannot be had. This process itself must never fork, because its child would inherit its memory, and with it the other
parties' data. Each party gets a folder with its own job. Its result comes back through the folder, and its progress as
JSON lines on its standard output. If a party fails, the others are ended; if the parent dies, all parties end, because
each watches its standard input, and ends with the fork server, which ends with the parent.

Trust: a process unpickles its function and arguments from a folder of mode 700 that the parent wrote before the process
started. The parent unpickles what its processes leave there, so it trusts them as it trusts itself; they belong to one
user on one machine. Parties that do not trust each other start their own processes (`session=join`), and the engines
fast and rtas unpickle nothing that comes from another party. The grace periods may change. Nothing
else may be unpickled, and nothing at all by the fork server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import torch.distributed as dist

from mpc_appraisal.common.errors import AppraisalError, PeerError
from mpc_appraisal.mpc.net.fork_server import Forked, ForkServer, server_for
from mpc_appraisal.mpc.ring.kernels import COMPILED, PRELOADED, WORTH

GRACE_SECONDS = 8.0  # after a party failed, the others get this time to learn why and to end by themselves
KILLED_GRACE_SECONDS = 1.5  # the same after a party was killed, which gives no reason
POLL_SECONDS = 0.02
WORKER = "mpc_appraisal.mpc.net.worker"
PACKAGE = "mpc_appraisal."
# Every fork server imports these before it forks: most parties use them, and each would import them by itself.
IMPORTED = ("cloudpickle", "torch", "jsonschema", "mpc_appraisal.mpc.backends.fast", "scipy.optimize")
IMPORTED += ("mpc_appraisal.mpc.protocols.crypten_adapter",)

Emit = Callable[[dict[str, Any]], None]
PartyFunction = Callable[..., Any]  # (role, address, emit, **job) -> picklable result
Party = subprocess.Popen | Forked


def begin(function: PartyFunction, threads: int = 1, work: int = 0, checked: bool = False) -> None:
    """Begin to start the clean process of a later `launch` with these arguments. It imports while the caller goes on.

    Without this call, `launch` does it. Modules outside this package are left to the parties to import, because they
    may read data. The compiled loops are imported for parties that will use them: that takes half a second of CPU, once
    in place of once in each party, starts no thread and reads numba's machine code of this package alone. Parties that
    check messages use nearly all loops, whose machine code is then loaded before.
    """
    module = function.__module__
    loops = [] if work < WORTH else [COMPILED, PRELOADED] if checked else [COMPILED]
    server_for(_environment(threads), [*IMPORTED, *([module] if module.startswith(PACKAGE) else []), *loops])


def launch(
    function: PartyFunction,
    jobs: dict[str, dict[str, Any]],
    emit: Emit,
    threads: int = 1,
    work: int = 0,
    checked: bool = False,
) -> dict[str, Any]:
    """Run `function(role, address, emit, folder, **jobs[role])` in a new process for each role.

    Args:
        function: What each party runs, importable or picklable. `address` is the rendezvous, 'tcp://host:port', and
            `folder` is the party's own folder.
        jobs: Each party's keyword arguments, by role. The key `files`, if there is one, maps file names to functions
            that write these files into the party's folder; it is removed from the job and not passed on.
        emit: A function that is called in this process with each progress event of any party.
        threads: How many torch threads each process uses. More threads than cores can cost ten times the time.
        work: About how many multiplications the largest product of a party takes, if it is known (see `ring.kernels`).
        checked: Whether the parties check each other's messages.

    Returns the results of the function by role.

    Raises:
        The error of the party that failed by itself, or PeerError if a party was killed. An error that nobody expected
        (no AppraisalError) has the traceback of the party's own process in its `__notes__`, which Python prints.
    """
    begin(function, threads, work, checked)
    store = dist.TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=60), wait_for_workers=False)
    address = f"tcp://127.0.0.1:{store.port}"
    with tempfile.TemporaryDirectory(prefix="mpc-appraisal-") as root:
        parties: dict[str, Party] = {}
        try:
            for role, job in jobs.items():
                folder = Path(root, role)
                folder.mkdir(mode=0o700)
                for name, write in job.pop("files", {}).items():
                    write(folder / name)
                (folder / "job.pkl").write_bytes(cloudpickle.dumps((function, role, address, job)))
            for role in jobs:
                parties[role] = _start(Path(root, role), threads)
            readers = [_relay(party, emit) for party in parties.values()]
            _supervise(parties, store)
            for reader in readers:
                reader.join(timeout=5)
            return {role: _result(Path(root, role), role, party) for role, party in parties.items()}
        finally:
            for party in parties.values():
                if party.poll() is None:
                    party.kill()
                party.wait()
                party.stdin.close()
                party.stdout.close()


def _environment(threads: int) -> dict[str, str]:
    """Return the environment of a party, which must be able to import what the caller could."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"):  # they belong to the launcher of this process
        environment.pop(name, None)
    return environment


def _start(folder: Path, threads: int) -> Party:
    """Start the party whose job is in `folder`."""
    environment = _environment(threads)
    with open(folder / "stderr.txt", "wb") as stderr:
        server = server_for(environment)
        forked = None if server is None else _fork(server, [WORKER, str(folder)], environment, stderr.fileno())
        if forked is not None:
            return forked
        return subprocess.Popen(
            [sys.executable, "-m", WORKER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
        )


def _fork(server: ForkServer, arguments: list[str], environment: dict[str, str], stderr: int) -> Forked | None:
    """Return a process with pipes for standard input and output, as Popen makes them, or None if there is no fork."""
    (given, stdin), (stdout, taken) = os.pipe(), os.pipe()
    try:
        forked = server.fork(arguments, environment, given, taken, stderr)
    finally:
        os.close(given)
        os.close(taken)
    if forked is None:
        os.close(stdin)
        os.close(stdout)
        return None
    forked.stdin, forked.stdout = os.fdopen(stdin, "wb", 0), os.fdopen(stdout, "rb")
    return forked


def _relay(party: Party, emit: Emit) -> threading.Thread:
    """Start a thread that passes the events on a party's standard output to `emit`."""

    def read() -> None:
        for line in party.stdout:
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                continue  # a library has printed something
            if isinstance(event, dict):
                emit(event)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return reader


def _supervise(parties: dict[str, Party], store: dist.TCPStore) -> None:
    """Wait until all parties have ended. If a party fails, announce it and, a while later, kill the others."""
    deadline, ended_here = None, set()
    while any(party.poll() is None for party in parties.values()):
        if deadline is None and any(party.poll() not in (None, 0) for party in parties.values()):
            lost = next(role for role, party in parties.items() if party.poll() not in (None, 0))
            killed = parties[lost].returncode < 0
            deadline = time.monotonic() + (KILLED_GRACE_SECONDS if killed else GRACE_SECONDS)
            if not store.check(["abort"]):  # it may have been killed before it met the others
                store.set("abort", f"{lost} is gone: its process ended")
        if deadline is not None and time.monotonic() > deadline:
            for role, party in parties.items():
                if party.poll() is None:
                    party.kill()
                    ended_here.add(role)
        time.sleep(POLL_SECONDS)
    if any(party.returncode for party in parties.values()):  # all may have failed between two polls
        _raise_first({role: party for role, party in parties.items() if role not in ended_here})


def _raise_first(parties: dict[str, Party]) -> None:
    """Raise the error of the party that failed by itself, which says more than the errors of parties that lost it."""
    errors: dict[str, BaseException] = {}
    for role, party in parties.items():
        folder = Path(party.args[-1])
        if (folder / "error.pkl").exists():
            errors[role] = _with_traceback(cloudpickle.loads((folder / "error.pkl").read_bytes()), role, folder)
        elif party.returncode:
            tail = (folder / "stderr.txt").read_text(errors="replace")[-2000:].strip()
            cause = f"was killed by signal {-party.returncode}" if party.returncode < 0 else "ended without a result"
            errors[role] = PeerError(f"{role} {cause}" + (f"; its standard error ends with: {tail}" if tail else ""))
    own = [e for e in errors.values() if not isinstance(e, PeerError)]
    killed = [e for r, e in errors.items() if parties[r].returncode < 0]
    raised = (own or killed or list(errors.values()))[0]
    if sys.version_info < (3, 11):  # Python prints notes by itself from 3.11 on
        print(*getattr(raised, "__notes__", ()), sep="\n", end="", file=sys.stderr, flush=True)
    raise raised


def _with_traceback(error: BaseException, role: str, folder: Path) -> BaseException:
    """Add the traceback of the party's own process to its error, if the party has left one. It stays on this machine.

    Otherwise the line of a method's own file at which it failed would be seen in no terminal.
    """
    path = folder / "traceback.txt"
    if path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
        error.__notes__ = [*getattr(error, "__notes__", ()), f"In the process of the {role}:\n{text}"]
    return error


def _result(folder: Path, role: str, party: Party) -> Any:
    path = folder / "result.pkl"
    if not path.exists():
        raise AppraisalError(f"{role} ended with status {party.returncode} and no result")
    return cloudpickle.loads(path.read_bytes())
