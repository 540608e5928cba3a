"""The shape of a request's content, closed at every level, and of the JSON that it comes in.

A field that is not known is refused, so that nothing can be asked for that the text does not show.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

FORMAT = "mpc_appraisal request 1"
KINDS = re.compile("[a-z][a-z0-9_]{0,31}")
ROLES = ("model_owner", "data_owner", "dealer")
LARGEST = 2**53  # of whole numbers: beyond it JSON readers differ

Check = Callable[[Any, str], None]  # of a value and what errors call it; raises InputError


def read_json(text: str) -> Any:
    """JSON whose keys are stated once and whose numbers are finite; raises ValueError, RecursionError."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a key is stated twice among {', '.join(key for key, _ in pairs)}")
    return dict(pairs)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"{text} is no finite number")
    return float(text)


def leaf(expected: str, holds: Callable[[Any], bool]) -> Check:
    def check(value: Any, where: str) -> None:
        if not holds(value):
            raise InputError(where, shown(repr(value) if isinstance(value, str) else value), expected)

    return check


def closed(optional: dict[str, Check] | None = None, **fields: Check) -> Check:
    """An object with all of these fields, perhaps the optional ones, and no other."""
    more = optional or {}

    def check(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise InputError(where, shown(value), "an object")
        wrong = [
            *(f"no {key}" for key in fields if key not in value),
            *(repr(k) for k in value if k not in {**fields, **more}),
        ]
        if wrong:
            raise InputError(where, shown(", ".join(wrong)), f"exactly {', '.join(fields)}")
        for key, field in {**fields, **more}.items():
            if key in value:
                field(value[key], f"{where}.{key}")

    return check


def many(item: Check, least: int = 1) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not list or len(value) < least:
            raise InputError(where, shown(value), f"a list of {least} or more")
        for k, one in enumerate(value):
            item(one, f"{where}[{k}]")

    return check


def mapping(key: Check, item: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise InputError(where, shown(value), "an object")
        for name, one in value.items():
            key(name, f"{where}, a key")
            item(one, f"{where}.{shown(name)}")

    return check


def maybe(item: Check) -> Check:
    return lambda value, where: None if value is None else item(value, where)


def text(most: int, least: int = 1) -> Check:
    return leaf(f"a text of {least} to {most} characters", lambda v: type(v) is str and least <= len(v) <= most)


def whole(least: int) -> Check:
    return leaf(f"a whole number, {least} or more", lambda v: type(v) is int and least <= v <= LARGEST)


def number(least: float = -math.inf, below: float = math.inf) -> Check:
    words = "a finite number" if least == -math.inf else f"a finite number, {least:g} or more"
    words += "" if below == math.inf else f" and below {below:g}"
    return leaf(words, lambda v: type(v) in (int, float) and least <= v < below and math.isfinite(v))


def hexadecimal(digits: int) -> Check:
    return leaf(
        f"{digits} hex digits", lambda v: type(v) is str and re.fullmatch(f"[0-9a-f]{{{digits}}}", v) is not None
    )


def one_of(*choices: str) -> Check:
    return leaf(f"one of {', '.join(choices)}", lambda v: type(v) is str and v in choices)


NAME, WORDS, ROLE = text(200), text(4000, 0), one_of(*ROLES)
KIND = leaf("a release's name, as value, bit, best or dp", lambda v: type(v) is str and KINDS.fullmatch(v) is not None)
CONTENT = closed(
    optional={
        "keys": mapping(ROLE, hexadecimal(64)),  # by role SHA-256 of the certificate's key; where it was shown
        "compared": many(WORDS),  # requests made before it was known lie on desks
    },
    format=one_of(FORMAT),
    methods=many(closed(name=NAME, settings=WORDS, opens=WORDS)),
    model=closed(
        features=whole(1), classes=whole(2), train_rows=maybe(whole(0)), test_rows=maybe(whole(0)), l2=number(0)
    ),
    candidates=many(
        closed(
            name=NAME,
            rows=whole(1),
            listing=maybe(
                closed(name=NAME, digest=NAME, commitment=NAME, price=maybe(number(0)), currency=maybe(NAME))
            ),
        )
    ),
    release=closed(kind=KIND, words=WORDS),
    openings=many(
        closed(what=WORDS, to=many(ROLE), numbers=whole(1), why=WORDS, times=whole(1), method=NAME),
    ),
    privacy=maybe(
        closed(
            mechanism=NAME,
            sigma=number(0),
            epsilon=number(0),
            delta=number(0, 1),
            row_norm=number(0),
            protects=WORDS,
            sensitivity=mapping(text(500), number(0)),
        )
    ),
    told=mapping(ROLE, mapping(NAME, number())),
    protocol=closed(engine=NAME, transport=NAME, trust=WORDS),
    config=leaf("16 hex digits", lambda v: type(v) is str and re.fullmatch("[0-9a-f]{16}", v) is not None),
)
