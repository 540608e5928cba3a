"""Links over TLS: what a tensor must be, and that a killed, frozen or diverged party is named and a slow one is not."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
import torch
from processes import DATA_OWNER, DEALER, MODEL_OWNER, stretched
from tls_sessions import FREEZE, assert_others_end, connected, parties

from mpc_appraisal.common.errors import PeerError


def test_a_message_replayed_on_the_wire_is_refused(trial):
    links = connected(trial)
    try:
        outgoing = links[DATA_OWNER]._peers[MODEL_OWNER].outgoing
        links[DATA_OWNER].send(MODEL_OWNER, torch.ones(2, dtype=torch.int64))
        assert links[MODEL_OWNER].receive(DATA_OWNER, (2,), torch.int64, 5.0).tolist() == [1, 1]
        outgoing._sequence -= 1
        links[DATA_OWNER].send(MODEL_OWNER, torch.ones(2, dtype=torch.int64))
        with pytest.raises(PeerError, match="data_owner sent message .* replayed or lost"):
            links[MODEL_OWNER].receive(DATA_OWNER, (2,), torch.int64, 5.0)
    finally:
        for link in links.values():
            link.close()


def test_a_party_that_has_left_is_still_known_by_its_key(trial):
    links = connected(trial)
    own = {role: link.certified(role) for role, link in links.items()}
    links[MODEL_OWNER].abort("an error ended its program")
    for link in links.values():
        link.close()
    for link in links.values():
        assert {role: link.certified(role) for role in links} == own
    assert len(set(own.values())) == 3


def test_large_messages_both_ways_at_once(trial):
    links, sent = connected(trial), torch.arange(5 << 20)
    try:
        links[MODEL_OWNER].send(DATA_OWNER, sent)
        links[DATA_OWNER].send(MODEL_OWNER, sent)
        links[DEALER].send(MODEL_OWNER, torch.tensor(3, dtype=torch.uint8))
        links[DEALER].send(MODEL_OWNER, torch.empty(0, 2, dtype=torch.int64))
        assert torch.equal(links[MODEL_OWNER].receive(DATA_OWNER, sent.shape, torch.int64, 120.0), sent)
        assert torch.equal(links[DATA_OWNER].receive(MODEL_OWNER, sent.shape, torch.int64, 120.0), sent)
        assert links[MODEL_OWNER].receive(DEALER, (), torch.uint8, 120.0) == 3
        assert links[MODEL_OWNER].receive(DEALER, (0, 2), torch.int64, 120.0).shape == (0, 2)
    finally:
        for link in links.values():
            link.close()


@pytest.mark.parametrize(
    ("what", "sent", "expected"),
    [
        ("shape", r"\(3, 4\) of int64", r"\(3, 5\) of int64"),
        ("type", r"\(3, 4\) of int64", r"\(3, 4\) of uint8"),
        ("message", "a message", r"\(12,\) of int64"),
    ],
)
def test_programs_that_differ_are_named_with_both_call_sites(what, sent, expected, processes, trial):
    started = parties(processes, trial, what)
    ended = {role: party.wait(20) for role, party in started.items()}
    assert {end.code for end in ended.values()} == {2}
    site = r"tls_party\.py:\d+"
    message = f"the programs diverged: data_owner sent {sent} at {site}, expected {expected} at {site}"
    assert re.search(message, ended[MODEL_OWNER].err), ended[MODEL_OWNER].err
    for role in (DATA_OWNER, DEALER):
        assert "diverged: " in ended[role].err, ended[role].err


def test_a_slow_party_is_no_error(processes, trial):
    started = parties(processes, trial, "slow")
    ended = {role: party.wait(30) for role, party in started.items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}


def test_both_owners_may_send_more_than_the_window_at_once(processes, trial):
    ended = {role: party.wait(40) for role, party in parties(processes, trial, "big").items()}
    assert {end.code for end in ended.values()} == {0}, {role: end.err for role, end in ended.items()}


@pytest.mark.parametrize(("what", "victim"), [("loop", DATA_OWNER), ("busy", DATA_OWNER), ("busy", DEALER)])
def test_a_frozen_party_is_named(what, victim, processes, trial):
    started = parties(processes, trial, what)
    frozen = time.monotonic()
    os.kill(started[victim].popen.pid, signal.SIGSTOP)
    others = {role: party for role, party in started.items() if role != victim}
    try:
        for role, party in others.items():
            ended = party.wait(FREEZE + 6)
            assert ended.code == 2 and f"{victim} stopped: no sign of life for 3 s" in ended.err, (role, ended.err)
        assert FREEZE / 3 < time.monotonic() - frozen < stretched(FREEZE + 4)  # it was last heard before it froze
    finally:
        started[victim].kill()


@pytest.mark.parametrize("victim", [DATA_OWNER, DEALER])
def test_a_party_that_computes_hears_of_a_killed_one(victim, processes, trial):
    started = parties(processes, trial, "busy")
    assert_others_end(started, victim)
