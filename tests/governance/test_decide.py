"""How a request is decided: by rule, by command, in time or not."""

from __future__ import annotations

import json
import math
import pickle
import shlex
import time
from datetime import timedelta

import pytest
from processes import stretched
from rich.console import Console
from test_request import (
    ID,
    NOON,
    REQUEST,
    names,
    queue,  # noqa: F401  a fixture
)

from mpc_appraisal.cli.commands.approval import main
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.governance.approval.decide import ApprovalError, Decision, RequestQueue, decide

# The decision


def nothing():
    pass


def test_ask_waits_for_the_command(tmp_path):
    queue, lines, turns = RequestQueue(tmp_path / "a desk"), [], []

    def check():
        turns.append(1)
        if len(turns) == 3:
            main(shlex.split(lines[0].split("mpc-appraisal approval ")[1].split(" (text")[0]), Console())

    decision = decide(REQUEST, "ask", queue.folder, "acme", 30, check, lines.append, poll=0.01, clock=lambda: NOON)
    assert decision.how == "command" and decision.digest == REQUEST.digest
    assert len(lines) == 1 and len(turns) == 3 and "\n" not in lines[0]
    assert f"mpc-appraisal approval yes {ID} in='{queue.folder}'" in lines[0] and f"{ID}.md" in lines[0]
    assert json.loads((queue.folder / f"{ID}.json").read_text())["time"] == "2026-01-01T12:00:00+00:00"


def test_the_default_folder_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    with pytest.raises(ApprovalError):
        decide(REQUEST, "ask", "requests", "acme", 0, nothing, lines.append)
    assert f"mpc-appraisal approval yes {ID} (" in lines[0] and (tmp_path / "requests" / f"{ID}.md").is_file()


def test_a_no_while_waiting(queue):
    def check():
        if queue.folder.is_dir():
            queue.say(ID, False, "not to acme")

    with pytest.raises(ApprovalError, match=f"{ID}.*not to acme") as caught:
        decide(REQUEST, "ask", queue.folder, "acme", 30, check, lambda line: None, poll=0.01)
    assert caught.value.public == f"the data owner refused request {ID}"
    assert isinstance(caught.value, AppraisalError) and not isinstance(caught.value, RuntimeError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.public) == (str(caught.value), caught.value.public)


def test_no_answer_in_time(queue):
    started = time.monotonic()
    with pytest.raises(ApprovalError, match=f"no answer to request {ID} within 0.3 s") as caught:
        decide(REQUEST, "ask", queue.folder, "acme", 0.3, nothing, lambda line: None, poll=0.05)
    assert 0.3 <= time.monotonic() - started < stretched(5)
    assert caught.value.public == f"no answer to request {ID} within 0.3 s"
    assert [asked.state for asked in queue.all()] == ["pending"]
    with pytest.raises(InputError, match="patience"):
        decide(REQUEST, "ask", queue.folder, "acme", math.nan, nothing, lambda line: None)


def test_a_peer_that_dies_while_waiting(queue):
    turns = []

    def check():
        turns.append(1)
        if len(turns) == 4:
            queue.say(ID, True)
            raise PeerError("model owner vanished")

    with pytest.raises(PeerError):
        decide(REQUEST, "ask", queue.folder, "acme", 30, check, lambda line: None, poll=0.01)
    assert len(turns) == 4 and queue.read(ID).state == "yes"  # not used up


def test_a_request_that_is_changed_while_waiting(queue):
    turns = []

    def check():
        turns.append(1)
        if len(turns) == 3:
            (queue.folder / f"{ID}.json").write_text("{}")

    with pytest.raises(InputError, match=f"{ID}.json"):
        decide(REQUEST, "ask", queue.folder, "acme", 30, check, lambda line: None, poll=0.01)


def test_who_waits_while_another_takes_the_yes_asks_again(queue):
    lines, turns = [], []

    def check():
        turns.append(1)
        if len(turns) == 3:
            queue.say(ID, True)
            assert queue.take(REQUEST, "acme")
        if len(turns) == 6:
            queue.say(ID, True)

    assert decide(REQUEST, "ask", queue.folder, "acme", 30, check, lines.append, poll=0.01).how == "command"
    assert len(lines) == 2 and {f"{ID}.used-1", f"{ID}.used-2"} <= names(queue)


def test_a_yes_for_one_counterparty_is_none_for_another(queue):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    with pytest.raises(InputError, match="for acme"):
        decide(REQUEST, "ask", queue.folder, "bad company", 1, nothing, lambda line: None)
    assert decide(REQUEST, "ask", queue.folder, "acme", 1, nothing, lambda line: None)


def test_stated_and_by_policy(tmp_path):
    def never(*line):
        raise AssertionError("nobody is asked")

    place = tmp_path / "desk"
    stated = decide(REQUEST, "yes", place, "acme", 1, never, never, clock=lambda: NOON)
    assert stated == Decision("stated", "2026-01-01T12:00:00+00:00", REQUEST.digest)
    policy = tmp_path / "policy.yaml"
    policy.write_text("engines: [fast]\nexpires: 2026-01-01\n")
    by_policy = decide(REQUEST, str(policy), place, "acme", 1, never, never, clock=lambda: NOON)
    assert by_policy == Decision("policy", "2026-01-01T12:00:00+00:00", REQUEST.digest)
    with pytest.raises(ApprovalError, match="held until"):
        decide(REQUEST, policy, place, "acme", 1, never, never, clock=lambda: NOON + timedelta(days=1))
    policy.write_text("engines: [stock]\nminimum_rows: 5000\n")
    with pytest.raises(ApprovalError, match="minimum_rows is 5000.*engine: fast") as caught:
        decide(REQUEST, policy, place, "acme", 1, never, never)
    assert ID in str(caught.value) and caught.value.public == f"the data owner refused request {ID}"
    assert not place.exists()


@pytest.mark.parametrize("how", ["", None, True, "YES", "none.yaml", "."])
def test_what_is_no_way_to_decide(tmp_path, how, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="approval"):
        decide(REQUEST, how, tmp_path, "acme", 1, nothing, lambda line: None)
