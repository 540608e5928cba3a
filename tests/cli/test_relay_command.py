"""`mpc-appraisal relay`: its arguments, an address that is taken, and its end."""

from __future__ import annotations

import json
import signal
import socket

import pytest
from processes import APP, free_port, run_app

from mpc_appraisal.cli.commands.relay import LISTEN, USAGE, stated
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.net.relay.limits import Limits


def test_the_defaults_are_those_of_the_limits_and_of_this_machine():
    host, port, limits = stated([])
    assert (f"{host}:{port}", limits) == (LISTEN, Limits()) and host == "127.0.0.1"
    words = ["listen=0.0.0.0:80", "sessions=2", "wait_s=3", "idle_s=4", "session_mb=5", "mbit=100", "delay_ms=20"]
    assert stated(words) == ("0.0.0.0", 80, Limits(2, 3.0, 4.0, 5.0, 100.0, 20.0))
    assert stated(["mbit=none", "session_mb=none"])[2] == Limits()


def test_the_usage_names_every_limit_in_80_columns():
    assert max(map(len, USAGE.splitlines())) <= 80
    for key in ("listen", *Limits.__dataclass_fields__):
        assert f"\n{key}=" in USAGE


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("port=1", "relay"),
        ("listen=7787", "listen"),
        ("listen=127.0.0.1:1/name", "listen"),
        ("sessions=many", "sessions"),
        ("sessions=none", "sessions"),
        ("delay_ms=-1", "delay_ms"),
        ("mbit=0", "mbit"),
        ("idle_s=inf", "idle_s"),
    ],
)
def test_a_bad_argument_is_refused_by_its_key(word, name):
    with pytest.raises(InputError) as found:
        stated([word])
    assert found.value.name == name


def test_an_address_that_is_taken_is_one_line(tmp_path):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        done = run_app("relay", f"listen=127.0.0.1:{port}", folder=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"error: listen: got 127.0.0.1:{port}, where another process listens already")


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_status_0(processes, by):
    started = processes.start("relay", [*APP, "relay", f"listen=127.0.0.1:{free_port()}", "--json"])
    started.until("the relay listens at")
    started.popen.send_signal(by)
    ended = started.wait(60)
    (line,) = json.loads(ended.out)["lines"]
    assert ended.code == 0 and line.endswith("0 sessions, 0 bytes forwarded") and "Traceback" not in ended.err
