"""The shape of an offer, closed at every level, as a JSON schema.

In goes JSON; `OFFER` says what in it is of another shape. A new term is added as an optional field at first, because
signed offers are kept, and needs a row in `words` and a check in `limits`: a term that nothing checks would promise
what nobody keeps. Known fields have to keep their names and types.
"""

from __future__ import annotations

from mpc_appraisal.common.schema import (
    Part,
    Schema,
    day,
    hexadecimal,
    many,
    mapping,
    matching,
    number,
    one_of,
    record,
    text,
    whole,
    zoned_time,
)
from mpc_appraisal.governance.approval.purpose import PURPOSES
from mpc_appraisal.governance.approval.schema import KIND, ROLE

FORMAT = "mpc_appraisal offer 1"
LARGEST_FILE = 1 << 16  # bytes
MOST_ANSWERS = 10**6  # a month
SHA256 = hexadecimal(64)
NAME_PATTERN = "[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?"
NAME = matching(NAME_PATTERN, "1 to 64 of a-z, 0-9, '.', '_' and '-', ends a-z or 0-9")
METHOD = matching("[A-Za-z0-9_]{1,64}", "a method's name")
SETTING = matching("[A-Za-z_][A-Za-z0-9_]{0,63}", "a setting's name")
CURRENCY = matching("[A-Z]{3}", "three capital letters")
SCALAR: Part = {"type": ["number", "string", "boolean", "null"], "maxLength": 200, "description": "a number or a text"}
LIMIT: Part = record({"least": number(), "most": number(), "one_of": many(SCALAR, most=100)}) | {
    "minProperties": 1,
    "description": "least, most or one_of",
}
PRICE = record(amount=number(0), currency=CURRENCY)  # of one answer
RELEASE = record(
    {"epsilon": number(0), "delta": number(0, 1)},  # the most that one answer may cost, for the kind dp
    kind=KIND,
    learners=many(ROLE, most=3),  # to whom anything may be opened
)
CONTENT = record(
    {
        "text": text(4000),  # terms in the owner's own words, which nothing here checks
        "price": PRICE,
        "purposes": many(one_of(*PURPOSES), most=len(PURPOSES)),  # without it, every purpose or none
        "buyers": many(SHA256, most=1000),  # the SHA-256 of certificate keys; without it, anyone
        "integrity": one_of("on"),  # both owners must check all of each other's messages
    },
    format=one_of(FORMAT),
    name=NAME,
    data=record(listing=NAME, commitment=SHA256, rows=whole(1), features=whole(1), classes=whole(1)),
    methods=mapping(METHOD, mapping(SETTING, LIMIT)) | {"minProperties": 1, "maxProperties": 100},
    release=RELEASE,
    answers_per_month=whole(1, MOST_ANSWERS),
    until=day(),  # the last day, in UTC
    made=zoned_time(),
    key=SHA256,  # of the data owner's certificate
)
HEXADECIMAL = matching("([0-9a-f]{2})+", "hexadecimal digits") | {"maxLength": 8192}
OFFER = Schema(record(content=CONTENT, signature=record(key=HEXADECIMAL, signature=HEXADECIMAL)))
