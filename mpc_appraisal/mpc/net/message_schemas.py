"""What the JSON messages of a session may contain: one schema for each topic and sender.

A message is JSON that another party made, so nothing in it is trusted. `read` takes its bytes, the sender's role and
the topic, and returns a dictionary whose fields fit the schema. It raises PeerError, which names the sender, for bytes
that are not JSON, NaN, infinities, numbers beyond 64 bits, deep nesting, long texts, and missing or ill-typed fields.
Fields that no schema names are ignored, so that a party of a later version can take part. The file `messages` sends the
messages of the marketplace, whose fields the marketplace's roles check.

A new field of a message gets a line in `SCHEMAS`, and is optional at first, because parties of an earlier version do
not send it. The names and types of existing fields have to stay, since parties of two versions exchange them.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS
from mpc_appraisal.common.text import shown

LONGEST_MESSAGE = 6 << 20  # bytes; torch's store ends a connection that sends 8 MiB
LONGEST_TEXT = 5 << 20  # characters; encrypted answers travel as one text
LONGEST_LINE = 4096  # bytes that are read of the reason with which a party stops
DEEPEST = 32  # levels of nesting
LARGEST = 2**64  # absolute value of integers, exclusive
COUNT = 2**53  # the largest count; float64 holds it exactly

Schema = dict[str, Any]


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _with(schema: Schema, **optional: Schema) -> Schema:
    """Return the schema of the same object with additional optional fields."""
    return schema | {"properties": schema["properties"] | optional}


def _text(longest: int, shortest: int = 1, pattern: str | None = None) -> Schema:
    found = {"type": "string", "minLength": shortest, "maxLength": longest}
    return found if pattern is None else found | {"pattern": pattern}


def _whole(least: int, most: int = COUNT) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _number(most: float = 2.0**63) -> Schema:
    return {"type": "number", "minimum": 0, "maximum": most}


def _list(items: Schema, least: int = 0, most: int = 1 << 20) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _map(values: Schema, keys: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values, "propertyNames": keys}


def _hex(digits: int) -> Schema:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{digits}}}$(?!\n)"}


SHA256, COUNTS = _hex(64), _list(_whole(0))
SELLER = _text(64, pattern=r"^[a-z0-9][a-z0-9_-]*$(?!\n)")
LISTING = _object(name=_text(64, pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$(?!\n)"), digest=SHA256, commitment=SHA256)
LISTING["properties"] |= {
    "price": {"type": ["number", "null"], "minimum": 0},
    "currency": {"type": ["string", "null"], "pattern": r"^[A-Z]{3}$(?!\n)"},
}
LISTING["required"] += ["price", "currency"]
NORM = {"type": "number", "minimum": 2.0**-30, "maximum": 2.0**63}
ROW_NORM = NORM | {"minimum": 1}  # the constant feature has norm 1
REHEARSAL = _object(bytes_sent=COUNTS, rounds=COUNTS, dealt=COUNTS, work=COUNTS) | {"additionalProperties": False}
COST = _object(seconds=_number(), bytes=_whole(0), rounds=_whole(0))

# By topic and sender. A new field is optional at first, because parties of an earlier version do not send it.
SCHEMAS: dict[str, dict[str, Schema]] = {
    "meet": {MODEL_OWNER: _object(address={"type": ["string", "null"], "maxLength": 300})},
    "config": dict.fromkeys((*OWNERS, DEALER), _object(digest=_text(128), public={"type": "object"})),
    "facts": {
        MODEL_OWNER: _object(
            features=_whole(1, 2**31), classes=_whole(1, 2**31), train_rows=_whole(0), test_rows=_whole(0)
        ),
        DATA_OWNER: _object(
            candidates=_list(
                _object(
                    name=_text(200),
                    rows=_whole(1),
                    features=_whole(1, 2**31),
                    listing={"anyOf": [{"type": "null"}, LISTING]},
                ),
                least=1,
            )
        ),
    },
    "ready": {
        MODEL_OWNER: _with(_object(row_norm=ROW_NORM, weight_norm=NORM), spread=NORM, direction_spread=NORM),
        DATA_OWNER: _object(row_norm=ROW_NORM),
    },
    "classes": {
        MODEL_OWNER: _with(_object(), without_rows={"anyOf": [{"type": "null"}, _whole(0, 2**31)]}),
        DATA_OWNER: _with(_object(), without_rows={"anyOf": [{"type": "null"}, _map(_whole(0, 2**31), _text(200))]}),
    },
    "answers": {MODEL_OWNER: _object(taken=_list(_list(_text(200), 2, 2)))},
    "request": {
        MODEL_OWNER: _object(digest=SHA256, inputs=SHA256, key=SHA256),
        DATA_OWNER: _object(digest=SHA256),
        DEALER: _object(digest=SHA256),
    },
    "approval": {
        DATA_OWNER: _object(
            how={"enum": ["command", "policy", "stated"]},
            time=_text(40, pattern="^[0-9T:+.Z-]*$(?!\n)"),
            answered=_list(_list(_text(200), 2, 2)),
            sealed=_object(key=SHA256, text={"type": "string", "pattern": "^([0-9a-f]{2})*$(?!\n)"}),
        )
    },
    "costs": {
        DEALER: _object(bytes=COUNTS),
        **dict.fromkeys(OWNERS, _object(bytes=COUNTS, rounds=COUNTS, expected=_list(REHEARSAL), rate=_number())),
    },
    "registry": {
        DEALER: _object(sellers=_map(_object(verify_key=SHA256, key_id=_text(200)), SELLER)),
    },
    "offers": dict.fromkeys(
        (*OWNERS, DEALER),
        _object(rows=_map(_whole(1), SELLER), ids=_map(_hex(32), SELLER), refused=_map(_text(2000, 0), _text(200))),
    ),
    "bill": dict.fromkeys((*OWNERS, DEALER), _map(COST, _text(40))),
    "line": dict.fromkeys((*OWNERS, DEALER), _object(host=_text(300), port=_whole(1, 65535), token=_hex(32))),
}
SCHEMAS["ready"][MODEL_OWNER]["properties"]["spread"] = _number()


def printable(words: bytes | bytearray, longest: int = LONGEST_LINE) -> str:
    """Return another party's text as one line that may be printed; control characters and line ends are escaped."""
    return shown(bytes(words[:longest]).decode("utf-8", "replace"), longest)


