"""Prices, who is charged, cost, and what a request may say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from processes import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from test_deal_edges import L2, OTHER, SELLER, VALUE, Deal, R

from mpc_appraisal.appraisal import cost, party
from mpc_appraisal.appraisal.agreement import make_request, rounded_up
from mpc_appraisal.cli.app import main
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.governance.approval.decide import RequestQueue
from mpc_appraisal.governance.budget.hash_chain import bad_line
from mpc_appraisal.governance.catalogue import read_listing
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.release import (
    Best,
    Bit,
    NoisedRelease,
    Value,
)

# ---- prices


def listing(name: str, price: float | None, currency: str | None) -> Any:
    return SimpleNamespace(
        name=name, file_digest=name * 8, digest=name * 8, terms=SimpleNamespace(price=price, currency=currency)
    )


def test_prices_in_two_currencies_are_no_budget(tmp_path):
    sets = tuple(SELLER.renamed(name) for name in ("dear", "cheap"))
    listings = (listing("dear", 250, "EUR"), listing("cheap", 100, "USD"))
    shown = []
    deal = Deal(tmp_path, Best(1, budget=300), candidates=sets, listings=listings, controls={"show": shown.append})
    found, _ = deal.play()
    for role in ROLES:
        assert isinstance(found[role], InputError) and found[role].name == "release.budget", found
        assert found[role].value == "prices in EUR, USD"
    assert not shown and set(deal.counts().values()) == {(0, 0)}
    stated = Best(1, budget=300, prices={"dear": 250, "cheap": 100})  # of which listings say nothing
    known = {each.name: {"price": each.terms.price, "currency": each.terms.currency} for each in listings}
    for release in (stated, Best(1)):
        assert party._fitted(replace(deal.plan(), release=release), list(known), known) is release
    same = {name: one | {"currency": "EUR"} for name, one in known.items()}
    assert party._fitted(deal.plan(), list(known), same).prices == {"dear": 250, "cheap": 100}


def test_prices_stand_in_the_words_of_the_request(tmp_path):
    prices = {"dear": 12345678.25, "cheap": 0.1}
    sets = tuple(SELLER.renamed(name) for name in prices)
    deal = Deal(tmp_path, Best(1, budget=12345678.75, prices=prices), candidates=sets)
    facts, published = deal.published()
    request = make_request(deal.plan(), facts, published, dict.fromkeys(facts))
    text = " ".join(request.text().split())
    assert "that 12345678.75 can pay at their prices (dear: 12345678.25, cheap: 0.1)" in text
    other = replace(deal.release, prices=prices | {"cheap": 0.2})
    assert make_request(deal.plan(release=other), facts, published, dict.fromkeys(facts)).digest != request.digest


# ---- who is charged


TUNING = (Finetuning(steps=2),)


@pytest.mark.parametrize(
    ("methods", "release", "charged"),
    [
        ((Influence(),), Value(MODEL_OWNER), {DATA_OWNER}),
        ((Influence(),), Value(DATA_OWNER), {MODEL_OWNER}),
        (TUNING, Value(MODEL_OWNER), set(OWNERS)),
        (TUNING, Value(DATA_OWNER), set(OWNERS)),
        (TUNING, Bit(MODEL_OWNER), set(OWNERS)),
        (TUNING, NoisedRelease(row_norm=R, ceiling=1.0, to=MODEL_OWNER), {DATA_OWNER}),  # opens no such bit
    ],
)
def test_the_bit_on_the_bound_is_charged_to_both(tmp_path, methods, release, charged):
    deal = Deal(tmp_path, release, methods)
    agreed = deal.agree()
    assert {role for role in OWNERS if agreed[role].granted} == charged, agreed
    counts = {DATA_OWNER: deal.counts()["seller"][0], MODEL_OWNER: deal.counts()["model"][0]}
    assert counts == {role: int(role in charged) for role in OWNERS}
    published = {role for opening in agreed[DATA_OWNER].openings for role in opening.to}
    assert {MODEL_OWNER: DATA_OWNER, DATA_OWNER: MODEL_OWNER}.keys() - published <= charged


# ---- cost


def test_the_cost_of_all_methods_with_noise(monkeypatch, capsys):
    stated = "cost rows=500 features=20 appraisal=all release=dp release.row_norm=5 release.ceiling=1"
    monkeypatch.setattr("sys.argv", ["mpc-appraisal", *stated.split()])
    main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    for method in ("gradient_norm", "finetuning", "influence"):
        (row,) = [row for row in rows if row[:1] == [method]]
        assert int(row[1].replace(",", "")) > 0
    facts = Facts(20, 10, 600, 10_000, 500, L2)
    plain, noised = (
        cost.estimate([Influence()], facts, 2, 10.0, r) for r in (VALUE, NoisedRelease(row_norm=5, ceiling=1.0))
    )
    assert noised.rounds > plain.rounds


# ---- what may be told


@pytest.mark.parametrize(
    "name",
    [
        "party.data (a)",
        "party.data (Digits-2026.v1)",
        "budget.plain_values",
        "the bound on logits",
        "release",
        "release.prices.cheap",
        "classes",
        "ledger",
        "listing sales-2026: commitment.digest",
        "session.logit_bound",
        "the question of influence (seller)",
    ],
)
def test_keys_and_plain_words_are_told(name):
    error = InputError(name, "secret-value", "something")
    assert error.public == f"bad input in {name}" and "secret" not in error.public


@pytest.mark.parametrize(
    "error",
    [
        bad_line(Path("/home/jo/seller.csv.ledger"), 3, "epsilon 3", "at most 1"),
        InputError("/home/jo/seller.csv", 1, "2"),
        InputError("seller.json", 1, "2"),
        InputError("seller.csv.ledger", 1, "2"),
        InputError("seller.json: terms.price", 1, "2"),
        InputError("Seller.csv", 1, "2"),
        InputError("model.json", 1, "2"),
        InputError("listing x.json: terms", 1, "2"),
    ],
    ids=lambda error: error.name,
)
def test_the_name_of_a_file_is_not(error):
    assert error.public == "bad input, which its own error names"


@pytest.mark.parametrize("content", ["no listing", "{}", "[" * 100_000, "{"], ids=["text", "empty", "deep", "cut"])
def test_the_name_of_a_damaged_listing_stays_with_its_owner(tmp_path, content):
    (tmp_path / "seller.json").write_text(content)
    with pytest.raises(InputError, match="seller.json") as error:
        read_listing(tmp_path / "seller.json")
    assert "seller" not in error.value.public


def test_a_damaged_ledger_tells_the_others_nothing_of_its_name(tmp_path):
    deal = Deal(tmp_path, controls={"approval": "ask", "requests": str(tmp_path / "desk"), "patience": 60.0})

    def spoil():
        (tmp_path / "seller.ledger").write_text('{"kind": "open"}\n')

    before = {DATA_OWNER: {"request": spoil}}
    found = deal.agree(before)
    assert "seller.ledger" in str(found[DATA_OWNER]), found
    for role in (MODEL_OWNER, DEALER):
        assert "seller" not in str(found[role]) and "bad input" in str(found[role])
    assert not RequestQueue(tmp_path / "desk").folder.exists()


# ---- numbers in a request


@pytest.mark.parametrize("sign", range(-12, 13, 3))
def test_numbers_are_rounded_up_to_four_digits(sign):
    for number in (1.0, 1.0004, 1.23449, 9.9991, 9.9999999, 3.0000000001, math.pi, 5.555):
        number *= 10.0**sign
        found = rounded_up(number)
        assert float(f"{found:.4g}") == found  # at most four digits
        assert number * (1 - 1e-15) <= found <= number * (1 + 1.1e-3)
    assert rounded_up(0.0) == 0.0


@pytest.mark.parametrize("methods", [(Influence(),), (GradientNorm(),), (Influence(), GradientNorm())])
def test_epsilon_and_sensitivities_in_a_request_have_four_digits(tmp_path, methods):
    release = NoisedRelease(epsilon=0.7654321, row_norm=R)
    deal = Deal(tmp_path, release, methods, candidates=(SELLER, OTHER))
    facts, published = deal.published()
    privacy = make_request(deal.plan(), facts, published, dict.fromkeys(facts)).content["privacy"]
    exact = {(m.name, name): release.privacy(m, f) for m in methods for name, f in facts.items()}
    worst = max(each.epsilon for each in exact.values())
    numbers = [(privacy["epsilon"], worst)]
    numbers += [(privacy["sensitivity"][", ".join(key)], each.sensitivity) for key, each in exact.items()]
    for stated, number in numbers:
        assert float(f"{stated:.4g}") == stated and number <= stated < number * 1.001
    assert any(stated != number for stated, number in numbers)
