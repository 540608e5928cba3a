"""Checks of messages that another role of the marketplace sent.

In goes one field of a message; out comes its value, or an error. A message of shopper, cloud or key authority that does
not read as it should is the fault of the role that sent it, and the error names that role. The functions `id_of`,
`count_of` and `names_of` read one field each and raise ValueError; they are used inside `announced_by`, which turns a
ValueError into a PeerError.

A further reader of a field may be added, if it raises ValueError for bad content. No reader may accept more than its
field needs, because the roles do not trust each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import PeerError

ID_BYTES = 16


@contextmanager
def announced_by(role: str) -> Iterator[None]:
    """Run a block that reads a message of `role`, and turn its errors of reading into a PeerError that names `role`."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(f"{role} sent a message that cannot be read ({type(error).__name__})") from error


def id_of(text: str) -> bytes:
    """Read the 16 bytes of an upload's id, or of a nonce, from hex digits. Raises ValueError for another length."""
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
    """Read a list of different names that are all among `known`. Raises ValueError for anything else."""
    if not isinstance(value, list) or len(set(value)) != len(value) or not set(value) <= set(known):
        raise ValueError("no list of names")
    return value
