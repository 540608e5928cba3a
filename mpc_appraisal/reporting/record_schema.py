"""What each field of a record may hold.

RELEASE, LISTING, REQUEST, BUDGET, RECOMPUTE, OVERLAP and RESOLUTION are the JSON schemas of a record's nested
dictionaries; `nested_of` makes their numbers plain and checks them. `record` calls the checks of a record's own fields,
which take a field's name and a value, and return the value in its plain form. All raise InputError by the field's name.
A new key may be added, with None where it is not known. No key may be removed and no check made stricter, because files
of earlier versions are read.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, ItemsView, Iterator, Mapping
from numbers import Integral
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.common.schema import (
    LARGEST,
    Part,
    Schema,
    hexadecimal,
    many,
    matching,
    nullable,
    number,
    one_of,
    record,
    whole,
    zoned_time,
)

HOW = ("command", "policy", "stated", "offer")  # how a request can have been approved


def number_of(key: str, value: object, kind: Callable[[Any], float]) -> float | int | None:
    """Return a finite number that `kind` converts, or None for None. Raises InputError for anything else."""
    if value is None:
        return None
    try:
        if isinstance(value, (str, bool)):
            raise TypeError
        number = kind(value)
    except (TypeError, ValueError):
        raise InputError(f"record.{key}", value, "a number" if kind is float else "a whole number") from None
    if not math.isfinite(number):
        raise InputError(f"record.{key}", number, "a finite number")
    return number


def mapping_of(key: str, value: object) -> ItemsView:
    """Return the pairs of a dictionary. Raises InputError for anything else."""
    if not isinstance(value, Mapping):
        raise InputError(f"record.{key}", value, "a dictionary")
    return value.items()


def opening_of(opening: object) -> dict:
    """Return one opening in its plain form: what was opened to whom, how many numbers, and why.

    Raises InputError for other keys or a bad number.
    """
    if set(dict(mapping_of("openings", opening))) != {"what", "to", "numbers", "why"}:
        raise InputError("record.openings", sorted(opening), "the keys what, to, numbers and why")
    return {
        "what": str(opening["what"]),
        "to": [str(party) for party in opening["to"]],
        "numbers": number_of("openings.numbers", opening["numbers"], operator.index),
        "why": str(opening["why"]),
    }


def digest_of(key: str, value: object) -> str:
    """Return a SHA-256 in 64 hexadecimal digits. Raises InputError for anything else."""
    Schema(hexadecimal(64)).check(value, f"record.{key}")
    return str(value)


def text_of(key: str, value: object) -> str:
    """Return a text that is not blank. Raises InputError for anything else."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"record.{key}", value, "a text")
    return value


def sentences_of(value: object) -> tuple[str, ...]:
    """Return the warnings, each a text. Raises InputError for anything else."""
    if not isinstance(value, (list, tuple)):
        raise InputError("record.warnings", value, "a list of texts")
    return tuple(text_of("warnings", each) for each in value)


def settings_of(value: object) -> dict[str, Any]:
    """Return the settings of a run in their plain form: a number, a text, true, false, null or a list of such by name.

    Raises InputError for anything else, for a number that is not finite, and for a threshold, which is secret.
    """
    found = {}
    for key, setting in mapping_of("settings", value):
        text_of("settings", key)
        if key.rsplit(".", 1)[-1] == "threshold":
            raise InputError(f"record.settings.{key}", setting, "no threshold, because a threshold is secret")
        several = isinstance(setting, (list, tuple))
        found[key] = [_setting(key, each) for each in setting] if several else _setting(key, setting)
    return found


