"""What each field of a record may hold. Every check returns the value, or raises InputError by the field's name."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from datetime import datetime

from mpc_appraisal.common.checks import boolean
from mpc_appraisal.common.errors import InputError

OWNERS = ("model_owner", "data_owner")
HOW = ("command", "policy", "stated")  # a request was approved


def number_of(key: str, value: object, kind) -> float | int | None:
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


def mapping_of(key: str, value: object):
    if not isinstance(value, Mapping):
        raise InputError(f"record.{key}", value, "a dictionary")
    return value.items()


def opening_of(opening: object) -> dict:
    if set(dict(mapping_of("openings", opening))) != {"what", "to", "numbers", "why"}:
        raise InputError("record.openings", sorted(opening), "the keys what, to, numbers and why")
    return {
        "what": str(opening["what"]),
        "to": [str(party) for party in opening["to"]],
        "numbers": number_of("openings.numbers", opening["numbers"], operator.index),
        "why": str(opening["why"]),
    }


def text_of(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"record.{key}", value, "a text")
    return value


def sentences_of(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError("record.warnings", value, "a list of texts")
    return tuple(text_of("warnings", each) for each in value)


def truth_of(key: str, value: object) -> bool:
    return boolean(f"record.{key}", value)


def real_of(key: str, value: object) -> float:
    return number_of(key, value, float)


def numbers_of(key: str, value: object) -> float | list[float]:
    if isinstance(value, (list, tuple)):
        return [number_of(key, one, float) for one in value]
    return number_of(key, value, float)


def at_least(least: int, kind=float):
    def check(key: str, value: object) -> float | int:
        number = number_of(key, value, kind)
        if number < least:
            raise InputError(f"record.{key}", number, f"{least} or more")
        return number

    return check


def one_of(choices: tuple[str, ...]):
    def check(key: str, value: object) -> str:
        if value not in choices:
            raise InputError(f"record.{key}", value, f"one of {', '.join(choices)}")
        return value

    return check


def matches(pattern: str, expected: str):
    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise InputError(f"record.{key}", value, expected)
        return value

    return check


def roles_of(key: str, value: object) -> list[str]:
    found = list(value) if isinstance(value, (list, tuple)) else []
    if not found or any(role not in OWNERS for role in found) or len(set(found)) < len(found):
        raise InputError(f"record.{key}", value, f"a list of {', '.join(OWNERS)}, each at most once, not empty")
    return found


def time_of(key: str, value: object) -> str:
    try:
        if datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None:
            return value
    except (AttributeError, ValueError):
        pass
    raise InputError(f"record.{key}", value, "a time with its zone, as in 2026-01-31T12:00:00+00:00")


sha256 = matches("[0-9a-f]{64}", "a SHA-256: 64 hexadecimal digits")
# Of each nested fact: a check for every key, and the keys that must be known.
RELEASE = {
    "kind": matches("[a-z][a-z0-9_]{0,31}", "a release's name, as value, bit, best or dp"),
    "to": roles_of,
    "decision": truth_of,
    "winner": truth_of,
    "rank": at_least(1, operator.index),
    "sigma": at_least(0),
    "sensitivity": at_least(0),
    "deviation": at_least(0),  # standard deviation of all noise, in units of the opened number
    "low": real_of,
    "high": real_of,
    "epsilon": at_least(0),  # of this one answer
    "delta": at_least(0),
    "protects": text_of,
    "answered": truth_of,
    # Of what is told without a value: it is certain only where the value is farther than this from the threshold, or
    # from another candidate's by more than this of both together.
    "uncertain_within": at_least(0),
}
LISTING = {
    "name": matches(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "a listing's name"),  # it is part of a command to copy
    "digest": sha256,  # of the listing's file
    "commitment": sha256,
    "price": at_least(0),
    "currency": matches("[A-Z]{3}", "three capital letters"),
}
REQUEST = {"id": text_of, "digest": sha256, "how": one_of(HOW), "time": time_of}
BUDGET = {
    "ledger": text_of,
    "line": at_least(1, operator.index),
    "head": sha256,
    "counterparty": text_of,
    "epsilon": at_least(0),  # spent by the counterparty, this answer included
    "epsilon_left": at_least(0),
    "delta": at_least(0),
    "plain_left": at_least(0, operator.index),
    "counterparty_key": sha256,  # of its certificate; None: it showed none
}
RECOMPUTE = {
    "l2": at_least(0),
    "settings": lambda key, value: dict(mapping_of(key, value)),  # of the method, by name
    "tolerance": at_least(0),  # of the model's fit
    "mean": numbers_of,  # of the public standardisation: one number, or one for each feature
    "scale": numbers_of,
    "features": text_of,  # digest of the public feature extractor
    "row_norm": at_least(0),  # that rows were cut to
    "inputs": sha256,  # the model owner's commitment to its data and model
}
NESTED = {
    "recompute": (RECOMPUTE, {"l2"}),
    "release": (RELEASE, {"kind", "to", "answered"}),
    "listing": (LISTING, {"name", "digest", "commitment"}),
    "request": (REQUEST, set(REQUEST)),
    "budget": (BUDGET, {"ledger", "head", "counterparty"}),
}


def nested_of(key: str, value: object, checks: Mapping, required: set[str]) -> dict:
    """All keys of `checks`, in that order; None for what is not known."""
    found = dict(mapping_of(key, value))
    if strange := sorted(str(name) for name in set(found) - set(checks)):
        raise InputError(f"record.{key}", ", ".join(strange), f"no other keys than {', '.join(checks)}")
    if missing := sorted(name for name in required if found.get(name) is None):
        raise InputError(f"record.{key}", f"no {', '.join(missing)}", f"the keys {', '.join(sorted(required))}")
    known = ((name, check, found.get(name)) for name, check in checks.items())
    return {name: None if item is None else check(f"{key}.{name}", item) for name, check, item in known}


def check_agreement(release: Mapping, value: float | None, paper_value: float | None) -> None:
    """Refuses what one release cannot have told together."""
    if release["kind"] == "bit" and (value is not None or paper_value is not None):
        raise InputError("record.value", value, "null beside a bit: a bit is all that is told")
    if release["rank"] is not None and release["winner"] is not True:
        raise InputError("record.release.rank", release["rank"], "null for a candidate that is no winner")
    low, high = release["low"], release["high"]
    if (low is None) != (high is None) or (low is not None and low > high):
        raise InputError("record.release.low", low, f"an interval together with release.high, {high}")


def texts_of(value: object):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts_of(key)
            yield from texts_of(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts_of(inner)
