"""The shape of a request's content, closed at every level.

In goes JSON; `CONTENT` says what in it is of another shape, and `Request` refuses such a content: a field that is not
known is an error, so that nothing can be asked for that the text does not show. A new field is added to `CONTENT` as an
optional one at first, because requests that older versions made wait in queues; and it is added to the text that
`request` makes. Known fields have to keep their names and types.
"""

from __future__ import annotations

from mpc_appraisal.common.schema import (
    Schema,
    hexadecimal,
    many,
    mapping,
    matching,
    nullable,
    number,
    one_of,
    record,
    text,
    whole,
)
from mpc_appraisal.governance.approval.overlap_words import COLUMNS, KEYS, ROWS
from mpc_appraisal.governance.approval.purpose import PURPOSE
from mpc_appraisal.reporting.record_schema import OFFER

FORMAT = "mpc_appraisal request 1"
ROLES = ("model_owner", "data_owner", "dealer")

NAME, WORDS, ROLE = text(200, 1), text(4000), one_of(*ROLES)
KIND = matching("[a-z][a-z0-9_]{0,31}", "a release's name, as value, bit, best or dp")

LISTING = record(name=NAME, digest=NAME, commitment=NAME, price=nullable(number(0)), currency=nullable(NAME))
PRIVACY = record(
    {"target_norm": number(0)},  # the bound that a target that is a number is clipped to
    mechanism=NAME,
    sigma=number(0),
    epsilon=number(0),
    delta=number(0, 1),
    row_norm=number(0),
    protects=WORDS,
    sensitivity=mapping(text(500, 1), number(0)),
)
OVERLAP = record(
    what=one_of(ROWS, KEYS),
    column=nullable(NAME),
    features=nullable(whole(1)),
    columns={"enum": [None, *COLUMNS]},
    minimum=whole(1),
    structure=NAME,
    items=record(model_owner=whole(1), data_owner=mapping(NAME, whole(1))),
    words=WORDS,
    trust=WORDS,
)
RESOLUTION = record(scale=whole(1, 2**16 - 1), bits=whole(1, 16))
# A target that is a number is one output of linear regression; every other model has two classes or more.
_NUMBER_OR_CLASSES = {
    "if": {"required": ["name"], "properties": {"name": {"const": "linear_regression"}}},
    "then": {"properties": {"classes": whole(1, 1)}},
    "else": {"properties": {"classes": whole(2)}},
}
CONTENT = Schema(
    record(
        optional={
            "keys": mapping(ROLE, hexadecimal(64)),  # by role, the SHA-256 of the certificate's key that it showed
            "metrics": many(WORDS),
            "recipe": hexadecimal(64),  # the digest of the recipe by which both sides' raw tables are read
            "compared": many(WORDS),  # requests that were made before this field was known wait in queues
            "resolution": RESOLUTION,  # every number of the candidates is k / scale for an integer k of so many bits
            "purpose": PURPOSE,  # what the model owner asks for, as it states it
            "overlap": OVERLAP,  # what both owners count before the appraisal
            "offer": OFFER,  # the standing offer of the data owner that the model owner names
        },
        format=one_of(FORMAT),
        methods=many(record(name=NAME, settings=WORDS, opens=WORDS)),
        model=_NUMBER_OR_CLASSES
        | record(
            {"name": one_of("linear_regression", "logistic_regression")},  # softmax regression is not named
            features=whole(1),
            classes=whole(1),
            train_rows=nullable(whole(0)),
            test_rows=nullable(whole(0)),
            l2=number(0),
        ),
        candidates=many(record(name=NAME, rows=whole(1), listing=nullable(LISTING))),
        release=record(kind=KIND, words=WORDS),
        openings=many(record(what=WORDS, to=many(ROLE), numbers=whole(1), why=WORDS, times=whole(1), method=NAME)),
        privacy=nullable(PRIVACY),
        told=mapping(ROLE, mapping(NAME, number())),
        protocol=record(  # off is not stated
            {"integrity": one_of("on"), "relay": one_of("on")}, engine=NAME, transport=NAME, trust=WORDS
        ),
        config=hexadecimal(16),
    )
)
