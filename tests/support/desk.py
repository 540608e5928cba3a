"""The desk of one owner in a folder of a test, seen by Flask's test client or by a browser."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from test_request import changed

from mpc_appraisal.cli.desk.guard import Guard
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.ledger import Ledger
from mpc_appraisal.governance.budget.limits import Policy, Question
from mpc_appraisal.reporting.advice import NO_ADVICE, Advice
from mpc_appraisal.reporting.card import write_cards
from mpc_appraisal.reporting.record import Record, append
from mpc_appraisal.reporting.result import Result

PORT = 34567
OWN = f"http://127.0.0.1:{PORT}"
MARKUP = "<img src=x onerror=alert(1)>\"&'"  # a name of the other party


def places_in(folder: Path) -> Places:
    """The folders of an owner, all of them there and empty."""
    found = Places(*(folder / name for name in ("requests", "data", "out", "catalogue", "offers")))
    for place in (found.requests, found.ledgers, found.runs, found.catalogue):
        place.mkdir(mode=0o700, parents=True)
    return found


def plain(*names: str, rows: int = 300, config: str = "0123456789abcdef") -> Request:
    """A request for one value without noise of each candidate."""
    content = changed("privacy", to=None) | {"config": config, "release": {"kind": "value", "words": "exact values"}}
    return Request(content | {"candidates": [{"name": name, "rows": rows, "listing": None} for name in names]})


def ledger(places: Places, data: str, charges: int = 0, noise: float | None = None, **limits: float) -> Path:
    """A ledger of `data` with so many charges of acme, each answered."""
    made = Ledger(places.ledgers / f"{data}.csv.ledger", data, Policy(**limits))
    for k in range(charges):
        mechanism = Mechanism() if noise is None else Mechanism("gaussian", sigma=noise)
        made.settle(made.charge(Question("acme", "influence", 300, f"subject {k}", mechanism)), 0.5)
    return made.path


def field(page: str, name: str) -> str:
    """The value of a hidden field."""
    return re.search(f'name="{name}" value="([^"]*)"', page)[1]


def put(places: Places, request: Request, counterparty: str = "acme") -> Request:
    """Put a request into the queue and return it."""
    RequestQueue(places.requests).put(request, counterparty)
    return request


def run(places: Places, folder: str, records: list[Record], advice: Advice = NO_ADVICE) -> Path:
    """Write a run's records and cards."""
    place = places.runs / folder
    place.mkdir(parents=True)
    for record in records:
        append(place / "records.jsonl", record)
    write_cards(Result(records), place, advice)
    return place


class Browser:
    """A browser that was let in: it sends its cookie, and the Origin of the desk with a form."""

    def __init__(self, client, guard):
        self.client = client
        self.entered = client.get(guard.address.removeprefix(OWN), base_url=OWN)

    def get(self, path: str, **headers: str):
        return self.client.get(path, base_url=OWN, headers=headers)

    def text(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, form: dict[str, str], **headers: str | None):
        stated = {name.replace("_", "-"): value for name, value in ({"Origin": OWN} | headers).items()}
        return self.client.post(path, base_url=OWN, data=form, headers={k: v for k, v in stated.items() if v})


@pytest.fixture
def places(tmp_path):
    return places_in(tmp_path)


@pytest.fixture
def guard():
    return Guard(PORT)


@pytest.fixture
def outside(places, guard):
    """A browser that was not let in."""
    from mpc_appraisal.cli.desk.app import make_app

    return make_app(places, guard).test_client()


@pytest.fixture
def browser(outside, guard):
    return Browser(outside, guard)


def form_of(page: str, answer: str = "yes", **other: str) -> dict[str, str]:
    found = {name: html.unescape(field(page, name)) for name in ("csrf", "digest", "counterparty")}
    return found | {"answer": answer} | other
