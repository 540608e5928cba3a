"""Errors by the name that the user has stated: an argument in Python, and a key of the configuration in the app.

An InputError of a run names a key, such as party.train. Whoever calls `appraise` from Python has stated no such key but
an argument, and `by_argument` gives its errors the argument's name. An object that is made in Python too, such as a
method, a release or a scenario, names its own arguments, and `by_key` gives its errors the key of the configuration.
Keys such as session.engine and release.ceiling stay: in Python they are attributes of the arguments `session` and
`release`. A key may be added; one that no argument of `appraise` states has to stay as it is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from mpc_appraisal.appraisal.plan import DisclosureControls
from mpc_appraisal.common.errors import InputError

ARGUMENTS = (
    (re.compile(r"\bparty\.(train|test|data|model|threshold|resolution)\b"), r"\1"),
    (re.compile(rf"\bparty\.({'|'.join(each.name for each in fields(DisclosureControls))})\b"), r"controls.\1"),
    (re.compile(r"\bmodel\.l2\b"), "l2"),
    (re.compile(r"^appraisal\b"), "method"),
    (re.compile(r"^evaluate\.measures\b"), "evaluate"),
)


@contextmanager
def by_argument() -> Iterator[None]:
    """Raise an InputError of the block by the name of the argument that the caller of `appraise` has stated."""
    try:
        yield
    except InputError as error:
        texts = (error.name, error.value, error.expected)
        found = [in_words_of_arguments(text) if isinstance(text, str) else text for text in texts]
        if found == list(texts):
            raise
        raise _renamed(error, *found) from error


@contextmanager
def by_key(group: str, settings: Container[str]) -> Iterator[None]:
    """Raise an InputError of the block that names one of a group's settings by its key, GROUP.SETTING.

    A name may go on after the setting, as in "prices.seller_a".
    """
    try:
        yield
    except InputError as error:
        if error.name.partition(".")[0] not in settings:
            raise
        raise _renamed(error, f"{group}.{error.name}", error.value, error.expected) from error


def _renamed(error: InputError, name: str, value: Any, expected: str) -> InputError:
    renamed = InputError(name, value, expected)
    renamed.__notes__ = list(getattr(error, "__notes__", ()))
    return renamed


def in_words_of_arguments(text: str) -> str:
    """Return a text with arguments' names in place of keys."""
    for key, argument in ARGUMENTS:
        text = key.sub(argument, text)
    return text
