"""The purpose of a request: its words, its sentence in the request's text, and the rule that limits it."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from test_request import CONTENT

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.purpose import PURPOSES, Purpose
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.approval.rules import Rules

NOW = datetime(2026, 1, 31, tzinfo=timezone.utc)


def content() -> dict:
    return {key: value for key, value in CONTENT.items() if key != "purpose"}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, None),
        ("purchase", Purpose("purchase")),
        ("purchase: a supplier for 2027", Purpose("purchase", "a supplier for 2027")),
        (" research :  of: colons ", Purpose("research", "of: colons")),
        ("other: a joke", Purpose("other", "a joke")),
    ],
)
def test_a_purpose_is_a_word_and_perhaps_words_of_its_own(stated, expected):
    assert Purpose.of(stated) == expected


@pytest.mark.parametrize("stated", ["", "profit", "other", "other:", 5, "Purchase", "purchase:" + "x" * 301])
def test_what_is_no_purpose_is_refused_by_name(stated):
    with pytest.raises(InputError, match="^party.purpose: got .*; expected "):
        Purpose.of(stated)


@pytest.mark.parametrize("kind", PURPOSES)
def test_the_request_states_it_and_its_digest_depends_on_it(kind):
    purpose = Purpose(kind, "for *us* alone")
    request = Request(content() | {"purpose": purpose.as_dict()})
    text = " ".join(request.text().replace("\\", "").split())
    assert f"The model owner states as its purpose: {PURPOSES[kind]} ({kind})." in text and "for *us* alone" in text
    assert request.digest != Request(content()).digest and "purpose:" not in Request(content()).text()


def test_a_request_with_another_word_is_refused():
    with pytest.raises(InputError, match="request.purpose.kind"):
        Request(content() | {"purpose": {"kind": "profit", "text": ""}})


def test_the_rule_lets_its_purposes_pass_and_no_others():
    rules = Rules(purposes=["purchase", "audit"])
    asked = [Request(content() | {"purpose": {"kind": kind, "text": "x"}}) for kind in ("audit", "research")]
    assert rules.broken(asked[0], "acme", NOW) == []
    (sentence,) = rules.broken(asked[1], "acme", NOW)
    assert sentence == "Not an allowed purpose: research; purposes has purchase, audit."
    (sentence,) = rules.broken(Request(content()), "acme", NOW)
    assert sentence == "Not an allowed purpose: none is stated; purposes has purchase, audit."
    with pytest.raises(InputError, match="policy: purposes"):
        Rules(purposes=["profit"])
