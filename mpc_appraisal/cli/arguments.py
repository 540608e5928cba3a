"""Arguments of subcommands that are written KEY=VALUE: how they are told from other arguments, and read as values.

In go the words of the command line; out come texts by key, numbers and truth values. A value that cannot be read raises
InputError with the key, the text and what was expected. A reader for another kind of value may be added. Numbers from
2^53 on have to stay refused, because a float does not tell all whole numbers apart from there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown


def split(arguments: Sequence[str], keys: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Separate KEY=VALUE of these keys from all other arguments. A key that is repeated counts as another argument."""
    stated: dict[str, str] = {}
    others: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in keys and key not in stated:
            stated[key] = value
        else:
            others.append(argument)
    return stated, others


def number(key: str, text: str, kind: type) -> Any:
    """Read a finite number below 2^53 in size. Raises InputError, under `key`, for any other text.

    kind: int or float.
    """
    try:
        value = kind(text)
        if abs(value) < 2.0**53:  # false for NaN and for the infinite ones
            return value
    except ValueError:
        pass
    raise InputError(key, shown(repr(text)), "a whole number" if kind is int else "a finite number")


def yes_or_no(key: str, text: str) -> bool:
    """Read yes as true and no as false. Raises InputError, under `key`, for any other text."""
    if text not in ("yes", "no"):
        raise InputError(key, shown(repr(text)), "yes or no")
    return text == "yes"
