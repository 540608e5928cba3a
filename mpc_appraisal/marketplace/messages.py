"""Checks of messages that another role of the marketplace sent.

In goes one field of a message; out comes its value, or an error. A message of shopper, cloud or key authority that does
not read as it should is the fault of the role that sent it, and the error names that role. The functions `id_of`,
`key_of`, `count_of` and `reasons_of` read one field each and raise ValueError; they are used inside `announced_by`,
which turns a ValueError into a PeerError.

A further reader of a field may be added, if it raises ValueError for bad content. No reader may accept more than its
field needs, because the roles do not trust each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mpc_appraisal.common.checks import is_integer
from mpc_appraisal.common.errors import PeerError
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.ring.prg import KEY_BYTES

ID_BYTES = 16
REASON = 500  # a reason has at most so many characters


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


def key_of(text: str) -> bytes:
    """Read a key of 32 bytes from hex digits. Raises ValueError for another length."""
    found = bytes.fromhex(text)
    if len(found) != KEY_BYTES:
        raise ValueError(f"{len(found)} bytes")
    return found


def count_of(value: object, least: int = 0, most: int | None = None) -> int:
    """Read a whole number from `least` to `most`. Raises ValueError for anything else."""
    if not is_integer(value) or value < least or (most is not None and value > most):
        raise ValueError("no count")
    return value


def reasons_of(value: object, known: Collection[str]) -> dict[str, str]:
    """Read an object that has a reason for each of some names among `known`. Raises ValueError for anything else.

    Returns name -> reason; a reason that is too long is cut.
    """
    if not isinstance(value, dict) or not set(value) <= set(known):
        raise ValueError("no names with reasons")
    return {name: shown(str(why), REASON) for name, why in value.items()}
