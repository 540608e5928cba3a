"""Processes forked from a clean one: they have nothing of the caller's data, differ in random numbers, and end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from processes import alive, gone

from mpc_appraisal.mpc.net import fork_server
from mpc_appraisal.mpc.net.fork_server import ForkServer, close_servers, server_for

# There is no server to test on other systems, where `server_for` returns None, which the last test shows on Linux too;
# the tests of `launch` run there with ordinary processes.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server works on Linux alone")

SECRET = bytes(reversed(b"a caller's row"))  # no file holds it the right way round
REPORT = """
import gc, json, os, random, signal, sys, threading
import numpy, torch
memory = []
for line in open("/proc/self/maps"):
    place, rights = line.split()[:2]
    if rights.startswith("rw") and not line.rstrip().endswith(("[vvar]", "[vsyscall]")):
        low, high = (int(each, 16) for each in place.split("-"))
        with open("/proc/self/mem", "rb", 0) as file:
            file.seek(low)
            memory.append(file.read(high - low))
print(json.dumps({
    "secret": sum(each.count(bytes(reversed(b"wor s'rellac a"))) for each in memory),
    "found": sum(each.count(b"a w" + b"ord") for each in memory),
    "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path[0], "variable": os.environ.get("STATED"),
    "inherited": os.environ.get("HOME"), "parent": os.getppid(), "name": __name__,
    "files": len(os.listdir("/proc/self/fd")), "tasks": len(os.listdir("/proc/self/task")),
    "random": [random.random(), float(numpy.random.rand()), float(torch.rand(()))], "read": sys.stdin.read(),
    "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
}))
print("an error", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    path = os.pathsep.join(each for each in sys.path if each)
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def server(environment):
    found = server_for(environment, ["numpy", "torch"])
    assert isinstance(found, ForkServer)
    return found


def fork(server, folder, environment, code: str, *words: str, stdin: int | None = None):
    """Fork a process of a script; its output goes to files in `folder`."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(code)
    with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err, open(os.devnull, "rb") as nothing:
        streams = nothing.fileno() if stdin is None else stdin, out.fileno(), err.fileno()
        return server.fork([str(folder / "script.py"), *words], environment, *streams, str(folder))


def test_a_fork_is_as_a_fresh_process_and_has_nothing_of_the_caller(server, environment, tmp_path):
    kept = [SECRET[::-1] * 3 for _ in range(9)]
    given, mine = os.pipe()
    stated = {key: value for key, value in environment.items() if key != "HOME"} | {"STATED": "yes"}
    forked = [fork(server, tmp_path / name, stated, REPORT, "a word", stdin=given) for name in ("one", "two")]
    os.close(given)
    os.close(mine)
    assert [each.wait(600) for each in forked] == [3, 3] and [each.poll() for each in forked] == [3, 3]
    assert len(kept) == 9 and (tmp_path / "one" / "err").read_text() == "an error\n"
    one, two = (json.loads((tmp_path / name / "out").read_text()) for name in ("one", "two"))
    assert one["secret"] == two["secret"] == 0 and one["found"] > 0, "the scan finds what is there"
    assert one["argv"] == [str(tmp_path / "one" / "script.py"), "a word"] and one["name"] == "__main__"
    assert one["cwd"] == one["path"] == str(tmp_path / "one") and one["variable"] == "yes" and one["inherited"] is None
    assert one["parent"] == two["parent"] != os.getpid() and one["files"] == 4 and one["read"] == ""
    assert one["interrupt"] and one["tasks"] == 1
    assert all(a != b for a, b in zip(one["random"], two["random"], strict=True))


def test_a_server_goes_on_where_a_caller_does_not_wait_for_its_fork(server, environment, tmp_path):
    script, request = tmp_path / "script.py", {"environment": environment, "folder": str(tmp_path), "leads": False}
    script.write_text("import sys; sys.exit(4)")
    mine, theirs = os.pipe()
    os.close(mine)
    with open(os.devnull, "r+b") as nothing:
        assert server._send(request | {"arguments": [str(script)]}, [nothing.fileno()] * 3 + [theirs])
    os.close(theirs)
    assert fork(server, tmp_path / "next", environment, "import sys; sys.exit(5)").wait(600) == 5


def test_two_threads_fork_at_once_from_one_server(server, environment, tmp_path):
    codes = {}

    def run(number: int) -> None:
        same = server_for(environment, ["torch"])
        assert same is server
        code = f"import sys; sys.exit({number})"
        codes[number] = fork(server, tmp_path / str(number), environment, code).wait(600)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert codes == {number: number for number in range(8)}


def test_a_fork_is_killed_and_says_by_which_signal(server, environment, tmp_path):
    forked = fork(server, tmp_path / "one", environment, "import time; time.sleep(900)")
    assert forked.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.1)
    forked.terminate()
    assert forked.wait(600) == -signal.SIGTERM
    other = fork(server, tmp_path / "two", environment, "import time; time.sleep(900)")
    os.kill(other.pid, signal.SIGKILL)  # by a stranger
    assert other.wait(600) == -signal.SIGKILL


def test_forks_end_with_their_server_and_another_environment_has_another_server(server, environment, tmp_path):
    other = server_for(environment | {"MALLOC_ARENA_MAX": "2"})
    assert other is not server and server_for(environment) is server
    forked = fork(other, tmp_path / "one", environment, "import time; time.sleep(900)")
    assert alive(forked.pid)
    other.close()
    assert forked.wait(600) == -signal.SIGKILL and gone([forked.pid], 60)
    assert server_for(environment | {"MALLOC_ARENA_MAX": "2"}) is not other
    close_servers()
    assert not server.running()


def test_a_server_with_a_thread_forks_nothing(environment, tmp_path):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"
    )
    stated = environment | {"PYTHONPATH": str(folder) + os.pathsep + environment["PYTHONPATH"]}
    assert fork(server_for(stated, ["threaded"]), tmp_path / "one", environment, "") is None
    close_servers()


def test_there_is_no_server_beside_linux(environment, monkeypatch):
    monkeypatch.setattr(fork_server.sys, "platform", "darwin")
    assert server_for(environment) is None
