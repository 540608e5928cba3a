"""Errors of a run in the words of a call of `appraise`.

An InputError names a key of the configuration, such as party.train. Whoever calls `appraise` from Python has stated no
such key but an argument. In goes an error; out comes the same error by the argument's name. A key may be added; one
that no argument of `appraise` states has to stay as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from mpc_appraisal.common.errors import InputError

ARGUMENTS = (
    (re.compile(r"\bparty\.(train|test|data|model|threshold)\b"), r"\1"),
    (re.compile(r"\bmodel\.l2\b"), "l2"),
    (re.compile(r"^appraisal\b"), "method"),
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
        renamed = InputError(*found)
        renamed.__notes__ = list(getattr(error, "__notes__", ()))
        raise renamed from error


def in_words_of_arguments(text: str) -> str:
    """Return a text with arguments' names in place of keys."""
    for key, argument in ARGUMENTS:
        text = key.sub(argument, text)
    return text
