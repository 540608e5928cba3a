"""What a request would cost, as the desk's page of it says."""

from __future__ import annotations

import math
import re

import pytest
from desk import browser, form_of, guard, ledger, outside, places, plain, put  # noqa: F401  fixtures among them
from scipy.optimize import brentq
from scipy.stats import norm
from test_overlap_request import REQUEST as OVERLAP
from test_request import CONTENT

from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Policy, Question


def test_the_cost_of_plain_values_is_counted_against_what_is_left(browser, places):
    ledger(places, "digits-a", charges=3, plain_values=10)
    request = put(places, plain("digits-a"))
    page = browser.text(f"/requests/{request.id}")
    assert "3 of 10 plain values" in page and "4 (1 more)" in page and "<dd>6</dd>" in page
    assert "7, this one included (7 values)" in page and "would refuse" not in page
    request = put(places, plain("digits-a", rows=50))
    assert "budget.rows: got 50" in browser.text(f"/requests/{request.id}")


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least epsilon of a mu-GDP mechanism at delta: Balle and Wang (2018), theorem 8."""
    law = norm()
    excess = lambda e: law.cdf(mu / 2 - e / mu) - math.exp(e) * law.cdf(-mu / 2 - e / mu) - delta  # noqa: E731
    return brentq(excess, 0.0, 50.0)


def test_the_cost_of_noised_values_is_that_of_gaussian_noise(browser, places):
    for name in ("digits-a", "digits-b"):
        ledger(places, name, charges=1, noise=4.0, epsilon=3.0)
    request = put(places, Request(CONTENT))  # sigma 5, one value of each
    page = browser.text(f"/requests/{request.id}")
    assert page.count("1, with noise") == 2
    so_far = re.findall(r"spent so far</dt><dd>epsilon ([0-9.]+) of 3 at delta 1e-06<", page)
    after = re.findall(r"spent after it</dt><dd>epsilon ([0-9.]+) \(", page)
    assert [float(one) for one in so_far] == pytest.approx([gaussian_epsilon(1 / 4, 1e-6)] * 2, rel=1e-3)
    assert [float(one) for one in after] == pytest.approx(
        [gaussian_epsilon((1 / 16 + 1 / 25) ** 0.5, 1e-6)] * 2, rel=1e-3
    )
    times = max(k for k in range(20) if gaussian_epsilon((1 / 16 + k / 25) ** 0.5, 1e-6) <= 3.0)
    assert 1 < times < 19 and page.count(f"<dd>{times}, this one included ({times} values)") == 2


def test_plain_and_noised_answers_count_against_their_own_limits(browser, places):
    made = Ledger(ledger(places, "digits-a", charges=3, epsilon=3.0))
    made.charge(Question("acme", "influence", 300, "noised", Mechanism("gaussian", sigma=4.0)))
    exact = put(places, plain("digits-a"))
    assert "3 of 20 plain values" in browser.text(f"/requests/{exact.id}")
    noised = put(places, Request(CONTENT | {"candidates": CONTENT["candidates"][:1]}))
    page = browser.text(f"/requests/{noised.id}")
    (so_far,) = re.findall(r"spent so far</dt><dd>epsilon ([0-9.]+) of 3 at", page)
    assert float(so_far) == pytest.approx(gaussian_epsilon(1 / 4, 1e-6), rel=1e-3)


def test_a_spent_budget_says_that_the_ledger_would_refuse(browser, places):
    ledger(places, "digits-a", charges=2, plain_values=2)
    request = put(places, plain("digits-a"))
    page = browser.text(f"/requests/{request.id}")
    assert "The ledger would refuse it" in page and "0, this one included" in page
    fresh = put(places, plain("digits-a", config="f" * 16), "bolt")
    page = browser.text(f"/requests/{fresh.id}")
    assert "would refuse" not in page and "0 of 2 plain values" in page


def test_a_certificates_key_is_one_counterparty_under_all_its_names(browser, places):
    key = "ab" * 32
    made = Ledger(places.ledgers / "digits-a.csv.ledger", "digits-a", Policy(plain_values=5))
    made.charge_all([Question("acme", "influence", 300, f"subject {k}") for k in range(3)], key)
    content = plain("digits-a").content | {"keys": {"model_owner": key, "data_owner": "cd" * 32}}
    request = put(places, Request(content), "another name")
    assert "3 of 5 plain values" in browser.text(f"/requests/{request.id}")


def test_a_count_of_shared_items_costs_one_plain_value(browser, places):
    ledger(places, "seller", charges=1)
    request = put(places, OVERLAP)
    page = browser.text(f"/requests/{request.id}")
    assert "1 of 20 plain values" in page and "1, without noise" in page and "overlap of seller" in browser.text("/")
    assert browser.post(f"/requests/{request.id}", form_of(page)).status_code == 303
    counted = OVERLAP.content["compared"] | {"structure": "raw", "minimum": 10, "words": "a count", "trust": "none"}
    counted |= {"items": {"model_owner": 1000, "data_owner": {"digits-a": 440, "digits-b": 300}}}
    ledger(places, "digits-a")
    ledger(places, "digits-b")
    both = put(places, Request(CONTENT | {"overlap": counted}))
    page = browser.text(f"/requests/{both.id}")
    assert page.count("1, with noise") == page.count("1, without noise") == 2


def test_the_ledger_of_a_listing_is_found_by_its_salt(browser, places):
    ledger(places, "seller")
    ledger(places, "other")
    request = put(places, plain("digits-a"))
    page = browser.text(f"/requests/{request.id}")
    assert "does not say which ledger" in page and "seller.csv.ledger" in page and "other.csv.ledger" in page
    (places.ledgers / "seller.csv.digits-a.salt").write_text("")
    page = browser.text(f"/requests/{request.id}")
    assert "does not say which ledger" not in page and "seller.csv.ledger" in page and "other.csv.ledger" not in page
