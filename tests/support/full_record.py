"""A record in which every field is known."""

from __future__ import annotations

from mpc_appraisal.reporting.record import Record

OPENING = {"what": "score", "to": ["model_owner", "data_owner"], "numbers": 1, "why": "it is the result"}
RELEASE = {
    "kind": "dp",
    "to": ["model_owner"],
    "decision": None,
    "winner": None,
    "rank": None,
    "sigma": 5.0,
    "sensitivity": 0.25,
    "deviation": 1.5,
    "low": 0.1,
    "high": 0.5,
    "epsilon": 0.5,
    "delta": 1e-6,
    "protects": "one row of the data",
    "answered": False,
}
LISTING = {"name": "digits-a", "digest": "a1" * 32, "commitment": "b2" * 32, "price": 99.5, "currency": "EUR"}
REQUEST = {"id": "request 7", "digest": "c3" * 32, "how": "policy", "time": "2026-01-31T12:00:00+00:00"}
BUDGET = {
    "ledger": "seller.ledger",
    "line": 12,
    "head": "d4" * 32,
    "counterparty": "acme",
    "epsilon": 0.75,
    "epsilon_left": 0.25,
    "delta": 1e-6,
    "plain_left": 19,
    "counterparty_key": "e5" * 32,
}
RECOMPUTE = {
    "l2": 0.01,
    "settings": {"damping": 0.0},
    "tolerance": 1e-7,
    "mean": [0.5, 1.5],
    "scale": 2.0,
    "features": "f6" * 32,
    "row_norm": 4.0,
    "inputs": "a7" * 32,
    "model": "linear_regression",
}
OVERLAP = {
    "what": "keys",
    "column": "customer",
    "columns": "name",
    "minimum": 10,
    "items": {"model_owner": 150, "data_owner": 200},
    "count": 4,
    "fewer_than": 10,
    "seconds": 0.5,
    "bytes_sent": {"model_owner": 12_000, "data_owner": 7_000},
    "rounds": 4,
    "revealed": ["The model owner is shown the count, or that it is below 10."],
    "trust": "The owners follow the protocol.",
}
SETTINGS = {
    "appraisal": ["influence"],
    "appraisal.influence.damping": 0.0,
    "data": "digits",
    "model.l2": 0.01,
    "scenario.include_clean": False,
    "scenario.size": None,
    "seed": 7,
}
FULL = Record(
    method="influence",
    candidate="p = 3/10, Zürich",
    value=0.1 + 0.2,
    paper_value=-0.3,
    plaintext_value=0.25,
    difference=0.05,
    error_bound=1e-9,
    n=594,
    features=64,
    classes=10,
    level=0.3,
    utility=-1.5e-7,
    seconds={"prepare": 0.5, "score": 1.25},
    bytes_sent={"model_owner": 2**40, "data_owner": 3, "dealer": 0},
    rounds=38,
    estimate={"bytes_sent.dealer": 0, "rounds": 38, "lan_seconds": 0.1 + 0.2},
    seed=7,
    openings=(OPENING,),
    versions={"python": "3.11.7", "crypten": None},
    config_hash="0123456789abcdef",
    revision="abc1234",
    session="spawn",
    engine="crypten",
    role="model_owner",
    trust="Semi-honest parties.",
    release=RELEASE,
    listing=LISTING,
    request=REQUEST,
    budget=BUDGET,
    recompute=RECOMPUTE,
    overlap=OVERLAP,
    settings=SETTINGS,
    resolution={"scale": 255, "bits": 8},
)
