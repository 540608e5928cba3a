"""Text of strangers, made safe for a terminal and for a page.

Any text goes in; a printable one of limited length comes out.
"""

from __future__ import annotations

import re
from typing import Any

# An absolute or home path, a Windows drive, an address, or a relative path to a data file.
PLACE = re.compile(r"(^|[\s'\"(=,\[])(~[/\\]|/[^\s/]|[A-Za-z]:[\\/])|://|[/\\][^/\\]*\.[A-Za-z]\w*$")


def shown(value: Any, longest: int = 80) -> str:
    """A foreign value as one line for a terminal. Characters that are not printable are escaped; long text is cut."""
    text = value if isinstance(value, str) else repr(value)
    text = printable(text[: 2 * longest])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def printable(text: str, newlines: bool = False) -> str:
    """`text` with control characters, terminal escapes and marks of writing direction escaped, as in \\x1b."""
    return "".join(
        c if c.isprintable() or (newlines and c == "\n") else c.encode("unicode_escape").decode() for c in text
    )
