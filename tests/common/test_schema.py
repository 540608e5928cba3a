"""Schemas name the first bad field, what it holds, and what was expected of it."""

from __future__ import annotations

import re

import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import (
    Schema,
    hexadecimal,
    many,
    mapping,
    nullable,
    number,
    one_of,
    open_record,
    read_json,
    record,
    text,
    whole,
    zoned_time,
)

OFFER = record(
    {"note": text(9)},
    name=text(20, 1),
    rows=whole(1),
    price=nullable(number(0)),
    keys=mapping(one_of("a", "b"), hexadecimal(4)),
) | {"dependentRequired": {"note": ["name"]}}
OFFERS = Schema(record(offers=many(OFFER, most=2), share=number(0, 1), way=one_of("in", "out")))
GOOD = {"name": "x", "rows": 3, "price": None, "keys": {"a": "00ff"}}


def content(**changed) -> dict:
    return {"offers": [GOOD, GOOD | changed], "share": 0.5, "way": "in"}


def test_what_fits_passes():
    OFFERS.check(content(), "request")
    OFFERS.check(content(note="é", price=10, keys={}), "request")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "r: got None; expected an object"),
        ({"share": 0.5}, "r: got no offers, way; expected all of offers, share, way"),
        (content() | {"more": 1}, "r: got 'more'; expected no field but offers, share, way"),
        (content() | {"offers": []}, "r.offers: got []; expected a list of 1 to 2"),
        (content() | {"share": 1}, "r.share: got 1; expected a finite number, 0 or more and below 1"),
        (content() | {"share": float("nan")}, "r.share: got nan; expected a finite number, 0 or more and below 1"),
        (content() | {"way": "up"}, "r.way: got 'up'; expected one of in, out"),
        (content(rows=3.0), "r.offers[1].rows: got 3.0; expected an integer of 1 or more"),
        (content(rows=True), "r.offers[1].rows: got True; expected an integer of 1 or more"),
        (content(rows=2**53 + 1), f"r.offers[1].rows: got {2**53 + 1}; expected an integer of 1 or more"),
        (content(price=-1), "r.offers[1].price: got -1; expected a finite number, 0 or more, or null"),
        (content(name=""), "r.offers[1].name: got ''; expected a text of 1 to 20 characters"),
        (content(note="ten letters"), "r.offers[1].note: got 'ten letters'; expected a text of at most 9 characters"),
        (content(keys={"a": "00ff\n"}), "r.offers[1].keys.a: got '00ff\\n'; expected 4 hex digits"),
        (content(keys={"c": "00ff"}), "r.offers[1].keys: got the key 'c'; expected one of a, b"),
    ],
)
def test_what_does_not_fit_is_named(value, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        OFFERS.check(value, "r")


def test_an_open_object_leaves_other_fields_alone_and_names_its_own():
    schema = Schema(open_record({"norm": number(1, most=8)}, rows=whole(1)))
    schema.check({"rows": 1, "later": "x"}, "m")
    schema.check({"rows": 1, "norm": 8}, "m")
    for value, message in (
        ({"norm": 1}, "m: got no rows; expected all of rows"),
        ({"rows": 1, "norm": 8.5}, "m.norm: got 8.5; expected a finite number, 1 or more and at most 8"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
            schema.check(value, "m")


@pytest.mark.parametrize("time", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.500+01:30", "2026-01-31 12:00-08:00"])
def test_a_time_with_its_zone_passes_and_others_do_not(time):
    schema = Schema(zoned_time())
    schema.check(time, "t")
    for wrong in ("yesterday", "2026-01-31", "2026-01-31T12:00:00", time + "x", "", 3, None):
        with pytest.raises(InputError, match="^t: got .*; expected a time with its zone, as in 2026-01-31T12:00:00"):
            schema.check(wrong, "t")


def test_rules_without_a_description_have_words_too():
    bare = record(a={"const": 1}, b={"type": ["array", "null"]}, c={"type": "string", "pattern": "^x"})
    for changed, words in (({"a": 2}, "expected 1"), ({"b": 3}, "an array or null"), ({"c": "y"}, "that matches ^x")):
        with pytest.raises(InputError, match=re.escape(words)):
            Schema(bare).check({"a": 1, "b": None, "c": "x"} | changed, "r")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "'a' is stated twice"),
        ("NaN", "NaN is no finite number"),
        ("[1e999]", "1e999 is no finite"),
    ],
)
def test_json_that_could_be_read_in_two_ways_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        read_json(text)
