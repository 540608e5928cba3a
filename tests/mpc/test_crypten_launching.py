"""A CrypTen program starts, ends and fails between real processes, and goes by two names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Process, Processes, free_port

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs.meeting import Meeting

PROGRAM = """
import os, signal, sys, torch
import mpc_appraisal.crypten as crypten

def product():
    x = crypten.cryptensor(torch.tensor([1.5, 2.5]), src=0)
    y = crypten.cryptensor(torch.tensor([3.0, -4.0]), src=1)
    found = [round(value, 3) for value in (x * y).get_plain_text().tolist()]
    print(crypten.communicator.get().get_rank(), found, flush=True)

for what in sys.argv[1:]:
    crypten.init()
    product()
    if what == "end":
        crypten.uninit()
    elif os.environ["RANK"] == "1":
        if what == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        raise ValueError("private")
    else:
        product()
"""
PLACES = {"file": "file://{folder}/meeting", "tcp": "tcp://127.0.0.1:{port}", "env": "env://"}


def started(processes: Processes, rank: int, place: str, *words: str, **changes: str) -> Process:
    (path := processes.folder / "program.py").write_text(PROGRAM)
    environment = {"RANK": str(rank), "WORLD_SIZE": "2", "RENDEZVOUS": place} | changes
    return processes.start(f"rank{rank}", [sys.executable, str(path), *words], environment)


@pytest.mark.parametrize("kind", PLACES)
def test_two_processes_meet_compute_end_and_meet_again(tmp_path, kind):
    port = str(free_port())
    place, changes = PLACES[kind].format(folder=tmp_path, port=port), {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with Processes(tmp_path) as processes:
        parties = [started(processes, rank, place, "end", "end", **changes) for rank in (1, 0)]
        for rank, party in zip((1, 0), parties, strict=True):
            ended = party.wait(60)
            assert (ended.code, ended.out) == (0, f"{rank} [4.5, -10.0]\n" * 2), ended.err
    assert not (tmp_path / "meeting").exists()


@pytest.mark.parametrize(("rank", "missing"), [(0, "data_owner"), (1, "model_owner")])
def test_a_party_that_does_not_come_is_named(tmp_path, rank, missing):
    with Processes(tmp_path) as processes:
        alone = started(processes, rank, f"file://{tmp_path}/meeting", "end", MPC_APPRAISAL_JOIN_TIMEOUT="1")
        ended = alone.wait(60)
    assert ended.code == 1 and re.search(rf"PeerError: {missing}.* did not come", ended.err), ended.err
    assert "model_owner is rank 0, data_owner is rank 1" in ended.err


def test_a_frozen_party_is_named_within_the_time_without_a_sign_of_life(tmp_path):
    with Processes(tmp_path) as processes:
        place, changes = f"file://{tmp_path}/meeting", {"MPC_APPRAISAL_FREEZE_TIMEOUT": "3"}
        frozen = started(processes, 1, place, "freeze", **changes)
        ended = started(processes, 0, place, "freeze", **changes).wait(60)
        assert ended.code == 1 and re.search(r"PeerError: .*data_owner", ended.err), ended.err
        frozen.popen.send_signal(signal.SIGCONT)
    assert ended.out == "0 [4.5, -10.0]\n"


def test_an_error_of_one_program_ends_the_other_and_stays_private(tmp_path):
    with Processes(tmp_path) as processes:
        place = f"file://{tmp_path}/meeting"
        parties = [started(processes, rank, place, "fail") for rank in (1, 0)]
        failed, other = [party.wait(60) for party in parties]
    assert failed.code == 1 and "ValueError: private" in failed.err
    assert other.code == 1 and "PeerError: data_owner stopped: an error ended its program" in other.err
    assert "private" not in other.err


FUNCTIONS = """
import sys, torch, crypten
import mpc_appraisal
from mpc_appraisal.common.errors import InputError
assert mpc_appraisal.mend_crypten() is crypten

