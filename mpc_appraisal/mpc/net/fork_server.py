"""A clean process that has imported the package and read nothing, and from which processes are forked quickly.

A new Python process spends three seconds of CPU importing torch. So one process, the server, does that once, and each
process that is then asked for is a fork of it. In go a module or a script with arguments, an environment, a working
directory and the three standard streams; out comes a process that does what `python -m MODULE ARGUMENTS` would do, as a
`Forked`, which has the methods of `subprocess.Popen` that `launch` uses. `server_for` returns None where no server can
be had.

Trust: the server is a fresh interpreter, started by exec and not by a fork of the caller. What reaches it are names of
modules of this package and of libraries, which it imports, and requests to fork. No data, job, key or folder's content
ever does, so that a forked process starts with what a fresh one would have read from the installed package, and with
nothing of another party. Two forks have the server's memory in common, page by page and copied when written; what one
writes no other sees. They also have its layout of addresses and hash seed in common. Keys come from the operating
system (`os.urandom`), and the generators of torch, numpy and Python are seeded anew in each fork. The server forks only
while it has a single thread, because a lock that another thread holds would stay locked in the fork.

A process ends with the server, and the server with the caller. These two ends, the check for threads and the rule that
the server reads nothing have to stay. The server works on Linux alone: Windows has no fork, and on macOS libraries that
torch loads do not survive one. `multiprocessing` has a fork server too, but a single one for all callers, with one
environment and the caller's own main module imported.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

SERVERS = 4  # one process keeps at most so many servers, unless all have processes that run
CHANGING = ("PYTEST_CURRENT_TEST",)  # it changes with every test, and no library reads it when it is imported
LARGEST_REQUEST = 1 << 20
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_servers: dict[Any, ForkServer] = {}
_lock = threading.Lock()


def server_for(environment: Mapping[str, str], modules: Sequence[str] = ()) -> ForkServer | None:
    """Return this process's server for an environment, started if need be, or None on a system without one.

    Args:
        environment: The environment with which the server starts, since libraries read some variables when they are
            loaded. Processes with other variables need another server.
        modules: The names of the modules to import, of this package or of libraries. They must read no data.
    """
    if sys.platform != "linux":
        return None
    fixed = {name: value for name, value in environment.items() if name not in CHANGING}
    key = (os.getpid(), sys.executable, tuple(sorted(fixed.items())))
    with _lock:
        server = _servers.get(key)
        if server is None or not server.running():
            for old in [one for one, each in _servers.items() if not each.running()]:
                _servers.pop(old).close()
            idle = [one for one, each in _servers.items() if one[0] != os.getpid() or not each.busy()]
            for old in idle[: max(0, len(_servers) - SERVERS + 1)]:
                _servers.pop(old).close()
            try:
                server = _servers[key] = ForkServer(environment)
            except OSError:
                return None
    server.load(modules)
    return server


def close_servers() -> None:
    """End the servers of this process, with all that was forked from them."""
    with _lock:
        for server in _servers.values():
            server.close()
        _servers.clear()


atexit.register(close_servers)


class ForkServer:
    """The caller's handle of one server. Several threads may use it at once."""

    def __init__(self, environment: Mapping[str, str]):
        self._owner = os.getpid()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._loaded: set[str] = set()
        self._forked: list[Forked] = []
        self._lock = threading.Lock()
        with theirs:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_REQUEST)
            quiet = dict.fromkeys(("stdin", "stdout"), subprocess.DEVNULL)
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=dict(environment), **quiet)

    def running(self) -> bool:
        """Return whether the server is alive, as far as this process can see."""
        return self._owner == os.getpid() and self._process.poll() is None

    def busy(self) -> bool:
        """Return whether a process that was forked here still runs."""
        with self._lock:
            self._forked = [each for each in self._forked if each.poll() is None]
            return bool(self._forked)

    def load(self, modules: Sequence[str]) -> None:
        """Let the server import modules before its next fork. A module that cannot be imported is left to the fork."""
        new = [name for name in modules if name not in self._loaded]
        if new and self._send({"import": new}):
            self._loaded.update(new)

    def fork(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
        folder: str | None = None,
        leads: bool = False,
    ) -> Forked | None:
        """Return a new process that runs a module or a script as Python does, or None if the server cannot fork.

        Args:
            arguments: The module's name, or the path of a script (.py), and its arguments.
            environment: The environment of the process.
            stdin, stdout, stderr: Open files of this process, as descriptors; the new process has copies of them.
            folder: The working directory; None stands for that of this process.
            leads: Whether the process leads a session of its own.
        """
        request = {"arguments": list(arguments), "environment": dict(environment), "leads": leads}
        mine, theirs = os.pipe()
        try:
            request["folder"] = folder or os.getcwd()
            sent = self._send(request, [stdin, stdout, stderr, theirs])
        except OSError:
            sent = False
        finally:
            os.close(theirs)
        forked = Forked(self, mine, arguments)
        if not sent or not forked.began():
            forked.release()
            return None
        with self._lock:
            self._forked.append(forked)
        return forked

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of this server. The server sends it, because it knows whether the id is taken."""
        self._send({"signal": number, "pid": pid})

    def close(self) -> None:
        """End the server, and with it what was forked from it."""
        self._socket.close()
        if self._owner != os.getpid():
            return
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # it still imports
            self._process.kill()
            self._process.wait()

    def _send(self, request: dict[str, Any], files: Sequence[int] = ()) -> bool:
        with self._lock:
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], list(files))
            except OSError:
                return False
            return True


class Forked:
    """A forked process, with the names that `subprocess.Popen` has. Its server must live as long as it.

    Attributes:
        args: The module's name and its arguments.
        pid: The id of the process.
        returncode: None while it runs; then its exit status, negative for a signal.
        stdin, stdout: The caller's ends of its pipes, where `launch` has made pipes; None otherwise.
    """

    def __init__(self, server: ForkServer, status: int, arguments: Sequence[str]):
        self.args, self.pid, self.returncode = list(arguments), 0, None
        self.stdin = self.stdout = None
        self._server, self._status, self._seen = server, status, b""
        self._lock = threading.Lock()

    def began(self) -> bool:
        """Wait for the server to fork, and return whether it has."""
        while b"\n" not in self._seen and self._read():
            pass
        first, _, self._seen = self._seen.partition(b"\n")
        self.pid = int(first or 0)
        return self.pid > 0

    def release(self) -> None:
        """Close this process's end of the pipe on which the server reports."""
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit status. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            self._server.signal(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        with self._lock:
            if self.returncode is None:
                waiting = select.poll()  # unlike `select.select`, it has no largest descriptor
                waiting.register(self._status, select.POLLIN)
                if waiting.poll(None if timeout is None else timeout * 1000):
                    while b"\n" not in self._seen and self._read():
                        pass
                    # A server that went without a word has taken its processes with it, by SIGKILL.
                    self.returncode = int(self._seen) if self._seen else -signal.SIGKILL
                    self.release()
            return self.returncode

    def _read(self) -> bool:
        data = os.read(self._status, 64)
        self._seen += data
        return bool(data)


# ---- the server's own side


class _Serving:
    """The server, in its own process: it imports, forks, passes signals on, and reports how its processes ended."""

    def __init__(self, control: socket.socket):
        self.control, (self.wake, self.wakes) = control, socket.socketpair()
        self.reports: dict[int, int] = {}  # the pipe on which to report, by the id of the process

    def run(self) -> dict[str, Any]:
        """Serve until the caller is gone. Only a forked process returns, with the request that it has to run."""
        for each in (self.wake, self.wakes):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt at the terminal is the caller's affair
        signal.set_wakeup_fd(self.wakes.fileno(), warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self.control, self.wake], [], [])
            if self.wake in ready:
                with contextlib.suppress(BlockingIOError):
                    self.wake.recv(4096)
                self._reap()
            if self.control in ready:
                message, files, _, _ = socket.recv_fds(self.control, LARGEST_REQUEST, 4)
                if not message:
                    os._exit(0)  # the caller is gone; what was forked ends with this process
                request = json.loads(message)
                if "import" in request:
                    _import(request["import"])
                elif "signal" in request:
                    if request["pid"] in self.reports:
                        os.kill(request["pid"], request["signal"])
                elif self._fork(request, files):
                    return request

    def _fork(self, request: dict[str, Any], files: list[int]) -> bool:
        """Fork, and return whether this is the new process."""
        *streams, report = files
        single = threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1
        server, pid = os.getpid(), os.fork() if single else 0
        if single and pid == 0:
            signal.set_wakeup_fd(-1)
            for each in (self.control, self.wake, self.wakes):
                each.close()
            _become(request, streams, server)
            return True
        with contextlib.suppress(BrokenPipeError):  # the caller has ended meanwhile, which the next request shows
            os.write(report, b"%d\n" % pid)
        for stream in streams:
            os.close(stream)
        if pid:
            self.reports[pid] = report
        else:
            os.close(report)
        return False

    def _reap(self) -> None:
        while self.reports:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            report = self.reports.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # the caller has not waited for it
                os.write(report, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(report)


def _import(modules: Sequence[str]) -> None:
    gc.disable()  # what is imported stays
    for name in modules:
        with contextlib.suppress(Exception):  # the process that needs it will say what is wrong
            importlib.import_module(name)
    gc.freeze()  # so that a collection in a fork does not write to, and so copy, all pages
    gc.enable()


def _become(request: dict[str, Any], streams: Sequence[int], server: int) -> None:
    """Turn a fork of the server into the process that was asked for."""
    if request["leads"]:
        os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:  # it ended before that was set
        os._exit(1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(int(name))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]  # as `python -m` has it
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].seed()


def _run(arguments: Sequence[str]) -> int:
    """Run a module or a script as `__main__`, and return the exit status that Python would give."""
    sys.argv = list(arguments)
    try:
        if sys.argv[0].endswith(".py"):
            sys.path[0] = os.path.dirname(sys.argv[0])  # as `python FILE` has it
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Be a server; the argument is the descriptor of the socket to the caller."""
    request = _Serving(socket.socket(fileno=int(sys.argv[1]))).run()
    status = _run(request["arguments"])
    # What an ordinary exit does, but for the modules' end, which would copy all memory shared with the server.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
