"""Text of strangers, made fit for a terminal and for a page."""

from __future__ import annotations

import re
from typing import Any

# An absolute or home path, a Windows drive, an address, or a relative path to a data file.
PLACE = re.compile(r"(^|[\s'\"(=,\[])(~[/\\]|/[^\s/]|[A-Za-z]:[\\/])|://|[/\\][^/\\]*\.[A-Za-z]\w*$")


def shown(value: Any, longest: int = 80) -> str:
    """Foreign text for one line of a terminal: what is not printable is escaped, what is long is cut."""
    text = value if isinstance(value, str) else repr(value)
    text = printable(text[: 2 * longest])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def printable(text: str, newlines: bool = False) -> str:
    """`text` with control characters, terminal escapes and marks of writing direction as \\x.., not as themselves."""
    return "".join(
        c if c.isprintable() or (newlines and c == "\n") else c.encode("unicode_escape").decode() for c in text
    )
