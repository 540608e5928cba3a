"""What the JSON messages of a session may contain: one schema for each topic and sender.

A message is JSON that another party made, so nothing in it is trusted. `read` takes its bytes, the sender's role and
the topic, and returns a dictionary whose fields fit the schema. It raises PeerError, which names the sender, for bytes
that are not JSON, NaN, infinities, numbers beyond 64 bits, deep nesting, long texts, and missing or ill-typed fields.
Fields that no schema names are ignored, so that a party of a later version can take part. The file `messages` sends the
messages of the marketplace, whose fields the marketplace's roles check.

A new field of a message gets a line in `PARTS`, and is optional at first, because parties of an earlier version do
not send it. The names and types of existing fields have to stay, since parties of two versions exchange them.
"""

from __future__ import annotations

import json
import math
from typing import Any

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS
from mpc_appraisal.common.schema import (
    Part,
    Schema,
    hexadecimal,
    many,
    mapping,
    matching,
    nullable,
    number,
    one_of,
    open_record,
    record,
    text,
    whole,
)
from mpc_appraisal.common.text import shown

LONGEST_MESSAGE = 6 << 20  # bytes; torch's store ends a connection that sends 8 MiB
LONGEST_TEXT = 5 << 20  # characters; encrypted answers travel as one text
LONGEST_LINE = 4096  # bytes that are read of the reason with which a party stops
DEEPEST = 32  # levels of nesting
LARGEST = 2**64  # absolute value of integers, exclusive
LARGEST_NUMBER = 2.0**63


def _list(items: Part, least: int = 0, most: int = 1 << 20) -> Part:
    return many(items, least, most)


