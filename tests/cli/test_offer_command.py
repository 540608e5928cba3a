"""The command mpc-appraisal offer, the site and the desk: what they make, show and refuse."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from desk import OWN, browser, guard, outside, places  # noqa: F401  fixtures
from rich.console import Console

from mpc_appraisal.cli.commands import COMMANDS
from mpc_appraisal.cli.commands.offer import main
from mpc_appraisal.cli.front import CONF
from mpc_appraisal.cli.safeguards import offers_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.offers.book import OfferBook
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import Taken
from mpc_appraisal.mpc.net.certificates import key_digest

NOW = datetime.now(timezone.utc)


def command(*arguments: str) -> str:
    out = io.StringIO()
    main(arguments, Console(file=out, width=300))
    return out.getvalue()


@pytest.fixture
def owner(tmp_path, monkeypatch):
    """The current folder of a data owner with a listing and certificates."""
    folder = tmp_path / "owner"
    folder.mkdir()
    monkeypatch.chdir(folder)
    rows = "".join(f"{k}.5,{k % 7},{k % 2}\n" for k in range(40))
    (folder / "seller.csv").write_text(f"a,b,label\n{rows}")
    COMMANDS["catalogue"](["publish", "data=seller.csv", "name=digits", "price=100", "currency=EUR"])
    COMMANDS["certificates"](["trial"])
    return folder


TERMS = {
    "name": "standard",
    "listing": "catalogue/digits.json",
    "methods": "influence,gradient_norm",
    "release": "dp",
    "epsilon": "0.5",
    "delta": "1e-6",
    "answers_per_month": "3",
    "until": "2999-12-31",
    "tls": "trial",
}


def make(*more: str, **changes: str | None) -> str:
    stated = {key: value for key, value in (TERMS | changes).items() if value is not None}
    return command("make", *(f"{key}={value}" for key, value in stated.items()), *more)


def test_an_offer_is_made_checked_changed_and_withdrawn(owner, capsys):
    buyer = "trial/model_owner/model_owner.pem"
    terms = {"price": "10", "purposes": "purchase,audit", "buyers": f"{buyer},{'AB' * 32}", "learners": "model_owner"}
    terms |= {"integrity": "on", "text": "Pay within\x1b a month."}
    make("influence.damping=0..1", "influence.metric=log_loss,accuracy", **terms)
    assert re.search(r"^offer: offers/standard.json \(SHA-256 [0-9a-f]{64}\)$", capsys.readouterr().out, re.MULTILINE)
    offer = Offer.read("offers/standard.json")
    listing = json.loads((owner / "catalogue" / "digits.json").read_text())
    from cryptography import x509

    key = key_digest(x509.load_pem_x509_certificate((owner / buyer).read_bytes()))
    found = {k: v for k, v in offer.content.items() if k not in ("made", "key", "format")}
    assert found.pop("data")["commitment"] in json.dumps(listing)
    assert found == {
        "name": "standard",
        "methods": {
            "influence": {"damping": {"least": 0.0, "most": 1.0}, "metric": {"one_of": ["log_loss", "accuracy"]}},
            "gradient_norm": {},
        },
        "release": {"kind": "dp", "learners": ["model_owner"], "epsilon": 0.5, "delta": 1e-6},
        "answers_per_month": 3,
        "until": "2999-12-31",
        "price": {"amount": 10.0, "currency": "EUR"},
        "purposes": ["purchase", "audit"],
        "buyers": [key, "ab" * 32],
        "integrity": "on",
        "text": "Pay within\x1b a month.",
    }
    checked = command("check", "offers/standard.json", "certificate=trial/data_owner/data_owner.pem")
    assert "not expired" in checked and offer.digest in checked and "Pay within\\x1b a month." in checked
    with pytest.raises(InputError, match="^certificate: got one of the key"):
        command("check", "offers/standard.json", f"certificate={buyer}")
    capsys.readouterr()
    make("influence.damping=0..1", price="12", replace="yes")
    out = capsys.readouterr().out
    assert "changed price: 10 EUR for one answer before; 12 EUR for one answer now" in out and "changed buyers" in out
    assert re.search("standard +in force .* 3 +3 ", command("list"))
    command("withdraw", "standard")
    assert re.search("standard +withdrawn .*– +3 ", command("list"))
    assert "withdrawn since" in command("show", "standard")


def test_answers_are_counted_in_the_folder_of_the_ledgers(owner, capsys):
    make()
    offer = Offer.read("offers/standard.json")
    (owner / "books").mkdir()
    Taken(owner / "books" / "offers.taken").take("standard", offer.digest, "a" * 64, None, 2, 3, NOW)
    assert re.search("standard +in force .* 1 +3 ", command("list", "ledgers=books"))
    assert re.search("left this month +1 ", command("show", "standard", "ledgers=books"))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "../a"}, "^offer.content.name: got"),
        ({"name": None}, "^offer make: name: got None"),
        ({"listing": "none.json"}, "none.json"),
        ({"methods": "influense"}, "^methods: got 'influense'"),
        ({"methods": "influence,"}, "^methods: got influence,"),
        ({"release": "sale"}, "^release: got 'sale'"),
        ({"release": "value"}, "^epsilon: got 0.5; expected a number for release=dp"),
        ({"epsilon": None}, "^epsilon: got None"),
        ({"delta": "2"}, "^offer.content.release.delta: got 2.0"),
        ({"answers_per_month": "0"}, "^offer.content.answers_per_month: got 0"),
        ({"answers_per_month": "many"}, "^answers_per_month: got 'many'"),
        ({"until": "2027-02-30"}, "^until: got 2027-02-30"),
        ({"until": f"{NOW.date() - timedelta(days=2)}"}, r"^until: got .*; expected .* \(UTC\), or a later day"),
        ({"price": "ten"}, "^price: got 'ten'"),
        ({"price": "1", "currency": "euro"}, "^offer.content.price.currency: got 'euro'"),
        ({"currency": "EUR"}, "^currency: got EUR; expected price= beside it"),
        ({"purposes": "profit"}, "^offer.content.purposes"),
        ({"buyers": "acme"}, "^buyers: got acme; expected a certificate"),
        ({"learners": "dealer"}, "^learners: got 'dealer'"),
        ({"integrity": "off"}, "^integrity: got 'off'"),
        ({"replace": "maybe"}, "^replace: got 'maybe'"),
        ({"tls": "nowhere"}, "^session.tls: got"),
        ({"influence.dampin": "1"}, "^influence.dampin: got 1; expected a setting of influence: metric, damping$"),
        (
            {"gradient_norm.metric": "1"},
            "^gradient_norm.metric: got 1; expected a setting of gradient_norm: it has none",
        ),
        ({"influence.damping": ".."}, r"^influence.damping: got ..; expected A..B"),
        ({"influence.damping": "2..1"}, "^offer.methods.influence.damping.least: got 2.0; expected at most 1"),
        (
            {"relevance.k": "1"},
            "^relevance.k: got 1; expected a setting of one of the methods influence, gradient_norm",
        ),
        ({"colour": "red"}, "^offer make: got colour=red; expected KEY=VALUE"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_terms_are_refused_by_name_and_write_nothing(owner, changes, match):
    with pytest.raises(InputError, match=match):
        make(**changes)
    assert not (owner / "offers").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["sell"], "^offer: got sell; expected one of make, list, show, withdraw, check"),
        (["list"], "^in: got offers; expected the folder of offers"),
        (["list", "more"], "^offer list: got more"),
        (["show"], "^offer show: got nothing; expected NAME in=... ledgers=..."),
        (["show", "none"], "^offer: got none; expected the name of an offer in offers"),
        (["withdraw", "../a"], "^offer: got '../a'; expected a name"),
        (["check", "none.json", "certificate=a"], "^FILE: got none.json"),
        (["check", "catalogue/digits.json"], "^certificate: got None"),
        (
            ["check", "catalogue/digits.json", "certificate=a"],
            "^FILE: got .*; expected no field but content",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_refused(owner, arguments, match):
    with pytest.raises(InputError, match=match):
        command(*arguments)


def test_a_damaged_offer_is_named_and_the_others_are_listed(owner):
    make()
    (owner / "offers" / "bad.json").write_text("{")
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        main(["list"], Console(file=out, width=300))
    assert ended.value.code == 1
    assert re.search("bad +damaged", out.getvalue()) and "standard  in force" in out.getvalue()
    assert "bad: offer bad: got bad.json, which is no JSON" in out.getvalue()


def test_offers_need_a_ledger_and_a_folder(owner):
    import yaml

    party = yaml.safe_load((CONF / "config.yaml").read_text())["party"]
    made = {"seller": "seller.csv"}
    assert offers_of(party, owner.joinpath, made) is None
    with pytest.raises(InputError, match="^party.offers: got offers; expected a folder of offers"):
        offers_of(party | {"offers": "offers"}, owner.joinpath, made)
    make()
    with pytest.raises(InputError, match="^party.ledger: got none; expected a ledger beside party.offers"):
        offers_of(party | {"offers": "offers", "ledger": "none"}, owner.joinpath, made)
    found = offers_of(party | {"offers": "offers", "ledger": "books/a.ledger"}, owner.joinpath, made)
    assert found.taken == {"seller": owner / "books" / "offers.taken"}


def test_the_site_shows_the_offers_in_force_on_the_page_of_their_listing(owner, capsys):
    make("influence.damping=0..1", price="10", buyers="ab" * 32, text="<script>alert(1)</script>")
    make(name="gone")
    command("withdraw", "gone")
    COMMANDS["catalogue"](["publish", "data=seller.csv", "name=other"])
    COMMANDS["catalogue"](["site", "out", "offers=offers", "publisher=Me"])
    page, other = ((owner / "out" / "listings" / f"{name}.html").read_text() for name in ("digits", "other"))
    offer = Offer.read("offers/standard.json")
    assert "Standing offers" in page and offer.digest in page and "10 EUR for one answer" in page
    assert "1 that the offer names by their keys" in page and "ab" * 32 not in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and 'href="../offers/standard.json"' in page
    assert "Standing offers" not in other and "gone" not in page
    assert "1 standing offer" in (owner / "out" / "index.html").read_text()
    assert Offer.read("out/offers/standard.json") == offer
    assert [path.name for path in (owner / "out" / "offers").iterdir()] == ["standard.json"]
    command("withdraw", "standard")
    COMMANDS["catalogue"](["site", "out", "offers=offers", "publisher=Me"])
    assert not list((owner / "out" / "offers").iterdir())
    (owner / "offers" / "bad.json").write_text("{")
    with pytest.raises(SystemExit):
        COMMANDS["catalogue"](["site", "out", "offers=offers", "publisher=Me"])
    assert "offer bad: " in capsys.readouterr().err
    with pytest.raises(InputError, match="^offers: got none; expected the folder of offers"):
        COMMANDS["catalogue"](["site", "out", "offers=none"])


def test_the_desk_lists_offers_with_what_is_left_of_them(owner, browser, places):  # noqa: F811
    assert "There is no standing offer" in browser.get("/offers", base_url=OWN).text
    make(f"in={places.offers}", text="<img src=x>")
    offer = OfferBook(places.offers).read("standard").offer
    Taken(places.ledgers / "offers.taken").take("standard", offer.digest, "a" * 64, None, 1, 3, NOW)
    page = browser.get("/offers", base_url=OWN).text
    assert 'data-label="left">2<' in page and 'data-label="a month">3<' in page and offer.digest in page
    assert "<img" not in page and "&lt;img" in page and 'aria-current="page">Offers<' in page
    (places.offers / "bad.json").write_text("{")
    assert 'data-label="state">damaged<' in browser.get("/offers", base_url=OWN).text
    (places.ledgers / "offers.taken").write_text("{}")
    assert "offers.taken" in browser.get("/offers", base_url=OWN).text
