"""A request to count shared items goes through the same queue and rules as one for an appraisal."""

from __future__ import annotations

import copy
from datetime import datetime, timezone

import pytest
from test_request import CONTENT as APPRAISAL

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import ApprovalError, Request, RequestQueue, Rules, decide
from mpc_appraisal.governance.approval.overlap_request import OVERLAP_FORMAT, OverlapRequest, request_of

NOON = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
CONTENT = {
    "format": OVERLAP_FORMAT,
    "compared": {"what": "keys", "column": 'e"mail', "features": None, "columns": None},
    "minimum": 10,
    "structure": "raw",
    "items": {"model_owner": 1000, "data_owner": 500},
    "candidates": [{"name": "seller", "rows": 500, "listing": None}],
    "release": {"kind": "count", "words": "The model owner is shown the count, or that it is below 10."},
    "openings": [
        {"what": "the count", "to": ["model_owner", "data_owner"], "numbers": 1, "why": "asked", "times": 1,
         "method": "overlap"}
    ],
    "privacy": None,
    "protocol": {"engine": "openmined-psi", "transport": "tls", "trust": "The owners follow the protocol."},
    "config": "0123456789abcdef",
}  # fmt: skip
REQUEST = OverlapRequest(CONTENT)


def changed(**changes):
    return copy.deepcopy(CONTENT) | changes


def decided(how, folder, request=REQUEST):
    return decide(request, how, folder, "acme", 0.0, lambda: None, lambda line: None, clock=lambda: NOON)


def test_the_digest_is_that_of_the_first_version():
    assert REQUEST.digest == "27bb57d847921eaef719e1017877914868e9829bf9d9a195ea579c61656dcd30"


def test_the_kind_follows_from_the_format():
    assert type(request_of(CONTENT)) is OverlapRequest and type(request_of(APPRAISAL)) is Request
    with pytest.raises(InputError, match="request.methods"):
        Request(APPRAISAL | {"methods": []})
    with pytest.raises(InputError, match="request"):
        Request(CONTENT)


def test_a_person_says_yes_to_it_in_the_queue(tmp_path):
    queue = RequestQueue(tmp_path, clock=lambda: NOON)
    queue.put(REQUEST, "acme")
    (pending,) = queue.pending()
    assert isinstance(pending.request, OverlapRequest) and pending.request.digest == REQUEST.digest
    assert (tmp_path / f"{REQUEST.id}.md").read_text() == REQUEST.text()
    queue.say(REQUEST.id, True)
    assert decided("ask", tmp_path).how == "command"
    with pytest.raises(ApprovalError, match="no answer"):  # one yes starts one count
        decided("ask", tmp_path)


def test_the_text_shows_every_fact():
    text = " ".join(REQUEST.text().split())
    for words in ("different keys of the column \"e'mail\"", "it has 1000 different keys", "it has 500 different keys",
                  "minimum of 10", "epsilon is infinite", REQUEST.digest, "data structure raw", "Transport: tls",
                  "Opened to the model owner and the data owner: the count"):  # fmt: skip
        assert words in text, words
    rows = {"what": "rows", "column": None, "features": 64, "columns": "position"}
    text = " ".join(OverlapRequest(changed(compared=rows)).text().split())
    assert "recipe" not in text
    digest = "0123456789abcdef" * 4
    by_recipe = OverlapRequest(changed(compared=rows, recipe=digest))
    assert f"read their raw tables by the recipe with SHA-256 {digest}" in " ".join(by_recipe.text().split())
    assert f"{digest}; keys are compared as the files" in " ".join(
        OverlapRequest(changed(recipe=digest)).text().split()
    )
    assert "different rows of 64 features" in text and "compared by position" in text and "label is not" in text


def test_rules_that_do_not_name_the_method_say_no(tmp_path):
    """Rules were written before such requests were known."""
    for text, answer in (
        ("minimum_rows: 100", "No rule names the method overlap"),
        ("methods: [influence]", "Not an allowed method: overlap"),
        ("methods: [overlap]\nminimum_rows: 501", "seller has 500"),
        ("methods: [overlap]\nmaximum_epsilon: 1", "Epsilon of one value, without noise"),
        ("methods: [overlap]\nlisted: true", "Not tied to a listing"),
    ):
        (tmp_path / "rules.yaml").write_text(text + "\n")
        with pytest.raises(ApprovalError, match=answer):
            decided(str(tmp_path / "rules.yaml"), tmp_path)
    (tmp_path / "rules.yaml").write_text("methods: [overlap, influence]\nreleases: [count]\nminimum_rows: 500\n")
    assert decided(str(tmp_path / "rules.yaml"), tmp_path).how == "policy"


def test_rules_for_appraisals_are_as_before():
    assert "No rule names" not in " ".join(Rules(minimum_rows=1).broken(Request(APPRAISAL), "acme", NOON))


def test_a_count_before_an_appraisal_is_asked_for_by_name_and_without_noise():
    """The appraisal of CONTENT has noise, and its count has none: a limit of epsilon stops both."""
    items = {"model_owner": 90, "data_owner": {"a": 120}}
    overlap = CONTENT["compared"] | {"minimum": 10, "structure": "raw", "items": items, "words": "W.", "trust": "T."}
    request = Request(APPRAISAL | {"overlap": overlap})
    assert request.methods == ["influence", "overlap"] and request_of(request.content) == request
    text = " ".join(request.text().split())
    for words in (
        'different keys of the column "e\'mail"',
        "has 90 different keys",
        '120 in "a"',
        "epsilon is infinite",
    ):
        assert words in text, words
    for rules, broken in (
        (Rules(methods=("influence",)), "Not an allowed method: overlap"),
        (Rules(minimum_rows=1), "No rule names the method overlap"),
        (Rules(methods=("influence", "overlap"), maximum_epsilon=100), "Epsilon of one value, without noise: inf"),
    ):
        assert broken in " ".join(rules.broken(request, "acme", NOON))
    assert not Rules(methods=("influence", "overlap")).broken(request, "acme", NOON)
    with pytest.raises(InputError, match="request.overlap.minimum"):
        Request(APPRAISAL | {"overlap": overlap | {"minimum": 0}})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"minimum": 0}, "request.minimum"),
        ({"items": {"model_owner": 1}}, "request.items"),
        ({"compared": {"what": "cells", "column": None, "features": None, "columns": None}}, "request.compared.what"),
        ({"candidates": CONTENT["candidates"] * 2}, "request.candidates"),
        ({"hidden": 1}, "request"),
        ({"privacy": {}}, "request.privacy"),
    ],
)
def test_a_bad_content_is_named(change, named):
    with pytest.raises(InputError) as caught:
        OverlapRequest(changed(**change))
    assert caught.value.name == named