def _setting(key: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    return number_of(f"settings.{key}", value, lambda one: int(one) if isinstance(one, Integral) else float(one))


def _facts(required: tuple[str, ...], **properties: Part) -> Schema:
    """Return the schema of a nested dictionary, whose keys are written in this order."""
    closed = {"type": "object", "additionalProperties": False}
    return Schema(closed | {"required": list(required), "properties": properties})


SHA256 = hexadecimal(64)
TEXT = {"type": "string", "pattern": r"\S", "description": "a text"}
TRUTH = {"type": "boolean", "description": "true or false"}
NUMBERS = number() | {
    "type": ["number", "array"],
    "items": nullable(number()),
    "description": "a finite number, or a list of them",
}
ROLES = {
    "type": "array",
    "items": one_of(*OWNERS),
    "minItems": 1,
    "uniqueItems": True,
    "description": f"a list of {', '.join(OWNERS)}, each at most once, not empty",
}
# What was opened, and to whom.
RELEASE = _facts(
    ("kind", "to", "answered"),
    kind=matching("[a-z][a-z0-9_]{0,31}", "a release's name, as value, bit, best or dp"),
    to=ROLES,
    decision=TRUTH,
    winner=TRUTH,
    rank=whole(1, LARGEST),
    sigma=number(0),
    sensitivity=number(0),
    deviation=number(0),  # the standard deviation of all noise, in units of the opened number
    low=number(),
    high=number(),
    epsilon=number(0),  # the privacy loss of this one answer
    delta=number(0),
    protects=TEXT,
    answered=TRUTH,
    # An answer without a value is certain only if the value is farther than this from the threshold, or farther from
    # another candidate's value than this of both together.
    uncertain_within=number(0),
)
# What binds the data to an offer.
LISTING = _facts(
    ("name", "digest", "commitment"),
    name=matching("[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "a listing's name"),  # a part of a command to copy
    digest=SHA256,  # the digest of the listing's file
    commitment=SHA256,
    price=number(0),
    currency=matching("[A-Z]{3}", "three capital letters"),
)
# A standing offer of the data owner, with the price of one answer.
OFFER = record(
    {"price": record(amount=number(0), currency=matching("[A-Z]{3}", "three capital letters"))},
    name=matching("[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "an offer's name"),
    digest=SHA256,
)
# What the data owner approved, and how.
REQUEST = _facts(
    ("id", "digest", "how", "time"),
    id=TEXT,
    digest=SHA256,
    how=one_of(*HOW),
    time=zoned_time(),
    purpose=record(kind=TEXT, text={"type": "string"}),  # what the model owner asked for, as it stated it
    offer=OFFER,  # the standing offer that the model owner named; it gave the yes where `how` is "offer"
)
# The ledger that was charged, and what is left of its budget.
BUDGET = _facts(
    ("ledger", "head", "counterparty"),
    ledger=TEXT,
    line=whole(1, LARGEST),
    head=SHA256,
    counterparty=TEXT,
    epsilon=number(0),  # what the counterparty has spent, with this answer
    epsilon_left=number(0),
    delta=number(0),
    plain_left=whole(0, LARGEST),
    counterparty_key=SHA256,  # the key of the counterparty's certificate; None if it showed none
    renews=TEXT,  # the calendar by which the budget renews; this and what follows only where it does
    period=TEXT,  # the period that epsilon and plain_left count
    renews_at=zoned_time(),
    epsilon_total=number(0),  # over all periods
    plain_total=whole(0, LARGEST),
)
# What is needed beside the data to compute the value again.
RECOMPUTE = _facts(
    ("l2",),
    l2=number(0),
    settings={"type": "object"},  # the method's settings by name
    tolerance=number(0),  # the tolerance of the model's fit
    mean=NUMBERS,  # the public standardisation: one number, or one for each feature
    scale=NUMBERS,
    features=TEXT,  # the digest of the public feature extractor
    row_norm=number(0),  # the norm that rows were clipped to
    group_norm=number(0),  # the bound that the norms of one person's rows were cut to, where it is the smaller one
    inputs=SHA256,  # the model owner's commitment to its data and model
    model=TEXT,  # the kind of model, where it is not softmax regression
)
# Keys that are left out where they are not known, so that records stay as they were without them.
LEFT_OUT = ("model", "purpose", "offer")
# What the owners counted before the appraisal: how many of the data owner's rows or keys the model owner has already.
OVERLAP = _facts(
    ("what", "minimum", "items"),
    what=one_of("rows", "keys"),
    column=TEXT,  # the column of the keys
    columns=one_of("name", "position"),  # how the columns of rows were compared
    minimum=whole(1, LARGEST),
    items=record(model_owner=whole(1), data_owner=whole(1)),  # different ones
    count=whole(0, LARGEST),  # None at the model owner where it is below the minimum
    fewer_than=whole(1, LARGEST),  # what the model owner was shown in place of the count
    seconds=number(0),  # of the owner that took longer
    bytes_sent=record(model_owner=whole(0), data_owner=whole(0)),
    rounds=whole(0),
    revealed=many(TEXT),  # to whom, in sentences
    trust=TEXT,
)
# The resolution of all candidates: every number of theirs is k / scale for an integer k of at most so many bits.
RESOLUTION = _facts(("scale", "bits"), scale=whole(1, LARGEST), bits=whole(1, 64))
NESTED = {
    "resolution": RESOLUTION,
    "overlap": OVERLAP,
    "recompute": RECOMPUTE,
    "release": RELEASE,
    "listing": LISTING,
    "request": REQUEST,
    "budget": BUDGET,
}


def nested_of(key: str, value: object, schema: Schema) -> dict:
    """Return a dictionary with all keys of the schema, in its order; what is not known is None, or left out (LEFT_OUT).

    key: the field of the record. Raises InputError for a missing, a strange or a wrong key.
    """
    parts = schema.part["properties"]
    found = {
        name: _plain(item, parts.get(name, {}))
        for name, item in mapping_of(key, value)
        if item is not None or name not in parts
    }
    schema.check(found, f"record.{key}")
    return {name: found.get(name) for name in parts if name in found or name not in LEFT_OUT}


def _plain(value: object, part: Part) -> Any:
    """Return numbers, lists and dictionaries of any kind as those of Python; anything else is left to the schema."""
    kinds = part.get("type", ())
    if "array" in kinds and isinstance(value, (list, tuple)):
        return [_plain(one, part["items"]) for one in value]
    if kinds == "object" and isinstance(value, Mapping):
        return dict(value)
    convert = float if "number" in kinds else operator.index if "integer" in kinds else None
    if convert is None or isinstance(value, (str, bool)):
        return value
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        return value


def check_agreement(release: Mapping, value: float | None, paper_value: float | None) -> None:
    """Raise InputError for facts that one release cannot have opened together."""
    if release["kind"] == "bit" and (value is not None or paper_value is not None):
        raise InputError("record.value", value, "null beside a bit, because nothing else is released")
    if release["rank"] is not None and release["winner"] is not True:
        raise InputError("record.release.rank", release["rank"], "null for a candidate that is no winner")
    low, high = release["low"], release["high"]
    if (low is None) != (high is None) or (low is not None and low > high):
        raise InputError("record.release.low", low, f"an interval together with release.high, {high}")


def texts_of(value: object) -> Iterator[str]:
    """Yield every text in nested dictionaries and lists, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_of(key)
            yield from texts_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_of(inner)
