"""A relay that harms, dies or stands still: every party ends with an error that says what happened, and no value."""

from __future__ import annotations

import os
import signal

import pytest
from processes import MODEL_OWNER, ROLES, gone
from relay_sessions import bad_relay, parties_at, relay

BROKEN = "data_owner broke the encrypted connection ("
GONE = "is gone: its process ended, or the relay or the network between us"
FREEZE = 6  # of the tests of silence
STOPPED = "stopped: no sign of life for 6 s, which a relay that holds bytes back looks like too"


def ends(started: dict) -> dict:
    """Wait until all parties have ended, each with the status of an expected error, and return their last words."""
    found = {role: party.wait(30) for role, party in started.items()}
    said = {role: end.err for role, end in found.items()}
    assert {end.code for end in found.values()} == {2}, said
    return said


@pytest.mark.parametrize(
    ("fault", "words", "freeze"),
    [
        *((fault, (BROKEN,), 60) for fault in ("flip", "drop", "repeat", "reorder")),
        ("withhold", (f"data_owner {STOPPED}",), FREEZE),
        ("cut", (f"data_owner {GONE}",), 60),
        (
            "cross",
            (f"data_owner {STOPPED}", "broke the encrypted connection ("),
            FREEZE,
        ),  # it depends on who reads first
    ],
)
def test_what_a_relay_does_to_the_bytes_of_a_link_ends_the_session(fault, words, freeze, processes, trial):
    harmful, where = bad_relay(processes, fault)
    started = parties_at(processes, where, trial, "loop", None, freeze)  # they exchange tensors, and check each one
    said = ends(started)
    assert f"harm is done: {fault}" in harmful.err
    assert any(one in said[MODEL_OWNER] for one in words), said[MODEL_OWNER]
    for role in ROLES:
        assert "error: " in said[role] and "Traceback" not in said[role], said[role]


def test_all_parties_name_the_relay_that_is_killed(processes, trial):
    started, where = relay(processes)
    parties = parties_at(processes, where, trial, "loop")
    started.popen.send_signal(signal.SIGKILL)
    for role, said in ends(parties).items():
        assert GONE in said and "does not answer any more" in said, (role, said)


def test_all_parties_end_with_a_relay_that_is_interrupted(processes, trial):
    started, where = relay(processes)
    parties = parties_at(processes, where, trial, "busy")  # the model owner computes, and does not look at its peers
    started.popen.send_signal(signal.SIGINT)
    for role, said in ends(parties).items():
        assert GONE in said, (role, said)
    assert started.wait(30).code == 0 and "Traceback" not in started.err


def test_all_parties_name_the_relay_that_stands_still(processes, trial):
    started, where = relay(processes)
    parties = parties_at(processes, where, trial, "loop", freeze=FREEZE)
    os.kill(started.popen.pid, signal.SIGSTOP)
    try:
        for role, said in ends(parties).items():
            assert STOPPED in said, (role, said)
    finally:
        started.kill()


@pytest.mark.parametrize("victim", ROLES)
def test_a_killed_party_is_named_through_a_relay(victim, processes, trial):
    started, where = relay(processes)
    parties = parties_at(processes, where, trial, "loop")
    parties[victim].popen.send_signal(signal.SIGKILL)
    others = {role: party for role, party in parties.items() if role != victim}
    assert gone([party.popen.pid for party in others.values()], 10)
    for role, said in ends(others).items():
        assert f"error: {victim} is gone" in said and "ended the session" not in said, (role, said)
    assert started.popen.poll() is None
