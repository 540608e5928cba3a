"""In which settings two public configurations differ, in the words of an error.

In go the values of one key at two parties. Out come the settings that differ, each with both texts. Where the values
are texts of methods or releases, as `repr` writes a dataclass, "Finetuning(steps=4, lr=0.3)", they are taken apart, so
that the error names `Finetuning.steps` and not two long lines. The values come from another party: every text is cut
and made printable, and no more than MOST settings are named. The words may change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from mpc_appraisal.common.text import shown

MOST = 20  # settings that an error names at most
ABSENT = "(absent)"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
CALL = re.compile(r"([A-Za-z_][\w.]*)\((.*)\)", re.DOTALL)
OPENING, CLOSING = "([{<", ")]}>"


def settings_of(text: str) -> tuple[str, dict[str, str]] | None:
    """Return the class and the settings by name of a dataclass's repr; None for another text."""
    match = CALL.fullmatch(text)
    if match is None:
        return None
    found: dict[str, str] = {}
    for part in _split(match[2]):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier():
            return None
        found[name.strip()] = value
    return match[1], found


def _split(text: str) -> list[str]:
    """Return the parts between the commas that stand in no bracket and in no quotation."""
    parts, depth, quote, start, escaped = [], 0, "", 0, False
    for place, c in enumerate(text):
        if quote:
            escaped, ended = c == "\\" and not escaped, c == quote and not escaped
            quote = "" if ended else quote
        elif c in "'\"":
            quote = c
        elif c == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
        else:
            depth += (c in OPENING) - (c in CLOSING)
    return [part for part in [*parts, text[start:]] if part.strip()]


def repr_differences(key: str, ours: Any, theirs: Any) -> list[tuple[str, str, str]] | None:
    """Return the settings that differ between reprs, each with both texts; None for values of another kind.

    Args:
        key: The key of the configuration.
        ours: A repr, or a list of them, at one party.
        theirs: The same at the other party.
    """
    pairs = [(ours, theirs)]
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = list(zip_longest(ours, theirs))
    texts = [each for pair in pairs for each in pair if each is not None]
    if not all(isinstance(each, str) and (CALL.fullmatch(each) or ADDRESS.search(each)) for each in texts):
        return None
    return [line for pair in pairs if pair[0] != pair[1] for line in _of_one(key, *pair)][:MOST] or None


def _of_one(key: str, ours: str | None, theirs: str | None) -> Iterator[tuple[str, str, str]]:
    first, second = (settings_of(text or "") for text in (ours, theirs))
    if first is None or second is None or first[0] != second[0] or first[1] == second[1]:
        yield key, shown(ours or ABSENT), _with_advice(shown(theirs or ABSENT), ours, theirs)
        return
    for name in dict.fromkeys([*first[1], *second[1]]):
        a, b = first[1].get(name), second[1].get(name)
        if a != b:
            text = _with_advice(shown(b or ABSENT), a, b)
            yield f"{key}: {shown(first[0], 40)}.{shown(name, 40)}", shown(a or ABSENT), text


def _with_advice(text: str, *both: str | None) -> str:
    """Add what to do where a text holds an address in memory, which is another one in every process."""
    if all(each is not None and ADDRESS.search(each) for each in both):
        return f"{text} (an address in memory differs in every process: make the class a frozen dataclass)"
    return text
