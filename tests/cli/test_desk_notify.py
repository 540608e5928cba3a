"""Notifications of the desk: what is news, what the command is given, and a command that fails or hangs."""

from __future__ import annotations

import json
import sys
import time

import pytest
from desk import MARKUP, places, put, run  # noqa: F401  a fixture
from full_record import FULL
from processes import stretched
from test_request import numbered

from mpc_appraisal.cli.desk.notify import Notifier, Watch
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.reporting.record import append

FOREIGN = f"$(touch hacked) `x` ; {MARKUP}\x1b[2J"
# Writes what it is given, its arguments and its environment into a new file of a folder.
WRITER = "import json, os, sys, tempfile; h, p = tempfile.mkstemp(dir=sys.argv[1], suffix='.new');"
WRITER += "os.write(h, json.dumps([sys.stdin.read(), sys.argv, dict(os.environ)]).encode()); os.replace(p, p[:-4])"


def kinds(events) -> list[tuple[str, str]]:
    return [(event["event"], event.get("id") or event["candidate"]) for event in events]


def test_requests_and_their_answers_are_news_once(places):
    old = put(places, numbered(0))
    watch = Watch(places)
    assert watch.look() == []
    one, two = put(places, numbered(1), FOREIGN), put(places, numbered(2))
    events = watch.look()
    assert sorted(kinds(events)) == sorted([("request", one.id), ("request", two.id)])
    (first,) = [event for event in events if event["id"] == one.id]
    assert (first["counterparty"], first["candidates"]) == (FOREIGN, ["digits-a", "digits-b"])
    assert watch.look() == []
    RequestQueue(places.requests).say(one.id, True)
    RequestQueue(places.requests).say(two.id, False, "a secret reason")
    events = watch.look()
    assert sorted(kinds(events)) == sorted([("approval", one.id), ("refusal", two.id)])
    assert "secret" not in json.dumps(events) and watch.look() == []
    assert RequestQueue(places.requests).take(one, FOREIGN) and watch.look() == []
    (places.requests / f"{old.id}.json").write_text("{")
    assert watch.look() == []


def test_a_new_record_is_an_answer(places):
    run(places, "old", [FULL])
    watch = Watch(places)
    folder = run(places, "a/b", [FULL])
    assert kinds(watch.look()) == [("answer", FULL.candidate)] and watch.look() == []
    with open(folder / "records.jsonl", "a") as file:
        file.write('{"method"')  # it is being written
    assert watch.look() == []
    (folder / "records.jsonl").unlink()
    append(folder / "records.jsonl", FULL)
    append(folder / "records.jsonl", FULL)
    (event,) = watch.look()
    assert (event["run"], event["answer"], event["role"]) == ("a/b", "0.3", "model_owner")


def test_folders_that_are_missing_are_no_news(places):
    for folder in (places.requests, places.runs):
        folder.rmdir()
    watch = Watch(places)
    assert watch.look() == []
    request = put(places, numbered(1))
    assert kinds(watch.look()) == [("request", request.id)]


def test_the_command_is_given_one_line_and_no_shell_reads_it(places, tmp_path):
    box = tmp_path / "box"
    box.mkdir()
    notifier = Notifier(places, [sys.executable, "-c", WRITER, str(box), "$HOME ; echo"], look=0.05)
    try:
        put(places, numbered(1), FOREIGN)
        end = time.monotonic() + stretched(60)
        while not (found := [path for path in box.iterdir() if path.suffix != ".new"]):
            assert time.monotonic() < end, notifier.trouble
            time.sleep(0.05)
    finally:
        notifier.close()
    given, words, environment = json.loads(found[0].read_text())
    assert given.count("\n") == 1 and given.endswith("\n") and given.isascii() and "\x1b" not in given
    assert json.loads(given)["counterparty"] == FOREIGN and json.loads(given)["event"] == "request"
    assert words[1:] == [str(box), "$HOME ; echo"]
    assert not any("touch hacked" in value for value in environment.values())


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit(3)", "ended with status 3"),
        ("import time; time.sleep(3600)", "ended after 0.5 seconds"),
        ("import os, time; os.close(0); time.sleep(3600)", "ended after 0.5 seconds"),
        (None, "did not start"),
    ],
)
def test_a_command_that_fails_or_hangs_is_said_and_ended(places, capsys, program, words):
    command = ["/no/such/program"] if program is None else [sys.executable, "-c", program]
    notifier = Notifier(places, command, patience=0.5, look=3600.0)
    notifier.run({"event": "request"})
    assert words in notifier.trouble and words in capsys.readouterr().err
    notifier._words = [sys.executable, "-c", ""]
    notifier._patience = 600.0
    notifier.run({"event": "request"})
    assert notifier.trouble == ""
    notifier.close()


def test_a_hanging_command_holds_up_no_page(places, tmp_path):
    from desk import OWN, PORT

    from mpc_appraisal.cli.desk.app import make_app
    from mpc_appraisal.cli.desk.guard import Guard

    started = tmp_path / "started"
    program = f"open({str(started)!r}, 'w').close(); import time; time.sleep(3600)"
    notifier = Notifier(places, [sys.executable, "-c", program], patience=3600.0, look=0.05)
    request, guard = put(places, numbered(1)), Guard(PORT)
    client = make_app(places, guard, lambda: notifier.trouble or "notify: <b>trouble</b>").test_client()
    end = time.monotonic() + stretched(60)
    while not started.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    client.get(guard.address.removeprefix(OWN), base_url=OWN)
    answer = client.get("/", base_url=OWN)
    assert request.id in answer.text and "notify: &lt;b&gt;trouble" in answer.text
    running = notifier.running
    assert running is not None and running.poll() is None
    notifier.close()
    assert running.wait(stretched(60)) < 0