@crypten.mpc.run_multiprocess(world_size=2)
def doubled(value, most=10**6):
    rank = crypten.communicator.get().get_rank()
    return rank, crypten.cryptensor(torch.full((most,), value), src=1).mul(2).get_plain_text()

@crypten.mpc.run_multiprocess(world_size=2)
def failing():
    if crypten.communicator.get().get_rank() == 0:
        raise ValueError("one party fails")
    return crypten.cryptensor(torch.ones(3), src=0).square().get_plain_text()

@crypten.mpc.run_multiprocess(world_size=1)
def alone():
    return crypten.communicator.get().get_world_size()

crypten.init()
assert crypten.communicator.get().get_world_size() == 1
found = doubled(1.5)  # each result is larger than a pipe
assert [rank for rank, _ in found] == [0, 1] and all((value - 3).abs().max() < 1e-4 for _, value in found)
assert crypten.is_initialized() and crypten.communicator.get().get_world_size() == 1
assert failing() is None and alone() == [1]
assert crypten.cryptensor([2.0]).square().get_plain_text().sub(4).abs() < 1e-3
crypten.uninit()
assert not crypten.is_initialized()
try:
    crypten.mpc.run_multiprocess(world_size=3)(alone)()
except InputError as error:
    assert error.name == "run_multiprocess: world_size" and error.value == 3
else:
    sys.exit("three owners were accepted")
print("done")
"""


def test_a_function_runs_as_both_owners_and_its_failure_hangs_nothing(tmp_path):
    (path := tmp_path / "functions.py").write_text(FUNCTIONS)
    ended = Process([sys.executable, str(path)], tmp_path / "run").wait(120)
    assert ended.code == 0 and ended.out.endswith("done\n"), ended.err
    assert "ValueError: one party fails" in ended.err


LAUNCHER = """
import multiprocessing, os, sys
import mpc_appraisal
mpc_appraisal.mend_crypten()
import crypten, torch

def run(rank, environment, function):
    os.environ.update(environment, RANK=str(rank))
    crypten.init()
    function()

def square():
    found = crypten.cryptensor(torch.tensor([3.0]), src=1).square().get_plain_text().item()
    print(crypten.communicator.get().get_rank(), round(found, 3), flush=True)

