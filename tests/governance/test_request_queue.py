"""The queue of requests: damage, races and kills at any system call are never a yes."""

from __future__ import annotations

import json
import os
import stat
from datetime import datetime, timedelta

import pytest
from test_request import (
    CONTENT,
    ID,
    REQUEST,
    changed,
    leaves,
    names,
    numbered,
    other,
    queue,  # noqa: F401  a fixture
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import ApprovalError, Request, RequestQueue

# The queue


def test_a_yes_starts_one_appraisal(queue):
    assert queue.put(REQUEST, "acme").read_text() == REQUEST.text()
    assert queue.take(REQUEST, "acme") is None
    (asked,) = queue.pending()
    assert (asked.id, asked.state, asked.counterparty, asked.request) == (ID, "pending", "acme", REQUEST)
    queue.say(ID, True)
    assert [a.state for a in queue.all()] == ["yes"] and queue.pending() == []
    decision = queue.take(REQUEST, "acme")
    assert (decision.how, decision.digest) == ("command", REQUEST.digest)
    assert datetime.fromisoformat(decision.time).utcoffset() == timedelta(0)
    assert queue.take(REQUEST, "acme") is None
    assert [a.state for a in queue.all()] == ["used"]
    assert names(queue) == {f"{ID}.json", f"{ID}.md", f"{ID}.used-1"}


def test_a_repeat_is_asked_for_and_answered_again(queue):
    for k in range(1, 4):
        queue.put(REQUEST, "acme")
        assert queue.read(ID).state == "pending"
        queue.say(ID, True)
        assert queue.take(REQUEST, "acme") is not None
        with pytest.raises(InputError, match="already used"):
            queue.say(ID, True)
        assert f"{ID}.used-{k}" in names(queue)


def test_no_used_file_is_overwritten(queue):
    queue.put(REQUEST, "acme")
    (queue.folder / f"{ID}.used-2").write_text("kept")
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    assert queue.take(REQUEST, "acme")
    assert (queue.folder / f"{ID}.used-2").read_text() == "kept" and f"{ID}.used-3" in names(queue)


def test_an_unused_yes_counts_after_the_request_was_put_again(queue):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    queue.put(REQUEST, "acme")
    assert queue.take(REQUEST, "acme").digest == REQUEST.digest


def test_a_no_stays(queue):
    queue.put(REQUEST, "acme")
    queue.say(ID, False, "too dear\x1b[2J")
    for _ in range(2):
        queue.put(REQUEST, "acme")
        with pytest.raises(ApprovalError, match="too dear") as caught:
            queue.take(REQUEST, "acme")
        assert caught.value.public == f"the data owner refused request {ID}"
        assert str(caught.value).isprintable()
    with pytest.raises(InputError, match="already no"):
        queue.say(ID, True)
    assert queue.read(ID).reason.startswith("too dear")


def test_one_decision_alone(queue):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    for yes in (True, False):
        with pytest.raises(InputError, match="already yes"):
            queue.say(ID, yes)


def test_beside_a_no_a_yes_is_none(queue):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    said = json.loads((queue.folder / f"{ID}.yes").read_text())
    (queue.folder / f"{ID}.no").write_text(json.dumps(said | {"answer": "no"}))
    assert queue.read(ID).state == "no"
    with pytest.raises(ApprovalError):
        queue.take(REQUEST, "acme")


@pytest.mark.parametrize("path", [("candidates", 0, "rows"), ("release", "words"), ("privacy", "epsilon")])
def test_a_request_that_was_changed_on_the_disk_gets_no_yes(queue, path):
    queue.put(REQUEST, "acme")
    file = queue.folder / f"{ID}.json"
    asked = json.loads(file.read_text())
    asked["content"] = changed(*path, to=other(path, dict(leaves(CONTENT))[path]))
    file.write_text(json.dumps(asked))
    with pytest.raises(InputError, match="changed on the disk"):
        queue.say(ID, True)
    asked["digest"] = Request(asked["content"]).digest  # even with a digest that fits
    file.write_text(json.dumps(asked))
    with pytest.raises(InputError, match="changed on the disk"):
        queue.say(ID, True)
    assert [a.state for a in queue.all()] == ["damaged"] and names(queue) == {f"{ID}.json", f"{ID}.md"}


def test_a_text_that_was_changed_on_the_disk_gets_no_yes(queue):
    path = queue.put(REQUEST, "acme")
    path.write_text(REQUEST.text().replace("440", "44"))
    with pytest.raises(InputError, match="changed on the disk"):
        queue.say(ID, True)
    path.unlink()
    with pytest.raises(InputError, match="changed on the disk"):
        queue.say(ID, True)
    queue.put(REQUEST, "acme")
    queue.say(ID, True)


def test_a_request_may_not_hide_behind_the_id_of_another(queue, monkeypatch):
    monkeypatch.setattr(Request, "id", property(lambda self: "0" * 12))
    queue.put(REQUEST, "acme")
    with pytest.raises(InputError, match="different request"):
        queue.put(numbered(1), "acme")
    queue.say("0" * 12, True)
    with pytest.raises(InputError, match="a decision on"):
        queue.take(numbered(1), "acme")
    assert queue.take(REQUEST, "acme")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"digest": numbered(1).digest}, "a decision on"),
        ({"digest": REQUEST.digest[:12]}, "64 hex digits"),
        ({"digest": REQUEST.digest.upper()}, "64 hex digits"),
        ({"answer": "no"}, "the answer no"),
        ({"answer": True}, "yes, no"),
        ({"counterparty": "another"}, "for another"),
        ({"more": 1}, "more"),
        ({"time": 5}, "text"),
    ],
)
def test_a_wrong_decision_is_no_yes(queue, change, words):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    file = queue.folder / f"{ID}.yes"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    for _ in range(2):  # it stays where it is
        with pytest.raises(InputError, match=words):
            queue.take(REQUEST, "acme")
    assert not any("used" in name for name in names(queue))


