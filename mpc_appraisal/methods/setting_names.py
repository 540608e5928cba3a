"""How errors of a run name the settings of methods: by appraisal.METHOD.SETTING, or appraisal.SETTING.

The app gives them the whole key (`cli.config.in_full`), and Python the name of the argument of the method's class. A
setting may have any name, because a method may be the caller's own.
"""

from __future__ import annotations

import re

IDENTIFIER = "[a-z][a-z0-9_]*"
NAMED = re.compile(rf"\bappraisal\.(?:({IDENTIFIER})\.)?({IDENTIFIER})\b")
OF_METHODS = (NAMED, r"\2")
_ARGUMENTS = (
    OF_METHODS,
    (re.compile(r"^appraisal\b"), "methods"),
    (re.compile(r"\bparty\.(train|test)\b"), r"\1"),
    (re.compile(r"\bmodel\.l2\b"), "l2"),
)


def in_words_of_preflight(text: str) -> str:
    """Return a text with the names of arguments of `preflight` in place of keys."""
    for key, argument in _ARGUMENTS:
        text = key.sub(argument, text)
    return text
