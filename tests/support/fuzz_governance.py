"""Readers of listings, of descriptions by others, requests, rules, policies and ledgers."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzz_registry import READERS, Reader, X, Y, as_json, of_bytes, of_file, saved

from mpc_appraisal.data import read_dataset
from mpc_appraisal.governance.approval.decide import Request, Rules
from mpc_appraisal.governance.approval.queue import RequestQueue
from mpc_appraisal.governance.budget.state import verify
from mpc_appraisal.governance.catalogue import new_salt, publish, read_listing, read_salt, write_salt
from mpc_appraisal.governance.catalogue.imported import keep, read_croissant, read_imported
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.taken import Taken
from mpc_appraisal.release import Ledger, Policy

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def listing(folder: Path) -> list[bytes]:
    data = read_dataset_of(folder)
    stated = {"name": "sales", "types": {"binary": 0, "integer": 0, "real": 3}}
    (folder / "out").mkdir()
    return [Path(publish(data, stated, folder / "out", folder / "salt")).read_bytes()]


def in_listing(data: bytes, folder: Path) -> Any:
    (folder / "sales.json").write_bytes(data)  # a listing is called as its file is
    return read_listing(folder / "sales.json")


CROISSANT = {
    "@context": {"@vocab": "https://schema.org/"},
    "@type": "sc:Dataset",
    "conformsTo": "http://mlcommons.org/croissant/1.1",
    "name": "digits",
    "description": {"en": "Eight by eight"},
    "url": "https://example.org/digits",
    "license": [{"@type": "CreativeWork", "url": "https://example.org/licence"}],
    "creator": {"@type": "Person", "name": "A. Author"},
    "datePublished": "2026-01-31T12:00:00Z",
    "version": 1.0,
    "keywords": ["digits", {"name": "images"}],
    "recordSet": [{"field": [{"name": "x"}, {"@id": "rows/y"}]}],
}
OTHER = CROISSANT | {"datePublished": "2026-01-31", "version": "1.0.0", "citeAs": "me"}
OTHER |= {"name": {"@value": "digits"}, "creator": ["A. Author"], "recordSet": {"cr:field": {"sc:name": "x"}}}


def kept(folder: Path) -> list[bytes]:
    found, _ = read_croissant(written(folder / "seed.json", json.dumps(CROISSANT).encode()))
    return [keep(found, folder).read_bytes()]


def in_imported(data: bytes, folder: Path) -> Any:
    return read_imported(written(folder / "digits.json", data))  # a description is called as its file is


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read_dataset_of(folder: Path) -> Any:
    np.savez(folder / "data.npz", x=X, y=Y)
    return read_dataset(folder / "data.npz")


REQUEST = {
    "format": "mpc_appraisal request 1",
    "methods": [{"name": "influence", "settings": "Influence(damping=0.0)", "opens": "the influence"}],
    "model": {"features": 64, "classes": 10, "train_rows": 600, "test_rows": 500, "l2": 0.01},
    "candidates": [{"name": "digits-a", "rows": 440, "listing": None}],
    "release": {"kind": "value", "words": "both owners learn the value of each candidate"},
    "openings": [
        {"what": "the value", "to": ["model_owner"], "numbers": 1, "why": "result", "times": 1, "method": "influence"}
    ],
    "privacy": None,
    "told": {"data_owner": {"row_norm": 9.5}, "model_owner": {"row_norm": 9.5, "weight_norm": 1.2}},
    "protocol": {"engine": "fast", "transport": "tls", "trust": "Semi-honest parties."},
    "config": "0123456789abcdef",
}


def laid(folder: Path) -> list[bytes]:
    request = Request(REQUEST)
    RequestQueue(folder / "desk", lambda: NOON).put(request, "acme")
    return [(folder / "desk" / f"{request.id}.json").read_bytes()]


def on_desk(data: bytes, folder: Path) -> Any:
    request = Request(REQUEST)
    (folder / "desk" / f"{request.id}.json").write_bytes(data)
    return RequestQueue(folder / "desk", lambda: NOON).read(request.id)


def charged(folder: Path) -> list[bytes]:
    Ledger(folder / "seed.ledger", "sales", Policy(), lambda: NOON)
    return [(folder / "seed.ledger").read_bytes()]


OFFER = {
    "name": "standard",
    "data": {"listing": "sales", "commitment": "b" * 64, "rows": 12, "features": 3, "classes": 3},
    "methods": {"influence": {"damping": {"least": 0, "most": 1}, "metric": {"one_of": ["log_loss"]}}},
    "release": {"kind": "value", "learners": ["model_owner"]},
    "price": {"amount": 10, "currency": "EUR"},
    "answers_per_month": 2,
    "until": "2030-12-31",
    "purposes": ["purchase"],
    "buyers": ["c" * 64],
    "made": "2026-01-01T00:00:00+00:00",
}


def offered(folder: Path) -> list[bytes]:
    return [Offer.signed(OFFER, Ed25519PrivateKey.from_private_bytes(bytes(32))).text().encode()]


def counted(folder: Path) -> list[bytes]:
    Taken(folder / "seed.taken").take("standard", "a" * 64, "b" * 64, "c" * 64, 1, 2, NOON)
    first, second = (folder / "seed.taken").read_bytes().splitlines()
    written(folder / "first.line", first)
    return [second]


def in_taken(data: bytes, folder: Path) -> int:
    """Read the count with `data` as its second line; its head lies beside it."""
    lines = (folder / "first.line").read_bytes() + b"\n" + data + b"\n"
    return Taken(written(folder / "seed.taken", lines)).count("standard", NOON)


def private_salt(path: Path) -> bytes:
    path.chmod(0o600)
    return read_salt(path)


RULES = b"methods: [influence]\nminimum_rows: 100\nmaximum_epsilon: 0.5\nlisted: true\nexpires: 2030-01-01\n"
READERS.append(Reader("listing", listing, in_listing))
of_file("croissant", ".json", as_json(CROISSANT, OTHER), read_croissant)
READERS.append(Reader("imported", kept, in_imported))
of_file("salt", ".salt", saved(lambda path: write_salt(path, new_salt()), ".salt"), private_salt)
of_bytes("request", as_json(REQUEST), lambda data: Request.from_json(data.decode("utf-8", "replace")))
READERS.append(Reader("desk", laid, on_desk))
of_file("offer", ".json", offered, Offer.read)
READERS.append(Reader("offers_taken", counted, in_taken))
of_file("ledger", ".ledger", charged, verify)
of_file("policy", ".yaml", lambda folder: [b"epsilon: 1.0\ndelta: 1e-6\nminimum_rows: 50\n"], Policy.read)
of_file("rules", ".yaml", lambda folder: [RULES], Rules.read)
