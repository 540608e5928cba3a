"""What another role's note says: whatever does not read as it should is that role's fault, and named so."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import PeerError

ID_BYTES = 16


@contextmanager
def announced_by(role: str) -> Iterator[None]:
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


def count_of(value: object, least: int = 0, most: int | None = None) -> int:
    """A whole number, `least` or more, and `most` at most. ValueError for others."""
    if not is_integer(value) or value < least or (most is not None and value > most):
        raise ValueError("no count")
    return value


def names_of(value: object, known: Collection[str]) -> list[str]:
    """Names among `known`, each once. ValueError for others."""
    if not isinstance(value, list) or len(set(value)) != len(value) or not set(value) <= set(known):
        raise ValueError("no list of names")
    return value