NAME, SHA256, TOKEN, COUNTS = text(200, 1), hexadecimal(64), hexadecimal(32), _list(whole(0))
POSITIVE = whole(1, 2**31)
SELLER = matching("[a-z0-9][a-z0-9_-]{0,63}", "1 to 64 of a-z, 0-9, '_' and '-', the first a letter or digit")
CURRENCY = matching("[A-Z]{3}", "three capital letters")
OFFER = matching("[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "an offer's name")
LISTING = open_record(
    name=matching("[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "a listing's name"),
    digest=SHA256,
    commitment=SHA256,
    price=nullable(number(0)),
    currency=nullable(CURRENCY),
)
TIME = matching("[0-9T:+.Z-]{1,40}", "a time of at most 40 characters")
SCALE = number(0, most=LARGEST_NUMBER)
NORM = number(2.0**-30, most=LARGEST_NUMBER)
ROW_NORM = number(1, most=LARGEST_NUMBER)  # the constant feature has norm 1
REHEARSAL = record(bytes_sent=COUNTS, rounds=COUNTS, dealt=COUNTS, work=COUNTS)
COST = open_record(seconds=SCALE, bytes=whole(0), rounds=whole(0))

# By topic and sender. A new field is optional at first, because parties of an earlier version do not send it.
PARTS: dict[str, dict[str, Part]] = {
    "meet": {MODEL_OWNER: open_record(address=nullable(text(300)))},
    "config": dict.fromkeys((*OWNERS, DEALER), open_record(digest=text(128, 1), public={"type": "object"})),
    "facts": {
        MODEL_OWNER: open_record(
            {
                "purpose": record(kind=text(40, 1), text=text(300)),
                "offer": record({"price": record(amount=number(0), currency=CURRENCY)}, name=OFFER, digest=SHA256),
            },
            features=POSITIVE,
            classes=POSITIVE,
            train_rows=whole(0),
            test_rows=whole(0),
        ),
        DATA_OWNER: open_record(
            {"resolution": open_record(scale=whole(1), bits=whole(1))},
            candidates=_list(
                open_record(name=NAME, rows=whole(1), features=POSITIVE, listing=nullable(LISTING)), least=1
            ),
        ),
    },
    "ready": {
        MODEL_OWNER: open_record(
            {"spread": SCALE, "direction_spread": NORM, "target_norm": NORM}, row_norm=ROW_NORM, weight_norm=NORM
        ),
        DATA_OWNER: open_record({"target_norm": NORM}, row_norm=ROW_NORM),
    },
    "classes": {
        MODEL_OWNER: open_record({"without_rows": nullable(whole(0, 2**31))}),
        DATA_OWNER: open_record({"without_rows": nullable(mapping(NAME, whole(0, 2**31)))}),
    },
    "answers": {MODEL_OWNER: open_record(taken=_list(_list(NAME, 2, 2)))},
    "request": {
        MODEL_OWNER: open_record(digest=SHA256, inputs=SHA256, key=SHA256),
        DATA_OWNER: open_record(digest=SHA256),
        DEALER: open_record(digest=SHA256),
    },
    "approval": {
        DATA_OWNER: open_record(
            how=one_of("command", "policy", "stated", "offer"),
            time=TIME,
            answered=_list(_list(NAME, 2, 2)),
            sealed=open_record(key=SHA256, text=matching("([0-9a-f]{2})*", "pairs of hex digits")),
        )
    },
    "overlap_sizes": dict.fromkeys(OWNERS, open_record({"features": POSITIVE}, items=mapping(NAME, whole(1)))),
    "overlap_costs": dict.fromkeys(OWNERS, open_record(costs=mapping(NAME, COST))),
    "overlap_sets": {
        MODEL_OWNER: open_record({"features": POSITIVE}, items=whole(1)),
        DATA_OWNER: open_record({"features": POSITIVE}, items=whole(1), name=NAME),
    },
    "overlap_request": dict.fromkeys(OWNERS, open_record(digest=SHA256)),
    "overlap_approval": {DATA_OWNER: open_record(how=one_of("command", "policy", "stated", "offer"), time=TIME)},
    "overlap_answer": {DATA_OWNER: open_record(count=nullable(whole(0)))},
    "overlap_cost": dict.fromkeys(OWNERS, COST),
    "costs": {
        DEALER: open_record(bytes=COUNTS),
        **dict.fromkeys(OWNERS, open_record(bytes=COUNTS, rounds=COUNTS, expected=_list(REHEARSAL), rate=SCALE)),
    },
    "receipt": dict.fromkeys(
        OWNERS,
        open_record(address=SHA256, heads=mapping(NAME, SHA256), answers=mapping(NAME, mapping(NAME, SHA256))),
    ),
    "signed": dict.fromkeys(OWNERS, open_record(signatures=mapping(NAME, {"type": "object"}))),
    "registry": {DEALER: open_record(sellers=mapping(SELLER, open_record(verify_key=SHA256, key_id=NAME)))},
    "offers": dict.fromkeys(
        (*OWNERS, DEALER),
        open_record(rows=mapping(SELLER, whole(1)), ids=mapping(SELLER, TOKEN), refused=mapping(NAME, text(2000))),
    ),
    "bill": dict.fromkeys((*OWNERS, DEALER), mapping(text(40, 1), COST)),
    "line": dict.fromkeys((*OWNERS, DEALER), open_record(host=text(300, 1), port=whole(1, 65535), token=TOKEN)),
}
SCHEMAS = {topic: {role: Schema(part) for role, part in by_role.items()} for topic, by_role in PARTS.items()}


def printable(words: bytes | bytearray, longest: int = LONGEST_LINE) -> str:
    """Return another party's text as one line that may be printed; control characters and line ends are escaped."""
    return shown(bytes(words[:longest]).decode("utf-8", "replace"), longest)


def read(content: bytes, source: str, topic: str) -> dict[str, Any]:
    """Return the message of the role `source` on `topic`, read from the bytes `content`.

    Raises PeerError, which names the party, the topic and the field, for a message that does not fit.
    """
    return check(parse(content, source, topic), source, topic)


def parse(content: bytes, source: str, topic: str) -> dict[str, Any]:
    """Return the JSON object that the role `source` sent as `content`, whatever its fields are.

    Raises PeerError: The text is too long, is no JSON object, or contains what the top of this file excludes.
    """
    if len(content) > LONGEST_MESSAGE:
        raise PeerError(_unreadable(source, topic, f"{len(content)} bytes", f"at most {LONGEST_MESSAGE}"))
    try:
        message = json.loads(
            content, parse_constant=_refuse_constant, parse_float=_finite_number, parse_int=_small_integer
        )
    except RecursionError:
        raise PeerError(_unreadable(source, topic, "deep nesting", f"at most {DEEPEST} levels")) from None
    except OverflowError as error:
        raise PeerError(_unreadable(source, topic, str(error), "finite numbers within 64 bits")) from None
    except ValueError:
        raise PeerError(_unreadable(source, topic, shown(repr(bytes(content[:40])), 60), "JSON")) from None
    if not isinstance(message, dict):
        raise PeerError(_unreadable(source, topic, shown(message, 60), "an object of keys and values"))
    _check_size(message, source, topic)
    return message


def check(message: dict[str, Any], source: str, topic: str) -> dict[str, Any]:
    """Return `message` if its fields fit the schema of the topic and of the sender `source`, or if there is no schema.

    Raises PeerError: A field is missing or does not fit.
    """
    schema = SCHEMAS.get(topic, {}).get(source)
    wrong = None if schema is None else schema.violation(message)
    if wrong is not None:
        field = shown(".".join(map(str, wrong.path)), 120)
        raise PeerError(_unreadable(source, topic, wrong.got, wrong.expected, field))
    return message


def _unreadable(source: str, topic: str, got: str, expected: str, field: str = "") -> str:
    message = f"its message on {topic!r}" if topic else "its message"
    where = f"{field} in {message}" if field else message
    return f"{source} sent what cannot be read: {where}: got {got}; expected {expected}"


def _check_size(message: Any, source: str, topic: str) -> None:
    """Raise PeerError for deep nesting and long texts, without recursion, so that deep nesting is harmless."""
    waiting = [(message, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise PeerError(_unreadable(source, topic, f"more than {DEEPEST} levels", f"at most {DEEPEST}"))
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise PeerError(_unreadable(source, topic, f"a text of {len(value)} characters", f"at most {LONGEST_TEXT}"))
        if isinstance(value, dict):
            waiting += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]


def _refuse_constant(word: str) -> Any:
    raise OverflowError(word)


def _finite_number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise OverflowError(shown(digits, 40))
    return value


def _small_integer(digits: str) -> int:
    if len(digits) > 21 or not -LARGEST < (value := int(digits)) < LARGEST:
        raise OverflowError(shown(digits, 40))
    return value
