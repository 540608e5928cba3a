"""Requests: their digest, and their text, in which nothing that a party writes can pass for a sentence of ours."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import multiprocessing
import os
from datetime import datetime, timezone

import pytest
from markdown_it import MarkdownIt

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import Request, RequestQueue

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
    "purpose": {"kind": "purchase", "text": "a supplier for 2027"},
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
    ("purpose", "kind"): "audit",
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


@pytest.mark.parametrize("key", [key for key in CONTENT if key != "purpose"])
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
