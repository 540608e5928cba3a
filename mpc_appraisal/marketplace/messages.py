"""Checks of messages that another role sent.

Whatever does not read as it should is that role's fault, and the error names the role. The functions `id_of`,
`count_of` and `names_of` read one field each; they are used inside `announced_by`, which turns their ValueError into a
PeerError.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import PeerError

ID_BYTES = 16


@contextmanager
def announced_by(role: str) -> Iterator[None]:
    """Raise a PeerError that names `role` where the block cannot read a message from it."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(f"{role} sent a message that cannot be read ({type(error).__name__})") from error


def id_of(text: str) -> bytes:
    """Read an upload's id or nonce from its hex digits. Raises ValueError unless it has 16 bytes."""
    found = bytes.fromhex(text)
    if len(found) != ID_BYTES:
        raise ValueError(f"{len(found)} bytes")
    return found


def count_of(value: object, least: int = 0, most: int | None = None) -> int:
    """Read a whole number from `least` to `most`. Raises ValueError for anything else."""
    if not is_integer(value) or value < least or (most is not None and value > most):
        raise ValueError("no count")
    return value


def names_of(value: object, known: Collection[str]) -> list[str]:
    """Read a list of names that are all among `known` and differ. Raises ValueError for anything else."""
    if not isinstance(value, list) or len(set(value)) != len(value) or not set(value) <= set(known):
        raise ValueError("no list of names")
    return value