def read(text: bytes, source: str, topic: str) -> dict[str, Any]:
    """Return the message of the role `source` on `topic`, read from the bytes `text`.

    Raises PeerError, which names the party, the topic and the field, for a message that does not fit.
    """
    return check(parse(text, source, topic), source, topic)


def parse(text: bytes, source: str, topic: str) -> dict[str, Any]:
    """Return the JSON object that the role `source` sent as `text`, whatever its fields are.

    Raises PeerError: The text is too long, is no JSON object, or contains what the top of this file excludes.
    """
    if len(text) > LONGEST_MESSAGE:
        raise PeerError(_unreadable(source, topic, f"{len(text)} bytes", f"at most {LONGEST_MESSAGE}"))
    try:
        message = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite_number, parse_int=_small_integer
        )
    except RecursionError:
        raise PeerError(_unreadable(source, topic, "deep nesting", f"at most {DEEPEST} levels")) from None
    except OverflowError as error:
        raise PeerError(_unreadable(source, topic, str(error), "finite numbers within 64 bits")) from None
    except ValueError:
        raise PeerError(_unreadable(source, topic, shown(repr(bytes(text[:40])), 60), "JSON")) from None
    if not isinstance(message, dict):
        raise PeerError(_unreadable(source, topic, shown(message, 60), "an object of keys and values"))
    _check_size(message, source, topic)
    return message


def check(message: dict[str, Any], source: str, topic: str) -> dict[str, Any]:
    """Return `message` if its fields fit the schema of the topic and of the sender `source`, or if there is no schema.

    Raises PeerError: A field is missing or does not fit.
    """
    schema = SCHEMAS.get(topic, {}).get(source)
    if schema is None:
        return message
    from jsonschema.exceptions import best_match

    error = best_match(_validator(topic, source).iter_errors(message))
    if error is not None:
        field = shown(".".join(str(key) for key in error.absolute_path), 120)
        raise PeerError(_unreadable(source, topic, *_describe(error), field))
    return message


@cache
def _validator(topic: str, source: str) -> Any:
    from jsonschema import Draft202012Validator, validators  # imported here, because it takes a tenth of a second

    # JSON Schema accepts 3.0 as an integer, but `range` and shapes do not
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return validators.extend(Draft202012Validator, type_checker=types)(SCHEMAS[topic][source])


def _describe(error: Any) -> tuple[str, str]:
    """Return what the message contains and what was expected, in words, for an error of jsonschema."""
    rule, against = error.validator, error.validator_value
    if rule == "required":
        return f"no {', '.join(key for key in against if key not in error.instance)}", f"all of {', '.join(against)}"
    words = {
        "type": " or ".join(map(str, against)) if isinstance(against, list) else str(against),
        "enum": f"one of {shown(', '.join(map(str, against)) if isinstance(against, list) else against)}",
        "minimum": f"{against} or more",
        "exclusiveMinimum": f"more than {against}",
        "maximum": f"at most {against}",
        "minLength": f"{against} characters or more",
        "maxLength": f"at most {against} characters",
        "minItems": f"{against} or more of them",
        "maxItems": f"at most {against} of them",
        "additionalProperties": "no other fields",
        "pattern": f"a text like {shown(str(against), 40)}",
    }
    return shown(repr(error.instance), 80), words.get(rule, shown(error.message, 80))


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


def _refuse_constant(text: str) -> Any:
    raise OverflowError(text)


def _finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise OverflowError(shown(text, 40))
    return number


def _small_integer(text: str) -> int:
    if len(text) > 21 or not -LARGEST < (number := int(text)) < LARGEST:
        raise OverflowError(shown(text, 40))
    return number
