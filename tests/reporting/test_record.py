"""Records: what is written is what is read, and what must not be written is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pickle
import re

import numpy as np
import pytest
import torch

from mpc_appraisal.common import provenance
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash, revision, versions
from mpc_appraisal.reporting import record as module
from mpc_appraisal.reporting.record import Record, append, read

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
)


def test_the_keys_are_the_published_ones():
    keys = (
        "method candidate value paper_value plaintext_value difference error_bound n features classes level "
        "utility seconds bytes_sent rounds failure_probability estimate seed openings versions config_hash revision "
        "session engine role trust release listing request budget warnings recompute error_note"
    )
    assert set(json.loads(FULL.to_json())) == set(keys.split())


@pytest.mark.parametrize("record", [FULL, Record("random", "a", 0.5), Record("influence", "a", None, session="join")])
def test_round_trip_is_exact(record):
    line = record.to_json()
    assert "\n" not in line
    assert Record.from_json(line) == record
    assert pickle.loads(pickle.dumps(record)) == record


def test_numbers_of_numpy_and_torch_become_plain_ones():
    record = Record(
        "influence",
        "a",
        np.float64(0.5),
        paper_value=torch.tensor(-0.5),
        n=np.int64(3),
        rounds=torch.tensor(2),
        bytes_sent={"dealer": np.int64(9)},
    )
    assert Record.from_json(record.to_json()) == Record(
        "influence", "a", 0.5, paper_value=-0.5, n=3, rounds=2, bytes_sent={"dealer": 9}
    )


def test_derived_costs():
    assert FULL.total_seconds == 1.75
    assert FULL.megabytes == (2**40 + 3) / 1e6


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.value = 1.0


@pytest.mark.parametrize("key", module.FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.5", True])
def test_a_number_that_is_not_finite_or_not_a_number_is_refused(key, value):
    with pytest.raises(InputError, match=f"record.{key}"):
        dataclasses.replace(FULL, **{key: value})


@pytest.mark.parametrize(
    "change, name",
    [
        ({"seconds": {"score": math.nan}}, "seconds.score"),
        ({"bytes_sent": {"dealer": 1.5}}, "bytes_sent.dealer"),
        ({"n": 1.5}, "record.n"),
        ({"session": "cloud"}, "record.session"),
        ({"method": ""}, "record.method"),
        ({"candidate": 3}, "record.candidate"),
        ({"openings": ({"what": "x"},)}, "record.openings"),
        ({"openings": ({**OPENING, "numbers": 1.5},)}, "openings.numbers"),
        ({"seconds": [1.0]}, "record.seconds"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(change, name):
    with pytest.raises(InputError, match=re.escape(name)):
        dataclasses.replace(FULL, **change)


@pytest.mark.parametrize(
    "place",
    ["/data/seller.csv", "data/seller.csv", "~/seller", "C:\\files", "tcp://10.0.0.1:29500", "read from /mnt/x"],
)
@pytest.mark.parametrize("key", ["candidate", "engine", "trust"])
def test_no_place_is_ever_in_a_record(place, key):
    with pytest.raises(InputError, match="no path"):
        dataclasses.replace(FULL, **{key: place})


def test_no_place_in_an_opening():
    with pytest.raises(InputError, match="no path"):
        dataclasses.replace(FULL, openings=({**OPENING, "why": "asked by /home/a"},))


@pytest.mark.parametrize("name", ["p = 3/10", "label_noise 1/10", "1/7 flipped", "seller.csv", "eq. 7, n/a"])
def test_a_fraction_is_not_a_path(name):
    assert dataclasses.replace(FULL, candidate=name).candidate == name


@pytest.mark.parametrize("key", ["plaintext_value", "difference", "level", "utility"])
def test_between_organisations_nobody_knows(key):
    with pytest.raises(InputError, match=f"record.{key}"):
        Record("influence", "a", 0.5, session="join", **{key: 0.25})


# ---- release, listing, request and budget


def released(**changes) -> Record:
    return Record("influence", "a", None, release={"kind": "bit", "to": ["data_owner"], "answered": False} | changes)


def test_a_record_of_before_is_still_read():
    old = {key: value for key, value in json.loads(FULL.to_json()).items() if key not in module.NESTED}
    record = Record.from_json(json.dumps(old))
    assert record == dataclasses.replace(FULL, release=None, listing=None, request=None, budget=None, recompute=None)
    assert (record.decision, record.winner, record.rank, record.interval, record.answered) == (None,) * 4 + (False,)
    assert record.answer == "0.3"


@pytest.mark.parametrize("key", module.NESTED)
def test_what_is_left_out_is_none_and_what_must_be_known_is_asked_for(key):
    checks, required = module.NESTED[key]
    full = getattr(FULL, key)
    assert list(full) == list(checks)
    least = {name: full[name] for name in required}
    record = dataclasses.replace(FULL, **{key: least})
    assert getattr(record, key) == {name: least.get(name) for name in checks}
    assert Record.from_json(record.to_json()) == record
    for name in required:
        for lacking in ({**least, name: None}, {k: v for k, v in least.items() if k != name}):
            with pytest.raises(InputError, match=f"record.{key}: got no {name}; expected the keys"):
                dataclasses.replace(FULL, **{key: lacking})
    for strange in ({**full, "threshold": 0.5}, {**full, 3: 4}):
        with pytest.raises(InputError, match=f"record.{key}: got .*; expected no other keys than"):
            dataclasses.replace(FULL, **{key: strange})
    for other in ("text", [1], 3.0, True):
        with pytest.raises(InputError, match=f"record.{key}: got .*; expected a dictionary"):
            dataclasses.replace(FULL, **{key: other})


NUMBERS = (math.nan, math.inf, "1", True, [1.0])
TEXTS = ("", " ", 3, True, ["a"])
HASHES = ("", "a1" * 31, "A1" * 32, "a1" * 32 + "\n", "g" * 64, 5)
WRONG = {
    "release.kind": ("Noise", "a b", 3, ["bit"], True),
    "release.to": ("model_owner", [], ["dealer"], ["data_owner"] * 2, 3, [["data_owner"]], {"data_owner": 1}),
    "release.decision": (1, "yes", 0.0),
    "release.winner": (0, "no"),
    "release.rank": (0, -1, 1.5, "1", True),
    **{f"release.{key}": (-0.1, *NUMBERS) for key in ("sigma", "sensitivity", "deviation", "epsilon", "delta")},
    **{f"release.{key}": NUMBERS for key in ("low", "high")},
    "release.protects": TEXTS,
    "release.answered": (0, "no"),
    "release.uncertain_within": (-0.1, *NUMBERS),
    "listing.name": ("", "../a", "A", "a; rm b", "a\n", "-a", "a" * 65, 3),
    "listing.digest": HASHES,
    "listing.commitment": HASHES,
    "listing.price": (-1, *NUMBERS),
    "listing.currency": ("eur", "EURO", "EUR\n", 3),
    "request.id": TEXTS,
    "request.digest": HASHES,
    "request.how": ("email", 3, ["policy"]),
    "request.time": ("yesterday", "2026-01-31", "2026-01-31T12:00:00", 3, ""),
    "budget.ledger": TEXTS,
    "budget.line": (0, 1.5, "3", True),
    "budget.head": HASHES,
    "budget.counterparty": TEXTS,
    **{f"budget.{key}": (-0.1, *NUMBERS) for key in ("epsilon", "epsilon_left", "delta")},
    "budget.plain_left": (-1, 1.5, "3", True),
    "budget.counterparty_key": HASHES,
    **{f"recompute.{key}": (-0.1, *NUMBERS) for key in ("l2", "tolerance", "row_norm")},
    **{f"recompute.{key}": ("1", True, math.nan, [math.inf], {}) for key in ("mean", "scale")},
    "recompute.settings": ("text", [1], 3),
    "recompute.features": TEXTS,
    "recompute.inputs": HASHES,
}


def test_every_nested_key_is_tested_with_wrong_values():
    assert set(WRONG) == {f"{key}.{name}" for key, (checks, _) in module.NESTED.items() for name in checks}


@pytest.mark.parametrize(("key", "wrong"), [(key, wrong) for key, values in WRONG.items() for wrong in values])
def test_a_wrong_value_of_a_nested_key_is_refused_by_name(key, wrong):
    outer, name = key.split(".")
    with pytest.raises(InputError, match=f"record.{key}"):
        dataclasses.replace(FULL, **{outer: getattr(FULL, outer) | {name: wrong}})


@pytest.mark.parametrize(
    ("outer", "name"),
    [("release", "protects"), ("request", "id"), ("budget", "ledger"), ("budget", "counterparty")],
)
@pytest.mark.parametrize("place", ["/data/seller.ledger", "ledgers/seller.ledger", "https://example.org", "~/x"])
def test_no_place_in_a_nested_text(outer, name, place):
    with pytest.raises(InputError, match="no path"):
        dataclasses.replace(FULL, **{outer: getattr(FULL, outer) | {name: place}})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"kind": "bit"}, "record.value"),
        ({"rank": 1}, "record.release.rank"),
        ({"rank": 1, "winner": False}, "record.release.rank"),
        ({"low": None}, "record.release.low"),
        ({"high": None}, "record.release.low"),
        ({"low": 0.6}, "record.release.low"),
    ],
)
def test_what_one_release_cannot_have_told_together_is_refused(change, name):
    with pytest.raises(InputError, match=f"{name}: "):
        dataclasses.replace(FULL, release=RELEASE | change)


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        (released(decision=True), "yes"),
        (released(decision=False), "no"),
        (released(kind="dp", decision=True, epsilon=0.5), "yes"),
        (released(kind="best", winner=True, rank=2), "winner 2"),
        (released(kind="best", winner=True), "winner"),
        (released(kind="best", winner=False), "not a winner"),
        (released(kind="value"), None),
        (FULL, "0.3"),
    ],
)
def test_the_answer_in_a_word(record, answer):
    assert record.answer == answer and Record.from_json(record.to_json()) == record
    assert record.decision == record.release["decision"] and record.winner == record.release["winner"]
    assert record.rank == record.release["rank"] and not record.answered
    assert record.interval == ((0.1, 0.5) if record == FULL else None)
    assert released(answered=True).answered


def test_append_then_read(tmp_path):
    path = tmp_path / "records.jsonl"
    records = [FULL, Record("random", "a", 0.5)]
    for record in records:
        append(path, record)
    assert read(path) == records
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    "bad",
    [
        "not json",
        "[1, 2]",
        "",
        '{"method": "a"}',
        '{"value": NaN}',
        FULL.to_json().replace("38", "NaN"),
        FULL.to_json().replace('"n"', '"rows"'),
        "\xff",
    ],
)
def test_a_bad_line_is_an_error_with_its_number(tmp_path, bad):
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"\n".join([FULL.to_json().encode(), bad.encode("latin-1"), FULL.to_json().encode(), b""]))
    with pytest.raises(InputError, match="line 2"):
        read(path)


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_an_unfinished_last_line_is_reported_and_never_written_after(tmp_path, cut):
    path = tmp_path / "records.jsonl"
    append(path, FULL)
    append(path, FULL)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match="line 2.*whole line"):
        read(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="unfinished"):
        append(path, FULL)
    assert path.read_bytes() == before


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="readable file"):
        read(tmp_path / "none.jsonl")


def test_versions_name_what_computes():
    found = versions()
    assert set(found) == {"python", "torch", "crypten", "numpy", "scipy", "mpc_appraisal"}
    assert found["numpy"] == np.__version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_revision_is_a_short_hash_or_none():
    assert revision() is None or re.fullmatch(r"[0-9a-f]{4,40}", revision())


def test_revision_of_a_foreign_repository_is_none(tmp_path, monkeypatch):
    (tmp_path / "outer" / ".git").mkdir(parents=True)  # a repository that merely holds the environment
    inside = tmp_path / "outer" / "site-packages" / "mpc_appraisal" / "common" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(inside))
    revision.cache_clear()
    try:
        assert revision() is None
    finally:
        revision.cache_clear()


def test_config_hash_is_canonical():
    config = {"b": [1, 2.5, None], "a": {"y": "ü", "x": True}}
    text = '{"a":{"x":true,"y":"\\u00fc"},"b":[1,2.5,null]}'
    assert config_hash(config) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert config_hash({"a": {"x": True, "y": "ü"}, "b": [1, 2.5, None]}) == config_hash(config)
    assert config_hash({**config, "c": 1}) != config_hash(config)


@pytest.mark.parametrize("value", [math.nan, object()])
def test_config_hash_refuses_what_has_no_canonical_form(value):
    with pytest.raises(InputError, match="config"):
        config_hash({"a": value})