if __name__ == "__main__":
    crypten.cfg.mpc.provider = sys.argv[1]
    multiprocessing.set_start_method("spawn")
    functions = [square, square]
    if crypten.mpc.ttp_required():
        functions.append(crypten.mpc.provider.TTPServer)
    processes = [multiprocessing.Process(target=run, args=(rank, {
        "WORLD_SIZE": "2", "RENDEZVOUS": "file://" + sys.argv[2], "MPC_APPRAISAL_DEALER": sys.argv[3]}, function))
        for rank, function in enumerate(functions)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0, process
"""


@pytest.mark.parametrize(("provider", "dealer"), [("TFP", ""), ("TTP", "apart")])
def test_a_launcher_of_a_program_s_own_starts_the_dealer_where_crypten_s_provider_asks_for_it(
    tmp_path, provider, dealer
):
    (path := tmp_path / "launcher.py").write_text(LAUNCHER)
    command = [sys.executable, str(path), provider, str(tmp_path / "meeting"), dealer]
    ended = Process(command, tmp_path / "run").wait(120)  # neither owner calls crypten.uninit
    assert ended.code == 0 and sorted(ended.out.splitlines()) == ["0 9.0", "1 9.0"], ended.err


NAMES = """
import sys
import mpc_appraisal
assert "crypten" not in sys.modules and "torch" not in sys.modules
import mpc_appraisal.crypten as mended
import mpc_appraisal.crypten.nn as cnn
import mpc_appraisal.crypten.optim.sgd
from mpc_appraisal.crypten import mpc
from mpc_appraisal.crypten.mpc.primitives import ArithmeticSharedTensor
import crypten
assert mended is crypten and cnn is crypten.nn and mpc is crypten.mpc and mpc_appraisal.crypten is crypten
assert ArithmeticSharedTensor is crypten.mpc.primitives.ArithmeticSharedTensor
assert mpc_appraisal.mend_crypten() is crypten
assert crypten.__name__ == crypten.__spec__.name == "crypten" and crypten.nn.__spec__.name == "crypten.nn"
mended.cfg.encoder.precision_bits = 20
assert crypten.config.cfg.encoder.precision_bits == 20
try:
    import mpc_appraisal.crypten.absent
except ModuleNotFoundError as error:
    assert "crypten.absent" in str(error)
else:
    sys.exit("a module that is not there was imported")
"""


def test_the_name_of_this_package_stands_for_the_module_crypten_itself():
    done = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


ENVIRONMENT = {"RANK": "1", "WORLD_SIZE": "2", "RENDEZVOUS": "tcp://127.0.0.1:29500"}


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"WORLD_SIZE": "3"}, "WORLD_SIZE", "two owners and a dealer"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE", "a whole number"),
        ({"RANK": "3"}, "RANK", "from 0 to 2"),
        ({"RENDEZVOUS": ""}, "RENDEZVOUS", "file:///PATH"),
        ({"RENDEZVOUS": "http://host:1"}, "RENDEZVOUS", "tcp://HOST:PORT"),
        ({"RENDEZVOUS": "tcp://host"}, "RENDEZVOUS", "tcp://HOST:PORT"),
        ({"RENDEZVOUS": "file://host/path"}, "RENDEZVOUS", "file:///PATH"),
        ({"RENDEZVOUS": "tcp://192.0.2.7:29500"}, "MPC_APPRAISAL_IN_THE_CLEAR", "whoever reads the network"),
        ({"MPC_APPRAISAL_TIMEOUT": "-1"}, "MPC_APPRAISAL_TIMEOUT", "seconds above 0"),
        ({"MPC_APPRAISAL_JOIN_TIMEOUT": "soon"}, "MPC_APPRAISAL_JOIN_TIMEOUT", "seconds above 0"),
        ({"MPC_APPRAISAL_RELAY": "127.0.0.1:7787"}, "MPC_APPRAISAL_RELAY", "a relay could read"),
        ({"MPC_APPRAISAL_DEALER": "there"}, "MPC_APPRAISAL_DEALER", "here or apart"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch, changes, name, expected):
    for key, value in (ENVIRONMENT | changes).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=expected) as found:
        Meeting.of_environment()
    assert found.value.name.endswith(name)


def test_the_environment_states_the_parties(monkeypatch):
    for key, value in (ENVIRONMENT | {"MPC_APPRAISAL_TIMEOUT": "5"}).items():
        monkeypatch.setenv(key, value)
    found = Meeting.of_environment()
    assert (found.role, found.address, found.timeout, found.local) == ("data_owner", "tcp://127.0.0.1:29500", 5.0, True)
    monkeypatch.setenv("RANK", "2")
    assert Meeting.of_environment().role == "dealer"
    monkeypatch.setenv("RENDEZVOUS", "file:///tmp/a%20b")
    assert Meeting.of_environment().file == Path("/tmp/a b")
    monkeypatch.setenv("RENDEZVOUS", "tcp://192.0.2.7:29500")
    monkeypatch.setenv("MPC_APPRAISAL_IN_THE_CLEAR", "yes")
    assert not Meeting.of_environment().local
    monkeypatch.delenv("MPC_APPRAISAL_IN_THE_CLEAR")
    monkeypatch.setenv("MPC_APPRAISAL_TLS", os.sep)
    monkeypatch.setenv("MPC_APPRAISAL_RELAY", "relay.example.org:7787/name")
    found = Meeting.of_environment()
    assert (found.transport.kind, found.transport.relay, found.address) == ("tls", "relay.example.org:7787/name", None)
