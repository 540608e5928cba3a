"""What another role's note says: whatever does not read as it should is that role's fault, and named so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpc_appraisal.errors import PeerError

ID_BYTES = 16


@contextmanager
def told_by(role: str) -> Iterator[None]:
    """PeerError, naming `role`, where the block cannot read what it told."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(f"{role} told what cannot be read ({type(error).__name__})") from error


def id_of(text: str) -> bytes:
    """An upload's id or nonce from its hex. ValueError unless it has 16 bytes."""
    found = bytes.fromhex(text)
    if len(found) != ID_BYTES:
        raise ValueError(f"{len(found)} bytes")
    return found


def count_of(value: object, least: int = 0) -> int:
    """A whole number, `least` or more. ValueError for others."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError("no count")
    return value
