"""Standing offers: their shape, their signature, and which requests keep their terms."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta, timezone

import pytest
from offers import BUYER, NOON, OTHER_BUYER, OWNER, SETTINGS, STRANGER, TERMS, key_of, offer, request, terms

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.offers.limits import broken_terms
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.words import changed_terms, terms_of
from mpc_appraisal.mpc.net.certificates import make_trial


def test_an_offer_is_read_as_it_was_written(tmp_path):
    made = offer()
    (tmp_path / "standard.json").write_text(made.text())
    assert Offer.read(tmp_path / "standard.json") == made
    assert made.content["key"] == key_of(OWNER) and made.named == {
        "name": "standard", "digest": made.digest, "price": {"amount": 10, "currency": "EUR"}
    }  # fmt: skip
    assert offer().digest == made.digest and offer(terms("answers_per_month", to=3)).digest != made.digest


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("name",), "../a", "offer.content.name"),
        (("methods",), {}, "offer.content.methods"),
        (("methods", "influence", "damping"), {}, "offer.content.methods.influence.damping"),
        (("methods", "influence", "damping"), {"least": 2, "most": 1}, "offer.methods.influence.damping.least"),
        (("methods", "influence", "damping"), {"above": 1}, "offer.content.methods.influence.damping"),
        (("release", "epsilon"), ..., "offer.release.epsilon"),
        (("release", "kind"), "value", "offer.release.epsilon"),
        (("release", "learners"), ["nobody"], "offer.content.release.learners"),
        (("price", "currency"), "euro", "offer.content.price.currency"),
        (("price", "amount"), -1, "offer.content.price.amount"),
        (("answers_per_month",), 0, "offer.content.answers_per_month"),
        (("until",), "2026-02-30", "offer.content.until"),
        (("until",), "9999-12-31", "offer.until"),
        (("purposes",), ["profit"], "offer.content.purposes"),
        (("buyers",), ["acme"], "offer.content.buyers"),
        (("secret",), 1, "offer.content"),
    ],
)
def test_terms_of_another_shape_are_refused_by_name(path, value, named):
    with pytest.raises(InputError, match=f"^{named}[^ ]*: got .*; expected "):
        offer(terms(*path, to=value))


def test_a_changed_term_does_not_fit_the_signature(tmp_path):
    content = json.loads(offer().text())
    for path in (("price", "amount"), ("answers_per_month",), ("release", "epsilon")):
        changed = copy.deepcopy(content)
        place = changed["content"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = 7
        with pytest.raises(InputError, match="^offer.signature: got a signature of other terms"):
            Offer.of(changed)
    other = json.loads(offer(key=STRANGER).text())
    with pytest.raises(InputError, match="^offer.signature.key: got another key"):
        Offer.of({"content": content["content"], "signature": other["signature"]})
    with pytest.raises(InputError, match="^offer.signature: got a signature of other terms"):
        signature = content["signature"] | {"signature": other["signature"]["signature"]}
        Offer.of({"content": content["content"], "signature": signature})
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="^offer: got a.json, which is no JSON"):
        Offer.read(tmp_path / "a.json")


def test_a_certificate_alone_says_who_signed(tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    make_trial(tmp_path / "trial")
    folder = tmp_path / "trial" / "data_owner"
    certificate, other = (
        x509.load_pem_x509_certificate((tmp_path / "trial" / role / f"{role}.pem").read_bytes())
        for role in ("data_owner", "model_owner")
    )
    made = offer(key=serialization.load_pem_private_key((folder / "data_owner.key").read_bytes(), None))
    made.check_certificate(certificate)
    with pytest.raises(InputError, match="^certificate: got one of the key"):
        made.check_certificate(other)


def broken(content: dict = TERMS, settings=SETTINGS, buyer: str | None = BUYER, now=NOON, **changes) -> list[str]:
    made = offer(content)
    return [str(one) for one in broken_terms(made, request(made, **changes), settings, buyer, now)]


def test_a_request_within_the_terms_breaks_none():
    assert broken() == []
    assert broken(terms("buyers", to=...), buyer=OTHER_BUYER) == []
    assert broken(terms("purposes", to=...)) == []


def test_each_term_that_is_not_kept_is_named_with_both_values():
    assert broken(terms("methods", to={"finetuning": {}})) == ["methods: got influence; expected one of finetuning"]
    assert broken(settings={"influence": {"damping": 0.7, "metric": "log_loss"}}) == [
        "methods.influence.damping: got 0.7; expected from 0 to 0.5"
    ]
    assert broken(settings={"influence": {"damping": True, "metric": "f1"}}) == [
        "methods.influence.damping: got True; expected from 0 to 0.5",
        "methods.influence.metric: got f1; expected one of log_loss, accuracy",
    ]
    assert broken(settings={}) == [
        "methods.influence.damping: got no such setting; expected from 0 to 0.5",
        "methods.influence.metric: got no such setting; expected one of log_loss, accuracy",
    ]
    assert broken(terms("release", "epsilon", to=0.5)) == ["epsilon: got 0.9; expected at most 0.5"]
    assert broken(terms("release", "delta", to=1e-7)) == ["delta: got 1e-06; expected at most 1e-07"]
    assert broken(release={"kind": "value", "words": "exact"}, privacy=None) == [
        "release: got value; expected dp",
        "epsilon: got no noise; expected at most 1",
        "delta: got no noise; expected at most 1e-06",
    ]
    assert broken(terms("release", "learners", to=["model_owner"])) == [
        "learners: got data_owner; expected model_owner alone"
    ]
    assert broken(purpose={"kind": "audit", "text": ""}) == ["purpose: got audit; expected one of purchase, research"]
    assert broken(terms("integrity", to="on")) == ["integrity: got off; expected on"]
    assert broken(buyer=OTHER_BUYER) == [
        f"buyer: got the certificate key with SHA-256 {OTHER_BUYER}; expected one of those that the offer names"
    ]
    assert broken(terms("buyers", to=...), buyer=None) == [
        "buyer: got no certificate; expected a certificate, which the transport tls shows"
    ]
    (sentence,) = broken(offer={"name": "standard", "digest": "a" * 64, "price": {"amount": 1, "currency": "EUR"}})
    assert sentence == "price: got 1 EUR for one answer; expected 10 EUR for one answer"


def test_an_offer_is_of_one_listed_data_set():
    one = {"name": "digits-b", "rows": 300, "listing": None}
    assert broken(candidates=[one]) == [
        "data.listing: got none; expected digits-b",
        f"data.commitment: got none; expected {'b' * 64}",
    ]
    assert broken(terms("data", "commitment", to="e" * 64)) == [f"data.commitment: got {'b' * 64}; expected {'e' * 64}"]
    assert broken(candidates=[one, one | {"name": "more"}]) == ["data: got 2 candidates; expected one, digits-b"]


def test_a_count_of_shared_items_has_to_be_offered_by_name():
    made = offer()
    found = broken_terms(made, WithCount(request(made)), SETTINGS, BUYER, NOON)
    assert [str(one) for one in found][0] == "methods: got overlap; expected one of influence"
    made = offer(terms("methods", "overlap", to={}))
    assert not any(one.term == "methods" for one in broken_terms(made, WithCount(request(made)), SETTINGS, BUYER, NOON))


class WithCount:
    """A request with a count of shared items before it, as `Request.methods` names it."""

    def __init__(self, asked):
        self.asked, self.methods = asked, [*asked.methods, "overlap"]

    def __getattr__(self, name):
        return getattr(self.asked, name)


def test_the_last_day_is_one_of_utc():
    last = datetime(2026, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert broken(now=last) == []
    (sentence,) = broken(now=last + timedelta(seconds=1))
    assert sentence == "until: got 2027-01-01T00:00:00+00:00; expected a time before 2027-01-01T00:00:00+00:00"
    east = timezone(timedelta(hours=9))
    assert broken(now=datetime(2027, 1, 1, 8, 59, tzinfo=east)) == []  # in Tokyo the year is over, in UTC it is not
    assert len(broken(now=datetime(2027, 1, 1, 9, 0, tzinfo=east))) == 1
    with pytest.raises(InputError, match="^clock: got"):
        broken(now=datetime(2026, 1, 1))


def test_two_versions_differ_in_the_terms_that_were_changed():
    old, new = offer(), offer(terms("price", "amount", to=12))
    assert changed_terms(old, new) == [("price", "10 EUR for one answer", "12 EUR for one answer")]
    assert changed_terms(old, offer(terms("made", to="2026-01-02T00:00:00+00:00"))) == []
    for path, value in {
        ("until",): "2027-01-01",
        ("buyers",): ...,
        ("purposes",): ...,
        ("text",): "Ask first.",
    }.items():
        assert len(changed_terms(old, offer(terms(*path, to=value)))) == 1
    assert set(terms_of(old)) == {
        "data", "methods", "release", "learners", "price", "answers a month", "until", "purposes", "buyers", "integrity"
    }  # fmt: skip
