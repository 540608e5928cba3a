"""Rules of approval: what they accept, refuse and ask about, and files that are no rules."""

from __future__ import annotations

import re
from datetime import date, datetime

import pytest
from test_request import LISTING, NOON, REQUEST, changed

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.approval.decide import Request, Rules

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
