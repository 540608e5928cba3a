"""`mpc-appraisal crypten` runs a CrypTen program between organisations over TLS, and refuses what cannot be."""

from __future__ import annotations

import pytest
from processes import APP, DATA_OWNER, DEALER, MODEL_OWNER, Processes, free_port

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.common.errors import InputError

PROGRAM = """
import sys
import crypten, torch

for turn in (1, 2):
    crypten.init()
    rank = crypten.communicator.get().get_rank()
    x = crypten.cryptensor(torch.tensor([1.0, -2.0]) * turn, src=0)
    w = crypten.cryptensor(torch.tensor([3.0, 0.5]), src=1)
    print(rank, sys.argv[1:], [round(value, 3) for value in (x * w).relu().get_plain_text().tolist()])
    crypten.uninit()
sys.exit(5 if rank == 1 else 0)
"""


def test_an_unchanged_program_runs_twice_over_tls_with_its_own_words_and_status(trial, tmp_path):
    (program := tmp_path / "program.py").write_text(PROGRAM)
    where = f"address=tcp://127.0.0.1:{free_port()}"
    with Processes(tmp_path) as processes:
        started = {
            role: processes.start(role, [*APP, "crypten", f"role={role}", where, f"tls={trial}/{role}", *words])
            for role, words in {
                DEALER: ["sessions=2"],
                DATA_OWNER: [str(program), "a=b", "--json"],
                MODEL_OWNER: [str(program), "role=dealer"],
            }.items()
        }
        ended = {role: process.wait(90) for role, process in started.items()}
    assert {role: one.code for role, one in ended.items()} == {DEALER: 0, DATA_OWNER: 5, MODEL_OWNER: 0}, ended
    words = {MODEL_OWNER: "0 ['role=dealer']", DATA_OWNER: "1 ['a=b', '--json']"}
    for role, said in words.items():
        assert ended[role].out == f"{said} [3.0, 0.0]\n{said} [6.0, 0.0]\n"
    assert ended[DEALER].out == ""


ADDRESS = "address=tcp://127.0.0.1:29500"


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["role=model_owner"], "address", "relay=HOST:PORT"),
        (["role=model_owner", ADDRESS, "relay=127.0.0.1:1", "x.py"], "address", "or else relay"),
        ([ADDRESS, "x.py"], "role", "one of model_owner, data_owner, dealer"),
        (["role=seller", ADDRESS, "x.py"], "role", "one of"),
        (["role=dealer", ADDRESS, "x.py"], "crypten", "no program at the dealer"),
        (["role=data_owner", ADDRESS], "crypten", "a file after the keys"),
        (["role=data_owner", ADDRESS, "absent.py"], "crypten", "the file of a CrypTen program"),
        (["role=data_owner", ADDRESS, "tsl=x", __file__], "crypten", "a key of this command"),
        (["role=data_owner", ADDRESS, "tls=", __file__], "tls", "a value"),
        (["role=data_owner", ADDRESS, "tls=a", "tls=b", __file__], "crypten", "each key once"),
        (["role=data_owner", ADDRESS, "sessions=2", __file__], "sessions", "the dealer states it"),
        (["role=dealer", ADDRESS, "sessions=0"], "sessions", "1 or more"),
        (["role=data_owner", "address=tcp://192.0.2.7:1", __file__], "in_the_clear", "tls, or in_the_clear=true"),
        (["role=data_owner", ADDRESS, "timeout=0", __file__], "timeout", "seconds above 0"),
        (["role=data_owner", "address=host:1", __file__], "address", "tcp://HOST:PORT"),
    ],
)
def test_a_wrong_word_is_named(monkeypatch, words, name, expected):
    monkeypatch.setattr("os.environ", {})  # the command states variables for the program
    with pytest.raises(InputError, match=expected) as found:
        COMMANDS["crypten"](words)
    assert found.value.name == name
