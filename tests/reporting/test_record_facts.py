"""A record's nested facts: release, listing, request, budget and what is needed to compute the value again."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from full_record import FULL, RELEASE

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting import record as module
from mpc_appraisal.reporting.record import Record


def released(**changes) -> Record:
    return Record("influence", "a", None, release={"kind": "bit", "to": ["data_owner"], "answered": False} | changes)


def test_a_record_of_before_is_still_read():
    old = {key: value for key, value in json.loads(FULL.to_json()).items() if key not in module.NESTED}
    record = Record.from_json(json.dumps(old))
    assert record == dataclasses.replace(FULL, **dict.fromkeys(module.NESTED))
    assert (record.decision, record.winner, record.rank, record.interval, record.answered) == (None,) * 4 + (False,)
    assert record.answer == "0.3"


@pytest.mark.parametrize("key", module.NESTED)
def test_what_is_left_out_is_none_and_what_must_be_known_is_asked_for(key):
    keys, required = module.NESTED[key].part["properties"], module.NESTED[key].part["required"]
    full = getattr(FULL, key)
    newer = {"recompute": ("model",), "request": ("purpose", "offer")}.get(key, ())  # left out where it is not known
    assert list(full) == [name for name in keys if name in full or name not in newer]
    least = {name: full[name] for name in required}
    record = dataclasses.replace(FULL, **{key: least})
    assert getattr(record, key) == {name: least.get(name) for name in keys if name not in newer}
    assert Record.from_json(record.to_json()) == record
    for name in required:
        for lacking in ({**least, name: None}, {k: v for k, v in least.items() if k != name}):
            with pytest.raises(InputError, match=f"record.{key}: got no {name}; expected all of {', '.join(required)}"):
                dataclasses.replace(FULL, **{key: lacking})
    for strange in ({**full, "threshold": 0.5}, {**full, 3: 4}):
        with pytest.raises(InputError, match=f"record.{key}: got .*; expected no field but {', '.join(keys)}"):
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
    "request.purpose": ("purchase", 3, {}, {"kind": "", "text": ""}, {"kind": "purchase"}),
    "request.offer": ("standard", 3, {}, {"name": "standard"}, {"name": "../a", "digest": "a1" * 32}),
    "budget.ledger": TEXTS,
    "budget.line": (0, 1.5, "3", True),
    "budget.head": HASHES,
    "budget.counterparty": TEXTS,
    **{f"budget.{key}": (-0.1, *NUMBERS) for key in ("epsilon", "epsilon_left", "delta")},
    "budget.plain_left": (-1, 1.5, "3", True),
    "budget.counterparty_key": HASHES,
    "budget.renews": TEXTS,
    "budget.period": TEXTS,
    "budget.renews_at": ("tomorrow", "2026-02-01", "2026-02-01T00:00:00", 3, ""),
    "budget.epsilon_total": (-0.1, *NUMBERS),
    "budget.plain_total": (-1, 1.5, "3", True),
    **{f"recompute.{key}": (-0.1, *NUMBERS) for key in ("l2", "tolerance", "row_norm", "group_norm")},
    **{f"recompute.{key}": ("1", True, math.nan, [math.inf], {}) for key in ("mean", "scale")},
    "recompute.settings": ("text", [1], 3),
    "recompute.features": TEXTS,
    "recompute.model": TEXTS,
    "recompute.inputs": HASHES,
    "overlap.what": ("cells", "", 3, ["rows"]),
    "overlap.column": TEXTS,
    "overlap.columns": ("place", 3),
    **{f"overlap.{key}": (0, 1.5, "3", True) for key in ("minimum", "fewer_than")},
    "overlap.items": (3, [], {}, {"model_owner": 1}, {"model_owner": 0, "data_owner": 1}),
    **{f"overlap.{key}": (-1, 1.5, "3", True) for key in ("count", "rounds")},
    "overlap.seconds": (-0.1, *NUMBERS),
    "overlap.bytes_sent": (3, {"model_owner": 1}, {"model_owner": -1, "data_owner": 1}),
    "overlap.revealed": ("text", [3], [""], 3),
    "overlap.trust": TEXTS,
    **{f"resolution.{key}": (0, 1.5, "3", True) for key in ("scale", "bits")},
}


def test_every_nested_key_is_tested_with_wrong_values():
    assert set(WRONG) == {f"{key}.{name}" for key, one in module.NESTED.items() for name in one.part["properties"]}


@pytest.mark.parametrize(("key", "wrong"), [(key, wrong) for key, values in WRONG.items() for wrong in values])
def test_a_wrong_value_of_a_nested_key_is_refused_by_name(key, wrong):
    outer, name = key.split(".")
    with pytest.raises(InputError, match=f"record.{key}"):
        dataclasses.replace(FULL, **{outer: getattr(FULL, outer) | {name: wrong}})


@pytest.mark.parametrize(
    ("outer", "name"),
    [
        ("release", "protects"),
        ("request", "id"),
        ("budget", "ledger"),
        ("budget", "counterparty"),
        ("budget", "period"),
    ],
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