def test_no_part_of_a_decision_is_a_yes(queue):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    file = queue.folder / f"{ID}.yes"
    whole = file.read_bytes()
    for size in range(len(whole.rstrip())):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError):
            queue.take(REQUEST, "acme")
        assert queue.read(ID).state == "damaged" if size < 0 else [a.state for a in queue.all()] == ["damaged"]
    file.write_bytes(b"\xff\x00" + whole)
    with pytest.raises(InputError):
        queue.take(REQUEST, "acme")
    file.write_bytes(whole)
    assert queue.take(REQUEST, "acme")


def test_a_decision_that_changes_while_it_is_taken_is_no_yes(queue, monkeypatch):
    queue.put(REQUEST, "acme")
    queue.say(ID, True)
    rename = os.rename

    def late(source, target):
        source.write_text(json.dumps(json.loads(source.read_text()) | {"time": "later"}))
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(InputError, match="changed meanwhile"):
        queue.take(REQUEST, "acme")
    monkeypatch.undo()
    assert queue.take(REQUEST, "acme") is None


FOREIGN = ["../../etc/pa", "0123456789ab\n", "0123456789AB", "0123456789abc", "", "*", "0123456789a/", None, 5]


@pytest.mark.parametrize("id", FOREIGN)
def test_an_id_is_no_path(queue, id):
    queue.put(REQUEST, "acme")
    for ask in (lambda: queue.say(id, True), lambda: queue.read(id)):
        with pytest.raises(InputError, match="12 hex digits"):
            ask()


def test_what_is_not_here(queue):
    with pytest.raises(InputError, match="a request in"):
        queue.say(ID, True)
    assert not queue.folder.exists()
    queue.folder.mkdir()
    with pytest.raises(InputError, match="a request in"):
        queue.say(ID, True)
    assert list(queue.folder.iterdir()) == []  # a folder of another kind, stated by mistake, stays as it is
    queue.folder.rmdir()
    with pytest.raises(InputError, match="folder of a queue of requests"):
        queue.all()
    queue.put(numbered(1), "acme")
    with pytest.raises(InputError, match="a request in"):
        queue.say(ID, True)
    (queue.folder / "notes.json").write_text("{}")
    assert [asked.id for asked in queue.all()] == [numbered(1).id]


def test_a_desk_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="requests"):
            RequestQueue(place).put(REQUEST, "acme")
    for counterparty in ("", "x" * 201, 5):
        with pytest.raises(InputError, match="counterparty"):
            RequestQueue(tmp_path / "desk").put(REQUEST, counterparty)


def test_files_are_the_owners_own(tmp_path):
    before = os.umask(0)
    try:
        queue = RequestQueue(tmp_path / "desk")
        queue.put(REQUEST, "acme")
        queue.say(ID, True)
        queue.take(REQUEST, "acme")
        queue.put(numbered(1), "acme")
        queue.say(numbered(1).id, False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(queue.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in queue.folder.iterdir()} == {0o600}
    assert len(names(queue)) == 6
