"""Real processes for tests: started from a command line, waited for with a time-out, and ended by their own id."""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpc_appraisal.mpc.net.fork_server import Forked, server_for
from mpc_appraisal.mpc.net.launch import IMPORTED

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]  # of the repository
APP = [sys.executable, "-m", "mpc_appraisal.cli.app"]
MODEL_OWNER, DATA_OWNER, DEALER = ROLES = ("model_owner", "data_owner", "dealer")


UNGUARDED = ("party.approval=yes", "party.ledger=none", "party.salt=none")
UNCHECKED = ("party.preflight=no",)  # the pre-flight has tests of its own, and takes a second and a half a session
CLEAR = ("session.transport=tcp", "session.in_the_clear=true")  # on loopback, where a test is about something else


# What a command of the app or of a party imports, whatever it is asked to do.
COMMON = ("mpc_appraisal.cli.run", "mpc_appraisal.cli.commands", "mpc_appraisal.cli.jobs", *IMPORTED)


def started(
    command: list[str], folder: Path, environment: dict[str, str], out: int, err: int, changed: dict[str, str]
) -> subprocess.Popen | Forked:
    """Start a command in a session of its own. `changed` is added to the environment.

    Python's module or script is run by a fork of a clean process that has imported the package alone: a process of its
    own, with files, arguments, environment, end and signals as if it had been started, but for the seconds of imports.
    """
    if command[0] == sys.executable and (command[1] == "-m" or command[1].endswith(".py")):
        server = server_for(environment, COMMON)
        arguments = command[2:] if command[1] == "-m" else command[1:]
        with open(os.devnull, "rb") as nothing:
            forked = server and server.fork(
                arguments, environment | changed, nothing.fileno(), out, err, str(folder), leads=True
            )
        if forked is not None:
            return forked
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=folder,
        env=environment | changed,
        start_new_session=True,
    )


def run_app(*words: str, folder: Path, timeout: float = 200) -> subprocess.CompletedProcess:
    """Run the app with these words in `folder`, as `subprocess.run` would, and return how it ended."""
    ended = Process([*APP, *words], folder).wait(timeout)
    return subprocess.CompletedProcess([*APP, *words], ended.code, ended.out, ended.err)


def stretched(seconds: float) -> float:
    """Return the time limit of a test for what takes so many seconds on an idle machine.

    It is ten times as long, because a machine with other work on it stands still now and then, and longer still where
    more processes are runnable than there are cores. What hangs exceeds any limit.
    """
    return seconds * max(10.0, 10.0 * os.getloadavg()[0] / os.cpu_count())


@dataclass
class Ended:
    """How a process ended. code: exit status, negative for a signal; seconds: from start to end, as far as seen."""

    code: int
    out: str
    err: str
    seconds: float


