"""Text of strangers, made safe for a terminal and for a page.

Any text goes in; a printable one comes out, and `shown` limits its length too. The limit may change. Control
characters, terminal escapes and marks of writing direction have to be escaped, since a stranger may write them in a
name or a message.
"""

from __future__ import annotations

import re
from typing import Any

# An absolute or home path, a Windows drive, an address, or a relative path to a data file.
PLACE = re.compile(r"(^|[\s'\"(=,\[])(~[/\\]|/[^\s/]|[A-Za-z]:[\\/])|://|[/\\][^/\\]*\.[A-Za-z]\w*$")
# An address that a page may link to: no other scheme, no user or password, and no character that ends it early.
WEB_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?([/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?")


def is_web_address(text: str) -> bool:
    """Say whether a text is an address of http or https, in ASCII and of at most 2000 characters."""
    return len(text) <= 2000 and WEB_ADDRESS.fullmatch(text) is not None


def shown(value: Any, longest: int = 80) -> str:
    """Return a foreign value as one line for a terminal, of at most `longest` characters.

    Characters that are not printable are escaped, and a long text is cut.
    """
    text = value if isinstance(value, str) else repr(value)
    text = printable(text[: 2 * longest])
    return text if len(text) <= longest else text[: longest - 1] + "…"


def printable(text: str, newlines: bool = False) -> str:
    """Return `text` with control characters, terminal escapes and marks of writing direction escaped, as in \\x1b.

    newlines: whether ends of lines stay as they are.
    """
    return "".join(
        c if c.isprintable() or (newlines and c == "\n") else c.encode("unicode_escape").decode() for c in text
    )
