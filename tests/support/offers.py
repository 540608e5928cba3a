"""A standing offer for tests: its terms, keys that sign, and a request that keeps it."""

from __future__ import annotations

import copy
import hashlib
from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from test_request import CONTENT

from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.offers.book import OfferBook
from mpc_appraisal.governance.offers.grant import Offering
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.reporting.receipt import public_bytes

NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
OWNER, STRANGER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
BUYER, OTHER_BUYER = "c" * 64, "d" * 64
SETTINGS = {"influence": {"damping": 0.0, "metric": "log_loss"}}
TERMS = {
    "name": "standard",
    "data": {"listing": "digits-b", "commitment": "b" * 64, "rows": 300, "features": 64, "classes": 10},
    "methods": {"influence": {"damping": {"least": 0, "most": 0.5}, "metric": {"one_of": ["log_loss", "accuracy"]}}},
    "release": {"kind": "dp", "learners": ["model_owner", "data_owner"], "epsilon": 1.0, "delta": 1e-6},
    "price": {"amount": 10, "currency": "EUR"},
    "answers_per_month": 2,
    "until": "2026-12-31",
    "purposes": ["purchase", "research"],
    "buyers": [BUYER],
    "made": "2026-01-01T00:00:00+00:00",
}


def key_of(key) -> str:
    return hashlib.sha256(public_bytes(key.public_key())).hexdigest()


def terms(*path, to) -> dict:
    """TERMS with the value at a path replaced; `...` removes it."""
    found = copy.deepcopy(TERMS)
    place = found
    for key in path[:-1]:
        place = place[key]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return found


def offer(content: dict = TERMS, key=OWNER) -> Offer:
    return Offer.signed(content, key)


def request(taken: Offer, **changes) -> Request:
    """A request that keeps TERMS and names an offer."""
    content = copy.deepcopy(CONTENT)
    content["candidates"] = content["candidates"][1:]
    return Request(content | {"offer": taken.named} | changes)


def offering(folder: Path, now: datetime = NOON, own=OWNER) -> Offering:
    """The offers of a data owner in a folder, whose answers are counted beside it."""
    taken = {"digits-a": folder.parent / "offers.taken", "digits-b": folder.parent / "offers.taken"}
    return Offering(str(folder), taken, key_of(own), SETTINGS, lambda: now)


def book(folder: Path, now: datetime = NOON) -> OfferBook:
    return OfferBook(folder, lambda: now)
