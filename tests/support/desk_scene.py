"""A desk as it looks after some weeks: requests of all kinds, budgets nearly spent, listings and candidates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from desk import ledger, places_in, plain, put, run
from full_record import FULL, LISTING
from test_request import CONTENT

from mpc_appraisal.cli.commands.catalogue import main as catalogue
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.reporting.advice import Advice, Recommendation

BUYERS = ("Nordwind Analytics GmbH", "Institute for Applied Statistics, University of Northern Example", "acme")
LONG = "a-very-long-name-of-a-candidate-without-a-single-blank-" * 3  # as a buyer may write it
KEY = "ab" * 32
VALUE = {"kind": "value", "low": None, "high": None, "epsilon": None, "sigma": None, "delta": None, "deviation": None}
VALUE |= {"sensitivity": None, "protects": None}
METHODS = ("influence", "gradient_norm", "mlp_finetuning")


def scene(folder: Path) -> Places:
    """Fill the folders of an owner and return them. The owner is both, a data owner and a model owner."""
    places = places_in(folder)
    _ledgers(places)
    _requests(places)
    _listings(places, folder)
    _answers(places)
    _candidates(places)
    return places


def _ledgers(places: Places) -> None:
    ledger(places, "digits-a", charges=19, plain_values=20)
    ledger(places, "digits-b", charges=2, noise=3.0, epsilon=2.2)
    ledger(places, "customers-2026", charges=3, plain_values=3)
    (places.ledgers / "damaged.csv.ledger").write_text('{"line": 1}\n')


def _requests(places: Places) -> None:
    queue = RequestQueue(places.requests)
    put(places, plain("digits-a", config="1" * 16))
    put(places, Request(CONTENT), BUYERS[0])
    put(places, plain("customers-2026", rows=120_000, config="2" * 16), BUYERS[1])
    put(places, plain("digits-a", "digits-b", LONG, config="3" * 16), BUYERS[1])
    put(
        places,
        Request(CONTENT | {"config": "5" * 16, "keys": {"model_owner": KEY, "data_owner": "cd" * 32}}),
        BUYERS[2],
    )
    for k, (yes, reason) in enumerate(
        ((False, "The price was agreed for research alone. " * 6), (False, ""), (True, ""))
    ):
        asked = put(places, plain("digits-a", config=f"{k + 6}" * 16), BUYERS[k])
        queue.say(asked.id, yes, reason)
    (places.requests / "0123456789ab.json").write_text("{")


def _listings(places: Places, folder: Path) -> None:
    data = folder / "rows.npz"
    random = np.random.default_rng(0)
    names = [f"{word} {k}" for k in range(8) for word in ("income, thousands of euros", "age", "postcode region")]
    np.savez(data, x=random.normal(size=(240, 24)), y=np.arange(240) % 3, columns=np.array(names))
    said = {
        "digits-a": ["title=Handwritten digits", "price=100", "currency=EUR", "licence=CC-BY-4.0"],
        "customers-2026": [
            *(
                "title=Customers of a retail chain in eleven countries, with the class of their next order",
                "price=125000",
            ),
            *("currency=EUR", "licence=https://data.example.org/terms/2026/appraisal-and-purchase", "columns=file"),
            *("samples=synthetic:3", "purposes=research,model_improvement,purchase", "statistics=yes"),
            *("description=" + "One row a customer. " * 12, "creator=Example Ltd", "date=2026-03-01", "version=2.1.0"),
            *("contact=data-protection-and-licensing@example.org", "terms=" + "Only in the European Union. " * 10),
        ],
        "digits-b": [],
    }
    for name, words in said.items():
        catalogue(["publish", f"data={data}", f"name={name}", f"out={places.catalogue}", *words])
        data.with_name(f"rows.npz.{name}.salt").unlink()
    (places.catalogue / "bad.json").write_text("{")


def _answers(places: Places) -> None:
    exact = {"plaintext_value": None, "difference": None, "release": FULL.release | VALUE, "role": "data_owner"}
    rows = [replace(FULL, candidate="digits-a", value=0.0312, method=method, **exact) for method in METHODS]
    rows += [replace(FULL, candidate="customers-2026", value=None, **exact | {"release": FULL.release})]
    budget = FULL.budget | {"counterparty": BUYERS[1]}
    rows += [replace(FULL, candidate=LONG, value=-12.5, budget=budget, **exact)]
    run(places, "2026-11-30/seller with a folder of a long name/17-32-37", rows)


def _candidates(places: Places) -> None:
    exact = {"plaintext_value": None, "difference": None, "release": FULL.release | VALUE}
    words = {"digits-a": "buy", "customers-2026": "undecided", LONG: "do not buy", "unpriced": ""}
    prices = {"digits-a": 100, "customers-2026": 125_000, LONG: None, "unpriced": None}
    for number, method in enumerate(METHODS):
        rows = [
            replace(
                *(FULL,),
                **exact
                | {"candidate": name, "method": method, "value": 10.0 ** (number - k) * (-1) ** k, "n": 300 * 9**k},
                listing=None if price is None else LISTING | {"name": name, "price": price},
            )
            for k, (name, price) in enumerate(prices.items())
        ]
        said = {(method, name): Recommendation(word, 0.1, f"{word}.") for name, word in words.items() if word}
        run(places, f"buyer/{method}", rows, Advice(said, {method: "trusted"}))
    (places.runs / "buyer" / "broken").mkdir()
    (places.runs / "buyer" / "broken" / "records.jsonl").write_text('{"method": 1\n')
