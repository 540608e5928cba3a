"""The transports in the clear: a killed or frozen party is named in time at any moment, a slow one is no error."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from processes import DATA_OWNER, DEALER, HERE, MODEL_OWNER, ROLES, Process, Processes, free_port, gone, stretched

WITHIN = 2.0  # seconds from a kill to the end of the others
FREEZE = 3.0  # as tls_party states it
ENDING = 1.5  # seconds that a party may take to end after it noticed: the host stays a moment for the others


def parties(processes: Processes, what: str, transport: str = "tcp", roles=ROLES) -> dict[str, Process]:
    """Start the parties `roles`, and wait until they are connected if these are all. Returns them by role."""
    where = f"tcp://127.0.0.1:{free_port()}"
    script = [sys.executable, str(HERE / "tls_party.py")]
    started = {role: processes.start(role, [*script, role, where, "", what, transport]) for role in reversed(roles)}
    if roles == ROLES:
        for party in started.values():
            party.until("running", 60)
    return started


def named(started: dict[str, Process], victim: str, how: int, says: str, limit: float) -> float:
    """Send the signal `how` to the victim. Returns the seconds until all others have ended with its name."""
    os.kill(started[victim].popen.pid, how)
    begun = time.monotonic()
    others = {role: party for role, party in started.items() if role != victim}
    try:
        assert gone([party.popen.pid for party in others.values()], limit + 20)
        seconds = time.monotonic() - begun
        for role, party in others.items():
            ended = party.wait(1)
            assert ended.code == 2 and f"error: {victim} {says}" in ended.err, (role, ended.err)
    finally:
        started[victim].kill()
    print(f"{victim} {says}: {seconds:.2f} s")
    assert seconds < stretched(limit)
    return seconds


MOMENTS = [("load", MODEL_OWNER), ("load", DEALER), *(("loop", role) for role in ROLES)]
MOMENTS += [("busy", DATA_OWNER), ("busy", DEALER), ("result", DATA_OWNER), ("result", MODEL_OWNER)]


@pytest.mark.parametrize(("what", "victim"), MOMENTS)
def test_a_killed_party_is_named_at_any_moment(what, victim, processes):
    named(parties(processes, what), victim, signal.SIGKILL, "is gone", WITHIN)


@pytest.mark.parametrize("victim", [MODEL_OWNER, DATA_OWNER])
def test_a_party_killed_before_all_have_come_is_named(victim, processes):
    started = parties(processes, "loop", roles=(MODEL_OWNER, DATA_OWNER))
    for party in started.values():
        party.until("connected", 60)
    named(started, victim, signal.SIGKILL, "is gone", WITHIN)


@pytest.mark.parametrize(("what", "victim"), [("load", MODEL_OWNER), ("loop", MODEL_OWNER), ("busy", DATA_OWNER)])
def test_a_frozen_party_is_named(what, victim, processes):
    says = f"stopped: no sign of life for {FREEZE:g} s"
    assert named(parties(processes, what), victim, signal.SIGSTOP, says, FREEZE + ENDING) > FREEZE / 3


@pytest.mark.parametrize("victim", ROLES)
def test_gloo_names_them_too(victim, processes):
    named(parties(processes, "loop", "gloo"), victim, signal.SIGKILL, "is gone", WITHIN)


def test_gloo_names_a_frozen_one(processes):
    says = f"stopped: no sign of life for {FREEZE:g} s"
    named(parties(processes, "loop", "gloo"), DATA_OWNER, signal.SIGSTOP, says, FREEZE + ENDING)


@pytest.mark.parametrize("what", ["slow", "matmul"])
def test_a_slow_party_is_no_error(what, processes):
    ended = {role: party.wait(40) for role, party in parties(processes, what).items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}


def test_both_owners_may_send_more_than_the_window_at_once(processes):
    ended = {role: party.wait(40) for role, party in parties(processes, "big").items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}
