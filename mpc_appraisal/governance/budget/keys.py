"""A ledger's own key: 32 random bytes in FILE.ledger.salt, mode 0600, made together with the ledger.

What a ledger says of data is a keyed digest (HMAC-SHA256), so neither the ledger nor a hash of its lines, which cards
show, can be used to test guesses of the data. Without its key a ledger is as whole as before, but no earlier question
is recognised any more: it is charged again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import OWNER_ONLY, read_secret, write_whole

ENDING = ".salt"
BYTES = 32
FIRST_LINE = 1 << 20  # bytes that are read of another ledger


def place(ledger: Path) -> Path:
    """Where the key of a ledger lies: beside it."""
    return ledger.with_name(ledger.name + ENDING)


def key_of(ledger: Path) -> bytes:
    """The ledger's key, made where there is none; call it under the ledger's lock.

    Raises InputError for a file that is no key, or that others may read; OSError.
    """
    path = place(ledger)
    if not path.exists():
        write_whole(path, secrets.token_bytes(BYTES).hex() + "\n", OWNER_ONLY)
    return read_secret(path, "ledger", "a key", BYTES)


def keyed(key: bytes, purpose: str, content: str) -> str:
    """HMAC-SHA256 of `content` for one purpose, 64 hex digits."""
    return hmac.new(key, f"mpc_appraisal ledger {purpose} 1\n{content}".encode(), hashlib.sha256).hexdigest()


def twins(ledger: Path, content: str) -> list[str]:
    """Names of the other ledgers in the same folder that were made for these very data, whatever their file is called.

    content: the data's digest. Ledgers that state no digest, or whose key is not there, cannot be compared.
    """
    found = []
    for other in sorted(ledger.parent.glob("*.ledger")):
        if other.resolve() == ledger or not place(other).is_file():
            continue
        try:
            with open(other, "rb") as file:
                stated = json.loads(file.readline(FIRST_LINE)).get("digest")
            if stated is not None and stated == keyed(key_of(other), "data", content):
                found.append(other.name)
        except (OSError, ValueError, AttributeError, InputError):
            continue  # a file that is no ledger is no ledger of these data
    return found
