"""Requests, policies and the desk: a changed request, a damaged file, a race or a kill is never a yes."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import math
import multiprocessing
import os
import pickle
import random
import re
import shlex
import signal
import stat
import time
from datetime import date, datetime, timedelta, timezone
from itertools import count

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from mpc_appraisal.cli.commands.approval import main
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.governance.approval.decide import ApprovalError, Decision, Request, RequestQueue, Rules, decide

PROCESSES = multiprocessing.get_context("fork")  # hundreds are started, and imports take seconds
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
LISTING = {"name": "digits-b", "digest": "a" * 64, "commitment": "b" * 64, "price": 100, "currency": "EUR"}
CONTENT = {
    "format": "mpc_appraisal request 1",
    "methods": [{"name": "influence", "settings": "Influence(damping=0.0)", "opens": "the influence"}],
    "model": {"features": 64, "classes": 10, "train_rows": 600, "test_rows": 500, "l2": 0.01},
    "candidates": [
        {"name": "digits-a", "rows": 440, "listing": None},
        {"name": "digits-b", "rows": 300, "listing": LISTING},
    ],
    "release": {"kind": "dp", "words": "both owners learn the noised value of each candidate"},
    "openings": [
        {
            "what": "the value",
            "to": ["model_owner", "data_owner"],
            "numbers": 1,
            "why": "it is the result",
            "times": 2,
            "method": "influence",
        }
    ],
    "privacy": {
        "mechanism": "discrete_gaussian",
        "sigma": 5.0,
        "epsilon": 0.9,
        "delta": 1e-6,
        "row_norm": 10.0,
        "protects": "any one row of a candidate",
        "sensitivity": {"influence, digits-a": 0.3, "influence, digits-b": 0.4},
    },
    "told": {"data_owner": {"row_norm": 9.5}, "model_owner": {"row_norm": 9.5, "weight_norm": 1.2}},
    "protocol": {"engine": "fast", "transport": "tls", "trust": "Semi-honest parties."},
    "config": "0123456789abcdef",
}


def changed(*path, to) -> dict:
    """CONTENT with the value at a path replaced."""
    content = copy.deepcopy(CONTENT)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return content


def leaves(value, path=()):
    """(path, value) of all that is neither an object nor a list."""
    parts = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    for key, part in parts:
        yield from leaves(part, (*path, key))
    if type(value) not in (dict, list):
        yield path, value


def request(**config) -> Request:
    return Request(changed("config", to=config["config"]) if config else CONTENT)


def numbered(k: int) -> Request:
    return request(config=f"{k:016x}")


REQUEST = Request(CONTENT)
ID = REQUEST.id


@pytest.fixture
def queue(tmp_path):
    return RequestQueue(tmp_path / "desk")


def names(queue) -> set[str]:
    return {name for name in os.listdir(queue.folder) if not name.startswith(".")}


# Requests


def test_the_digest_is_that_of_canonical_json():
    text = json.dumps(CONTENT, sort_keys=True, separators=(",", ":"))
    assert REQUEST.digest == hashlib.sha256(text.encode()).hexdigest()
    assert REQUEST.id == REQUEST.digest[:12]
    backwards = json.loads(json.dumps(CONTENT), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert list(backwards) != list(CONTENT)
    assert Request(backwards).digest == REQUEST.digest == Request.from_json(json.dumps(backwards, indent=3)).digest
    assert Request(backwards).text() == REQUEST.text()


# Another value of the same kind, where adding to it would not make one.
OTHERS = {
    ("release", "kind"): "best",
    ("openings", 0, "to", 0): "dealer",
    ("openings", 0, "to", 1): "dealer",
    ("config",): "f" * 16,
    ("candidates", 0, "listing"): LISTING,
    ("privacy", "delta"): 2e-6,
}


def other(path, value):
    if path in OTHERS:
        return OTHERS[path]
    return value + " " if type(value) is str else value + 1


LEAVES = [leaf for leaf in leaves(CONTENT) if leaf[0] != ("format",)]  # of which only one is known


@pytest.mark.parametrize(("path", "value"), LEAVES)
def test_every_leaf_counts(path, value):
    assert Request(changed(*path, to=other(path, value))).digest != REQUEST.digest


@pytest.mark.parametrize(("path", "value"), LEAVES)
def test_every_leaf_is_in_the_text(path, value):
    """Beside the digests: what a reader says yes to is all that the digest covers."""
    new = Request(changed(*path, to="x" + value if type(value) is str and path not in OTHERS else other(path, value)))

    def readable(one: Request) -> str:
        return one.text().replace(one.digest, "").replace(one.id, "")

    assert readable(new) != readable(REQUEST)


def test_a_request_is_its_own_copy():
    content = copy.deepcopy(CONTENT)
    one = Request(content)
    content["candidates"][0]["rows"] = 1
    assert one.digest == REQUEST.digest
    assert Request(changed("openings", 0, "to", to=("model_owner", "data_owner"))).digest == REQUEST.digest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "mpc_appraisal request 2"),
        (("more",), 1),
        (("methods",), []),
        (("methods",), {}),
        (("methods", 0, "more"), "x"),
        (("model", "classes"), 1),
        (("model", "features"), 64.0),
        (("model", "features"), True),
        (("model", "l2"), -1e-9),
        (("candidates", 0, "rows"), 0),
        (("candidates", 0, "rows"), 2**53 + 1),
        (("candidates", 0, "name"), ""),
        (("candidates", 0, "name"), "x" * 201),
        (("candidates", 0, "name"), "digits-b"),
        (("candidates", 1, "listing", "price"), -1),
        (("release", "kind"), "all of it"),
        (("openings", 0, "to"), []),
        (("openings", 0, "to"), ["press"]),
        (("openings", 0, "numbers"), 0),
        (("openings", 0, "times"), "2"),
        (("privacy",), None),
        (("privacy", "delta"), 1),
        (("privacy", "epsilon"), "0.9"),
        (("privacy", "epsilon"), math.inf),
        (("privacy", "sensitivity"), []),
        (("told", "press"), {}),
        (("told", "data_owner", "row_norm"), math.nan),
        (("told", "data_owner", "row_norm"), "9"),
        (("protocol", "trust"), None),
        (("config",), "0123456789abcdeg"),
        (("config",), "0123456789abcdef\n"),
    ],
)
def test_a_bad_content_is_refused(path, value):
    with pytest.raises(InputError) as caught:
        Request(changed(*path, to=value))
    assert str(caught.value).startswith("request") and "expected" in str(caught.value)


@pytest.mark.parametrize("key", CONTENT)
def test_nothing_may_be_missing(key):
    with pytest.raises(InputError, match=f"no {key}"):
        Request({name: value for name, value in CONTENT.items() if name != key})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "NaN", '{"format": 1, "format": 1}', "[" * 100_000, '{"a": 1e999}', "\ud800"]
)
def test_bad_json_is_refused(text):
    with pytest.raises(InputError):
        Request.from_json(text)


def test_what_may_be_unknown():
    one = Request(changed("model", "train_rows", to=None))
    assert "brings 500 rows of test data" in " ".join(one.text().split())
    exact = Request(changed("release", "kind", to="value") | {"privacy": None})
    assert "epsilon is infinite" in " ".join(exact.text().split())


def test_the_text_tells_what_matters():
    text = " ".join(REQUEST.text().split())
    for words in (
        "digits-a",
        "440 rows",
        "price 100 EUR",
        "Opened to the model owner and the data owner",
        "Numbers opened in all: 2.",
        "epsilon = 0.9 at delta = 1e-06",
        "weight_norm = 1.2",
        "Semi-honest parties.",
    ):
        assert words in text
    assert REQUEST.text().endswith(f"- Digest: {REQUEST.digest}\n")
    assert max(map(len, REQUEST.text().splitlines())) <= 90


ATTACKS = [
    "\n# Heading\n",
    "\r\n- [ ] item",
    "a | b | c",
    "``` fence",
    "~~~",
    "`code`",
    "<script>alert(1)</script>",
    "<!-- hidden",
    "[a](javascript:1) ![b](http://c)",
    "*bold* __bold__ _it_ ~~gone~~ $x$",
    "&lt;&#35;",
    "\\",
    "x" * 84 + " # x",
    "x" * 84 + " ===== - + 1. 1) > :--- ---",
    "===== " * 30,
    "--- " * 30,
    "1. " * 50,
    "1) - + " * 25,
    "| --- " * 30,
    "\\" * 190,
    "#" * 190,
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "\u202e\u2066\u200b\u2028\x85\x0b\x0c",
    '" and nothing else. "',
]


def shape(text: str) -> list[str]:
    """Types of the blocks; each inline part must be text."""
    found = []
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        found.append(f"{token.type} {token.tag} {token.level}")
        inner = {child.type for child in token.children or ()}
        assert inner <= {"text", "softbreak", "text_special"}, inner
    return found


def test_the_reader_of_shapes_sees_structure():
    assert shape("- a\n  # b") != shape("- a\n  b")
    with pytest.raises(AssertionError):
        shape("a `b`")


@pytest.mark.parametrize("attack", ATTACKS)
def test_foreign_texts_stay_text(attack):
    content = copy.deepcopy(CONTENT)
    for path, value in LEAVES:
        if type(value) is str and path not in OTHERS and path != ("candidates", 1, "name"):
            content = _put(content, path, attack)
    content["privacy"]["sensitivity"] = {attack: 0.3, "b": 0.4}
    content["told"]["data_owner"] = {attack: 1.0}
    text = Request(content).text()
    assert all(character == "\n" or character.isprintable() for character in text)
    assert text.count('"') == REQUEST.text().count('"') + _quotes(content)  # a name adds none
    assert shape(text) == shape(REQUEST.text())
    assert text == Request(json.loads(json.dumps(content))).text()


def _quotes(content) -> int:
    """Quotation marks that stand in texts that are not names."""
    fields = [content["methods"][0]["settings"], content["methods"][0]["opens"], content["release"]["words"]]
    fields += [content["openings"][0]["what"], content["openings"][0]["why"], content["privacy"]["mechanism"]]
    fields += [content["privacy"]["protects"], *content["protocol"].values(), *content["told"]["data_owner"]]
    fields += [content["candidates"][1]["listing"][key] for key in ("digest", "commitment", "currency")]
    return sum(field.count('"') for field in fields)


def _put(content, path, value):
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


# Policies


def rules(tmp_path, text: str) -> Rules:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return Rules.read(path)


EXACT = Request(changed("release", "kind", to="value") | {"privacy": None})


@pytest.mark.parametrize(
    ("holds", "breaks", "words"),
    [
        ("methods: [influence, retraining]", "methods: [retraining]", "method: influence; methods has retraining"),
        ("releases: [dp, bit]", "releases: [bit]", "release: dp"),
        ("learners: [model_owner, data_owner]", "learners: [data_owner]", "learner: model_owner"),
        ("minimum_rows: 300", "minimum_rows: 301", "digits-b has 300; minimum_rows is 301"),
        ("maximum_epsilon: 0.9", "maximum_epsilon: 0.8999", "Epsilon of one value: 0.9; maximum_epsilon is 0.8999"),
        ("maximum_delta: 1.0e-6", "maximum_delta: 9.0e-7", "Delta of one value: 1e-06; maximum_delta is 9e-07"),
        ("candidates: [digits-a, digits-b]", "candidates: [digits-a]", "candidate: digits-b"),
        ("counterparties: [acme]", "counterparties: [Acme]", "counterparty: acme"),
        ("transports: [tls]", "transports: [tcp]", "transport: tls"),
        ("engines: [fast]", "engines: [stock]", "engine: fast"),
        ("maximum_openings: 2", "maximum_openings: 1", "Numbers opened in all: 2; maximum_openings is 1"),
        ("expires: 2026-01-01", "expires: 2025-12-31", "held until 2026-01-01T00:00:00"),
        ("expires: 2026-01-01T12:00:01Z", "expires: 2026-01-01T12:00:00Z", "held until 2026-01-01T12:00:00"),
        ("expires: '2026-01-01T13:00:01+01:00'", "expires: '2026-01-01T13:00:00+01:00'", "held until"),
    ],
)
def test_each_rule_both_ways(tmp_path, holds, breaks, words):
    assert rules(tmp_path, holds).broken(REQUEST, "acme", NOON) == []
    (sentence,) = rules(tmp_path, breaks).broken(REQUEST, "acme", NOON)
    assert words in sentence and sentence.endswith((".", "(expires)."))


def test_a_listing_for_every_candidate(tmp_path):
    listed = rules(tmp_path, "listed: true")
    (sentence,) = listed.broken(REQUEST, "acme", NOON)
    assert "digits-a" in sentence and "digits-b" not in sentence
    assert listed.broken(Request(changed("candidates", 0, "listing", to=LISTING)), "acme", NOON) == []


def test_without_noise_no_limit_on_epsilon_or_delta_holds(tmp_path):
    (sentence,) = rules(tmp_path, "maximum_epsilon: 1.0e+300").broken(EXACT, "acme", NOON)
    assert "without noise: inf" in sentence
    (sentence,) = rules(tmp_path, "maximum_delta: 0.999999").broken(EXACT, "acme", NOON)
    assert "without noise: 1" in sentence


def test_all_broken_rules_are_named(tmp_path):
    text = "methods: [retraining]\nengines: [stock]\nminimum_rows: 500\ntransports: [tls]\nexpires: 2020-01-01\n"
    assert len(rules(tmp_path, text).broken(REQUEST, "acme", NOON)) == 4
    escape = Request(changed("candidates", 0, "name", to="\x1b[2J\n"))
    (sentence,) = rules(tmp_path, "candidates: [digits-b]").broken(escape, "acme", NOON)
    assert sentence.isprintable()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing"),
        ("# only a remark", "nothing"),
        ("{}", "nothing"),
        ("[]", "nothing"),
        ("yes", "keys of methods"),
        ("maximum_epsilom: 1", "maximum_epsilom"),
        ("1: 2", "no key but"),
        ("methods:", "policy: methods: got nothing"),
        ("methods: influence", "a list"),
        ("methods: []", "a list"),
        ("methods: [1]", "a list"),
        ("methods: ['']", "a list"),
        ("candidates: [2026-01-01]", "quote"),
        ("releases: [no]", "list of one or more texts"),
        ("learners: [press]", "model_owner"),
        ("minimum_rows: 1.5", "a whole number"),
        ("minimum_rows: true", "a whole number"),
        ("minimum_rows: 0", "1 or more"),
        ("maximum_openings: '3'", "a whole number"),
        ("maximum_epsilon: .nan", "a finite number"),
        ("maximum_epsilon: .inf", "a finite number"),
        ("maximum_epsilon: 0", "above 0"),
        ("maximum_epsilon: true", "a finite number"),
        ("maximum_delta: 1", "below 1"),
        ("listed: false", "true, or no such key"),
        ("listed: 1", "true, or no such key"),
        ("expires: 2026-01-01T12:00:00", "zone"),
        ("expires: 2026-02-30", "policy"),
        ("expires: tomorrow", "a day"),
        ("expires: 20260101", "a day"),
        ("expires: 9999-12-31", "a day"),
        ("engines: [fast]\nengines: [stock]", "stated twice"),
        ("engines: [fast", "YAML"),
        ("engines: !!python/object/apply:os.system [false]", "YAML"),
        ("a: 1\n---\nb: 1", "YAML"),
        ("engines: [fast]\x00", "YAML"),
        ("engines: &a [*a]", "a list"),
    ],
)
def test_a_bad_policy_is_an_error(tmp_path, text, words):
    with pytest.raises(InputError, match=re.escape(words)):
        rules(tmp_path, text)


def test_a_policy_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="a policy file"):
            Rules.read(path)
    (tmp_path / "latin.yaml").write_bytes(b"engines: [\xff]")
    with pytest.raises(InputError, match="YAML"):
        Rules.read(tmp_path / "latin.yaml")
    with pytest.raises(InputError, match="no rule"):
        Rules()
    with pytest.raises(InputError, match="zone"):
        Rules(expires=date(2030, 1, 1)).broken(REQUEST, "acme", datetime(2026, 1, 1))


# The desk


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
    with pytest.raises(InputError, match="folder of a desk"):
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


# Several processes, and dead ones


def forked(target, *arguments):
    process = PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def take_at_once(folder, barrier, locks):
    """Ends with 7 where this process got the yes."""
    queue = RequestQueue(folder)
    if not locks:
        queue._locked = contextlib.nullcontext
    barrier.wait(30)
    os._exit(7 if queue.take(REQUEST, "acme") else 0)


@pytest.mark.parametrize("locks", [True, False])
def test_of_processes_that_race_for_a_yes_one_gets_it(queue, locks):
    for turn in range(1, 21):
        queue.put(REQUEST, "acme")
        queue.say(ID, True)
        barrier = PROCESSES.Barrier(3)
        racers = [forked(take_at_once, queue.folder, barrier, locks) for _ in range(3)]
        for racer in racers:
            racer.join(60)
        assert sorted(racer.exitcode for racer in racers) == [0, 0, 7]
        assert {name for name in names(queue) if "used" in name} == {f"{ID}.used-{k + 1}" for k in range(turn)}


def say_at_once(folder, barrier, yes):
    barrier.wait(30)
    with contextlib.suppress(InputError):
        RequestQueue(folder).say(ID, yes)
        os._exit(7)
    os._exit(0)


def test_of_commands_that_race_one_is_heard(queue):
    for turn in range(10):
        queue.put(REQUEST, "acme")
        barrier = PROCESSES.Barrier(4)
        racers = [forked(say_at_once, queue.folder, barrier, k % 2 == 0) for k in range(4)]
        for racer in racers:
            racer.join(60)
        assert sorted(racer.exitcode for racer in racers) == [0, 0, 0, 7], turn
        said = names(queue) & {f"{ID}.yes", f"{ID}.no"}
        assert len(said) == 1
        os.unlink(queue.folder / said.pop())


def work_forever(folder, report, start):
    """Put, say and take, one request after the other; each is told before it is done."""
    queue = RequestQueue(folder)
    for k in count(start):
        one = numbered(k)
        queue.put(one, "acme")
        if k % 3:
            os.write(report, f"{'yes' if k % 3 == 1 else 'no'} {one.id}\n".encode())
            queue.say(one.id, k % 3 == 1)
        if k % 6 == 1:
            os.write(report, f"take {one.id}\n".encode())
            queue.take(one, "acme")


def test_killed_processes_leave_nothing_that_was_not_said(queue):
    draw = random.Random(7)
    reader, writer = os.pipe()
    end = time.monotonic() + 120
    for k in count():
        worker = forked(work_forever, queue.folder, writer, 6000 * k + draw.randrange(6))
        time.sleep(draw.uniform(0.01, 0.12))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(30)
        enough = queue.folder.is_dir() and len(list(queue.folder.glob("*.json"))) > 60
        if k >= 20 and enough:
            break
        assert time.monotonic() < end
    os.close(writer)
    told = b""
    while piece := os.read(reader, 1 << 16):
        told += piece
    os.close(reader)
    said = {tuple(line.split()) for line in told.decode().splitlines()}
    found = queue.all()
    states = {asked.state for asked in found}
    assert states == {"pending", "yes", "no", "used"}
    for asked in found:
        if asked.state in ("yes", "no"):
            assert (asked.state, asked.id) in said
        if asked.state == "used":
            assert {("yes", asked.id), ("take", asked.id)} <= said
    for asked in found[:40]:
        if ("yes", asked.id) not in said and asked.state == "pending":
            assert queue.take(asked.request, "acme") is None
            queue.say(asked.id, True)
            assert queue.take(asked.request, "acme")


CALLS = ("open", "fsync", "close", "replace", "link", "unlink", "rename")


def killed_at(folder, stop, after, what):
    """Do one thing; at its system call number `stop`, kill -9 before or after it. Ends with 7 where all was done."""
    made = 0

    def counted(real):
        def call(*arguments, **named):
            nonlocal made
            made += 1
            if made != stop:
                return real(*arguments, **named)
            if after:
                with contextlib.suppress(OSError):
                    real(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    queue = RequestQueue(folder)
    {"put": lambda: queue.put(REQUEST, "acme"), "say": lambda: queue.say(ID, True), "take": lambda: take(queue)}[what]()
    os._exit(7)


def take(queue):
    assert queue.take(REQUEST, "acme")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["put", "say", "take"])
def test_a_kill_at_any_system_call(tmp_path, what, after):
    seen = set()
    for stop in count(1):
        queue = RequestQueue(tmp_path / f"desk{stop}")
        if what != "put":
            queue.put(REQUEST, "acme")
        if what == "take":
            queue.say(ID, True)
        worker = forked(killed_at, queue.folder, stop, after, what)
        worker.join(60)
        assert worker.exitcode in (7, -signal.SIGKILL)
        states = [asked.state for asked in queue.all()] if queue.folder.is_dir() else []
        seen.add(tuple(states))
        queue.put(REQUEST, "acme")  # goes on as if nothing had been
        state = queue.read(ID).state
        if what == "put":
            assert states in ([], ["pending"]) and queue.take(REQUEST, "acme") is None
        else:
            assert states in (["pending"], ["yes"], ["used"]) and state in ("pending", "yes")
            granted = sum(queue.take(REQUEST, "acme") is not None for _ in range(3))
            assert granted == (state == "yes")
            if what == "take" and worker.exitcode == 7:
                assert granted == 0  # it was granted there
        if worker.exitcode == 7:
            break
    assert stop > 8
    assert seen >= {"put": {("pending",)}, "say": {("pending",), ("yes",)}, "take": {("yes",), ("used",)}}[what]


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
    assert 0.3 <= time.monotonic() - started < 5
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


# The command


def command(*arguments) -> str:
    out = io.StringIO()
    main(arguments, Console(file=out, width=200))
    return out.getvalue()


def test_the_command(queue, capsys):
    place = f"in={queue.folder}"
    queue.put(REQUEST, "acme\x1b[2J")
    queue.put(numbered(1), "acme")
    table = command("list", place)
    assert "2 requests, 2 pending" in table and "digits-a, digits-b" in table and "\x1b" not in table
    command("show", ID, place)
    shown = capsys.readouterr().out
    assert shown.endswith(REQUEST.text()) and "acme\\x1b[2J" in shown.splitlines()[0]
    command("yes", ID, place)
    line = capsys.readouterr().out
    assert line.startswith(f"approved, for one appraisal: request {ID} ") and line.count("\n") == 1
    assert "influence of digits-a, digits-b, release dp, told to model owner and data owner" in line
    command("no", place, numbered(1).id, "reason=a=b")
    assert capsys.readouterr().out.startswith(f"refused: request {numbered(1).id}")
    assert queue.read(numbered(1).id).reason == "a=b"
    states = {line.split()[0]: line.split()[1] for line in command("list", place).splitlines() if " dp " in line}
    assert states == {ID: "yes", numbered(1).id: "no"}
    assert queue.take(REQUEST, "acme\x1b[2J")
    assert re.search(f"{ID} +used ", command("list", place))


def test_a_damaged_request_is_named_and_the_others_are_listed(queue):
    queue.put(REQUEST, "acme")
    queue.put(numbered(1), "acme")
    (queue.folder / f"{ID}.json").write_text("{")
    out = io.StringIO()
    with pytest.raises(SystemExit) as caught:
        main(["list", f"in={queue.folder}"], Console(file=out, width=200))
    assert caught.value.code == 1
    assert re.search(f"{ID} +damaged", out.getvalue()) and re.search(f"{numbered(1).id} +pending", out.getvalue())
    assert "no readable JSON" in out.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ["maybe"],
        ["\x1b[2J"],
        ["yes"],
        ["yes", ID, ID],
        ["yes", "../x"],
        ["yes", ID, "reason=x"],
        ["yes", ID, "in="],
        ["yes", ID, "in=a", "in=b"],
        ["yes", "f" * 12],
        ["no", ID, "why=x"],
        ["show"],
        ["list", ID],
        ["list", "in=none"],
    ],
)
def test_a_bad_command(queue, arguments, monkeypatch):
    queue.put(REQUEST, "acme")
    monkeypatch.chdir(queue.folder.parent)
    queue.folder.rename("requests")
    with pytest.raises(InputError) as caught:
        command(*arguments)
    assert str(caught.value).isprintable()
    assert [asked.state for asked in RequestQueue().all()] == ["pending"]


def test_help(capsys):
    for arguments in ([], ["--help"], ["yes", "-h"]):
        command(*arguments)
        assert "approval yes ID" in capsys.readouterr().out
