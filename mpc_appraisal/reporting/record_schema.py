"""What each field of a record may hold.

Every check takes a field's name and a value, and returns the value in its plain form, or raises InputError by the name.
`record` calls the checks of a record's own fields; RELEASE, LISTING, REQUEST, BUDGET and RECOMPUTE have a check for
each key of a nested dictionary, and NESTED says which of these keys must be known. A new key may be added, with None
where it is not known. No key may be removed and no check made stricter, because files of earlier versions are read.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, ItemsView, Iterator, Mapping
from datetime import datetime
from typing import Any

from mpc_appraisal.common.checks import boolean
from mpc_appraisal.common.errors import InputError

Check = Callable[[str, object], Any]  # takes a field's name and a value

OWNERS = ("model_owner", "data_owner")
HOW = ("command", "policy", "stated")  # how a request can have been approved


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


def truth_of(key: str, value: object) -> bool:
    """Return True or False. Raises InputError for anything else."""
    return boolean(f"record.{key}", value)


def real_of(key: str, value: object) -> float:
    """Return a finite number, or None for None. Raises InputError for anything else."""
    return number_of(key, value, float)


def numbers_of(key: str, value: object) -> float | list[float]:
    """Return a finite number, or a list of finite numbers. Raises InputError for anything else."""
    if isinstance(value, (list, tuple)):
        return [number_of(key, one, float) for one in value]
    return number_of(key, value, float)


def at_least(least: int, kind: Callable[[Any], float] = float) -> Check:
    """Return a check for a number that is not below `least`."""

    def check(key: str, value: object) -> float | int:
        number = number_of(key, value, kind)
        if number < least:
            raise InputError(f"record.{key}", number, f"{least} or more")
        return number

    return check


def one_of(choices: tuple[str, ...]) -> Check:
    """Return a check for one of these texts."""

    def check(key: str, value: object) -> str:
        if value not in choices:
            raise InputError(f"record.{key}", value, f"one of {', '.join(choices)}")
        return value

    return check


def matches(pattern: str, expected: str) -> Check:
    """Return a check for a text that the pattern matches as a whole."""

    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise InputError(f"record.{key}", value, expected)
        return value

    return check


def roles_of(key: str, value: object) -> list[str]:
    """Return one owner or both, as a list. Raises InputError for anything else."""
    found = list(value) if isinstance(value, (list, tuple)) else []
    if not found or any(role not in OWNERS for role in found) or len(set(found)) < len(found):
        raise InputError(f"record.{key}", value, f"a list of {', '.join(OWNERS)}, each at most once, not empty")
    return found


def time_of(key: str, value: object) -> str:
    """Return a time in ISO 8601, with its zone. Raises InputError for anything else."""
    try:
        if datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None:
            return value
    except (AttributeError, ValueError):
        pass
    raise InputError(f"record.{key}", value, "a time with its zone, as in 2026-01-31T12:00:00+00:00")


sha256 = matches("[0-9a-f]{64}", "a SHA-256: 64 hexadecimal digits")
# What was opened, and to whom. Each nested fact has a check for every key.
RELEASE = {
    "kind": matches("[a-z][a-z0-9_]{0,31}", "a release's name, as value, bit, best or dp"),
    "to": roles_of,
    "decision": truth_of,
    "winner": truth_of,
    "rank": at_least(1, operator.index),
    "sigma": at_least(0),
    "sensitivity": at_least(0),
    "deviation": at_least(0),  # the standard deviation of all noise, in units of the opened number
    "low": real_of,
    "high": real_of,
    "epsilon": at_least(0),  # the privacy loss of this one answer
    "delta": at_least(0),
    "protects": text_of,
    "answered": truth_of,
    # An answer without a value is certain only if the value is farther than this from the threshold, or farther from
    # another candidate's value than this of both together.
    "uncertain_within": at_least(0),
}
# What binds the data to an offer.
LISTING = {
    "name": matches(
        r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?", "a listing's name"
    ),  # The name is part of a command to copy.
    "digest": sha256,  # the digest of the listing's file
    "commitment": sha256,
    "price": at_least(0),
    "currency": matches("[A-Z]{3}", "three capital letters"),
}
# What the data owner approved, and how.
REQUEST = {"id": text_of, "digest": sha256, "how": one_of(HOW), "time": time_of}
# The ledger that was charged, and what is left of its budget.
BUDGET = {
    "ledger": text_of,
    "line": at_least(1, operator.index),
    "head": sha256,
    "counterparty": text_of,
    "epsilon": at_least(0),  # what the counterparty has spent, with this answer
    "epsilon_left": at_least(0),
    "delta": at_least(0),
    "plain_left": at_least(0, operator.index),
    "counterparty_key": sha256,  # the key of the counterparty's certificate; None if it showed none
}
# What is needed beside the data to compute the value again.
RECOMPUTE = {
    "l2": at_least(0),
    "settings": lambda key, value: dict(mapping_of(key, value)),  # the method's settings by name
    "tolerance": at_least(0),  # the tolerance of the model's fit
    "mean": numbers_of,  # the public standardisation: one number, or one for each feature
    "scale": numbers_of,
    "features": text_of,  # the digest of the public feature extractor
    "row_norm": at_least(0),  # the norm that rows were clipped to
    "inputs": sha256,  # the model owner's commitment to its data and model
}
# For each nested fact, its checks and the keys that must be known.
NESTED = {
    "recompute": (RECOMPUTE, {"l2"}),
    "release": (RELEASE, {"kind", "to", "answered"}),
    "listing": (LISTING, {"name", "digest", "commitment"}),
    "request": (REQUEST, set(REQUEST)),
    "budget": (BUDGET, {"ledger", "head", "counterparty"}),
}


def nested_of(key: str, value: object, checks: Mapping, required: set[str]) -> dict:
    """Return a dictionary with all keys of `checks`, in that order; what is not known is None.

    key: the field of the record. required: the keys that must be known. Raises InputError for a missing, a strange or a
    wrong key.
    """
    found = dict(mapping_of(key, value))
    if strange := sorted(str(name) for name in set(found) - set(checks)):
        raise InputError(f"record.{key}", ", ".join(strange), f"no other keys than {', '.join(checks)}")
    if missing := sorted(name for name in required if found.get(name) is None):
        raise InputError(f"record.{key}", f"no {', '.join(missing)}", f"the keys {', '.join(sorted(required))}")
    known = ((name, check, found.get(name)) for name, check in checks.items())
    return {name: None if item is None else check(f"{key}.{name}", item) for name, check, item in known}


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