class Process:
    """One started command with its output in files, so that no pipe can fill up."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.started, self._ended = folder, time.monotonic(), None
        env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
        env |= {"OMP_NUM_THREADS": "1"}
        changed = {"HYDRA_FULL_ERROR": "1"} | (environment or {})
        with open(folder / "stdout.txt", "wb") as out, open(folder / "stderr.txt", "wb") as err:
            self.popen = started(command, folder, env, out.fileno(), err.fileno(), changed)

    @property
    def err(self) -> str:
        return (self.folder / "stderr.txt").read_text(errors="replace")

    def wait(self, timeout: float) -> Ended:
        """Wait; a process that outlives `timeout`, in seconds of an idle machine, is killed and fails the test."""
        try:
            code = self.popen.wait(stretched(timeout))
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end in time; its last words: {self.err[-2000:]}") from None
        out = (self.folder / "stdout.txt").read_text(errors="replace")
        return Ended(code, out, self.err, time.monotonic() - self.started)

    def until(self, text: str, timeout: float = 60.0) -> None:
        """Wait until `text` stands in its standard error, at most `timeout` seconds of an idle machine."""
        deadline = time.monotonic() + stretched(timeout)
        while text not in self.err:
            assert self.popen.poll() is None, f"ended before it wrote {text!r}: {self.err[-2000:]}"
            assert time.monotonic() < deadline, f"did not write {text!r} in time: {self.err[-2000:]}"
            time.sleep(0.02)

    def kill(self) -> None:
        """End it and what it started: each process here leads a group of its own."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait(60)

    def end(self) -> None:
        """Ask it to end, so that a launcher ends its workers, and kill it when it does not."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


class Processes:
    """All processes of a test; leaving the block ends those that are left."""

    def __init__(self, folder: Path):
        self.folder, self.started = folder, []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_) -> None:
        for process in self.started:
            process.end()

    def start(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> Process:
        process = Process(command, self.folder / name, environment)
        self.started.append(process)
        return process

    def app(self, name: str, *overrides: str, audited: bool = False) -> Process:
        """The app as one organisation starts it, in a folder `name` of its own; its run folder is `name`/run."""
        if "session=join" in overrides:  # unless a test is about them: approved beforehand, no ledgers, no pre-flight
            stated = {override.partition("=")[0] for override in overrides}
            default = (*UNGUARDED, *UNCHECKED, *CLEAR)
            overrides += tuple(each for each in default if each.partition("=")[0] not in stated)
        run = f"hydra.run.dir={self.folder / name / 'run'}"
        command = [sys.executable, str(HERE / "audited.py"), str(self.folder / name / "opened.txt")] if audited else APP
        return self.start(name, [*command, *overrides, run])


FIRST_PORT, PORTS = 15_000, 1_000  # below the ports that systems give to connections and to listeners without one
_ports: list[Iterator[int]] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, for a process that a test will start, maybe minutes later.

    Each process that runs tests has a thousand ports to itself, as long as it holds the lock of their file, and gives
    out one after the other. So no port is given out twice at a time, and no system gives it to anybody else.
    """
    if not _ports:
        _ports.append(_own_ports())
    return next(_ports[0])


def _own_ports() -> Iterator[int]:
    """Yield the free ports of this process's thousand, round and round."""
    for first in range(FIRST_PORT, FIRST_PORT + 16 * PORTS, PORTS):
        file = open(Path(tempfile.gettempdir()) / f"mpc_appraisal-{os.getuid()}-ports-{first}", "wb")  # noqa: SIM115
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it ends with this process, and forks do not have it
            break
        except OSError:
            file.close()
    else:
        raise OSError("no ports for tests: sixteen other processes run tests on this machine")
    for port in itertools.cycle(range(first, first + PORTS)):
        if _is_free(port):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def alive(pid: int) -> bool:
    """Whether a process with this id runs; one that has ended and was not waited for yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, timeout=600).stdout
    return bool(state.strip()) and not state.strip().startswith("Z")


def gone(pids: list[int], timeout: float) -> bool:
    """Whether all of them end within `timeout` seconds of an idle machine."""
    deadline = time.monotonic() + stretched(timeout)
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def problem(rows: int, features: int = 4, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x (rows, features) float64 and labels of one fixed linear rule; every class occurs."""
    rule = np.random.default_rng(7).normal(size=(features, classes))
    x = np.random.default_rng(seed).normal(size=(rows, features))
    y = (x @ rule).argmax(1)
    y[:classes] = np.arange(classes)
    return x, y


def write_csv(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ",".join([f"f{k}" for k in range(x.shape[1])] + ["label"])
    lines = [",".join([*(repr(float(v)) for v in row), str(label)]) for row, label in zip(x, y, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def write_npz(path: Path, x: np.ndarray, y: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=x, y=y)
    return path


def below(pid: int, text: str) -> list[int]:
    """Return the descendants of a process whose command holds `text`. Those of a launcher may lead their own groups."""
    found = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, timeout=600).stdout
    rows = [line.split(None, 2) for line in found.splitlines() if len(line.split(None, 2)) == 3]
    family, size = {pid}, 0
    while size < len(family):
        size = len(family)
        family |= {int(child) for child, parent, _ in rows if int(parent) in family}
    return [int(child) for child, _, args in rows if int(child) in family and text in args]


def parties(pid: int) -> list[int]:
    """Return the parties that a process has launched: those that its fork server, if it has one, has forked."""
    servers = below(pid, "mpc_appraisal.mpc.net.fork_server")
    return [one for one in servers if parent(one) in servers] if servers else below(pid, "mpc_appraisal.mpc.net.worker")


def parent(pid: int) -> int | None:
    """Return the process that has started this one, or None if it has ended in the meantime."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
