"""The desk's pages on answers, cards, listings and candidates."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from desk import MARKUP, browser, guard, ledger, outside, places, places_in, run  # noqa: F401  fixtures
from full_record import FULL, LISTING

from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.reporting.advice import Advice, Recommendation

VALUE = {**FULL.release, "kind": "value", "low": None, "high": None, "epsilon": None, "sigma": None, "delta": None}
VALUE |= {"sensitivity": None, "deviation": None, "protects": None}


def record(candidate: str, value: float | None, **other):
    """A record of a model owner with an exact value."""
    facts = {"candidate": candidate, "value": value, "paper_value": value, "release": VALUE, "listing": None}
    return replace(FULL, **(facts | {"plaintext_value": None, "difference": None} | other))


@pytest.fixture
def get(browser):
    """Returns what a browser that was let in is answered."""
    return browser.get


def links(page: str) -> dict[str, str]:
    """The addresses of the links in tables, by their words."""
    found = re.findall(r'<td[^>]*><a href="([^"]*)">([^<]*)</a>', page)
    return {html.unescape(words): html.unescape(address) for address, words in found}


def test_a_data_owner_sees_its_answers_and_their_cards(get, places):
    run(places, "seller/1", [record("digits-a", 0.125, role="data_owner")])
    run(places, "buyer", [record("another", 0.25)])
    page = get("/answers").text
    assert "0.1250" in page and "request 7" in page and "acme" in page and "another" not in page
    card = get(links(page)["digits-a"])
    assert card.status_code == 200 and "Appraisal card: digits-a" in card.text
    policy = card.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy.split("; ") and "script-src" not in policy
    assert card.headers["X-Frame-Options"] == "DENY" and card.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "query",
    [
        "run=..&name=card-a.html",
        "run=/etc&name=card-a.html",
        "run=seller/../..&name=card-a.html",
        "run=seller&name=../card-a.html",
        "run=seller&name=records.jsonl",
        "run=seller&name=card-link.html",
        "run=seller&name=card-none.html",
        "run=%00&name=card-a.html",
        "run=" + "x" * 5000 + "&name=card-a.html",
        "",
    ],
)
def test_a_card_outside_the_runs_is_no_card(get, places, tmp_path, query):
    folder = run(places, "seller", [record("a", 0.5, role="data_owner")])
    assert get("/card?run=seller&name=card-a.html").status_code == 200
    secret = tmp_path / "card-a.html"
    secret.write_text("a secret")
    (folder / "card-link.html").symlink_to(secret)
    answer = get(f"/card?{query}")
    assert answer.status_code == 400 and "a secret" not in answer.text


def test_records_that_a_link_leads_to_are_left_out(get, places, tmp_path):
    elsewhere = run(places_in(tmp_path / "other"), "seller", [record("foreign", 0.5, role="data_owner")])
    (places.runs / "linked").mkdir()
    (places.runs / "linked" / "records.jsonl").symlink_to(elsewhere / "records.jsonl")
    assert "foreign" not in get("/answers").text
    (elsewhere / "records.jsonl").write_text('{"method": "another secret"}\n')
    assert "secret" not in get("/answers").text and "linked" not in get("/answers").text


def test_a_damaged_run_stands_beside_the_others(get, places):
    bad = run(places, "bad", [record("a", 0.5, role="data_owner")])
    (bad / "records.jsonl").write_text('{"method": 1\n')
    run(places, "good", [record("b", 0.25, role="data_owner")])
    for path in ("/answers", "/candidates"):
        page = get(path).text
        assert 'role="alert"' in page and "bad: damaged records" in page
    assert "0.2500" in get("/answers").text


def test_candidates_are_compared_by_value_verdict_and_price(get, places):
    ledger(places, "unrelated")
    records = [
        record("cheap", 0.5, listing=LISTING | {"name": "cheap", "price": 10}, n=100),
        record("best", 2.0, listing=LISTING | {"name": "best", "price": 500}, n=300),
        record("unpriced", -1.0, n=200),
    ]
    words = {"cheap": "buy", "best": "undecided", "unpriced": "do not buy"}
    verdicts = {("influence", name): Recommendation(word, 0.1, f"{word}.") for name, word in words.items()}
    run(places, "buyer", records, Advice(verdicts, {"influence": "trusted"}))
    run(places, "other", [replace(records[0], method="gradient_norm", candidate="cheap")])
    orders = {
        "": ["best", "cheap", "unpriced"],
        "?sort=price": ["cheap", "best", "unpriced"],
        "?sort=rows": ["best", "unpriced", "cheap"],
        "?sort=verdict": ["cheap", "best", "unpriced"],
    }
    for query, order in orders.items():
        page = get(f"/candidates{query}").text
        first = page[page.index(">influence<") : page.index(">gradient_norm<")]
        assert list(links(first)) == order
        for name in order:
            row = re.search(f">{name}</a>.*", first)[0]
            assert f'data-label="verdict">{words[name]}<' in row
    assert 'data-label="price">10 EUR<' in page and 'data-label="price">500 EUR<' in page
    assert get("/candidates?sort=secret").status_code == 400


def test_a_price_is_that_of_the_catalogue_where_the_appraisal_had_no_listing(get, places, tmp_path):
    data = tmp_path / "rows.csv"
    data.write_text("a,label\n" + "".join(f"{k}.5,{k % 2}\n" for k in range(10)))
    words = [f"data={data}", "name=digits-a", "price=75", "currency=USD", f"out={places.catalogue}", f"title={MARKUP}"]
    catalogue(["publish", *words])
    run(places, "buyer", [record("digits-a", 0.5), record("digits-b", 0.25)])
    page = get("/candidates").text
    assert page.count("75 USD") == 1 and "75 USD" in re.search(">digits-a</a>.*", page)[0]
    page = get("/listings").text
    assert "75 USD" in page and "<img" not in page and "&lt;img" in page
    listing = get(links(page)["digits-a"]).text
    stated = json.loads((places.catalogue / "digits-a.json").read_text())
    assert re.search(r"commitment</dt><dd>[0-9a-f]{64}<", listing)[0].split(">")[2][:64] in json.dumps(stated)
    assert "<img" not in listing and "&lt;img" in listing


@pytest.mark.parametrize("name", ["none", "..", "..%2fx", "A", "a" * 70])
def test_a_listing_that_is_none_is_an_error(get, name):
    assert get(f"/listings/{name}").status_code in (400, 404)


def test_a_bad_listing_stands_beside_the_others(get, places, tmp_path):
    (places.catalogue / "bad.json").write_text("{")
    (tmp_path / "out.json").write_text("{}")
    (places.catalogue / "linked.json").symlink_to(tmp_path / "out.json")
    page = get("/listings").text
    assert page.count('role="alert"') == 1 and "bad" in page and "linked" not in page
    assert get("/listings/bad").status_code == 400 and get("/listings/linked").status_code == 400


def test_names_of_candidates_are_escaped(get, places):
    run(places, "buyer", [record(MARKUP.replace("/", ""), 0.5)])
    run(places, "seller", [record(MARKUP.replace("/", ""), 0.5, role="data_owner")])
    for path in ("/candidates", "/answers"):
        page = get(path).text
        assert "<img" not in page and "&lt;img" in page
        assert get(links(page)[MARKUP]).status_code == 200


def test_pages_without_anything_say_so(get, places):
    for folder in (places.requests, places.ledgers, places.runs, places.catalogue):
        folder.rmdir()
    for path, words in (("/answers", "no answer"), ("/listings", "no listing"), ("/candidates", "no answer")):
        assert words in get(path).text
