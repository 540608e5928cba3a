"""A ledger's own key: 32 random bytes in FILE.ledger.salt, mode 0600, made together with the ledger.

A ledger is the file in which an owner records what was asked of its data and answered. It describes data by keyed
digests (HMAC-SHA256). Therefore neither the ledger nor a hash of its lines, which cards show, can be used to test
guesses of the data. In go the ledger's path and a content; out come the key and digests under it. A ledger whose key is
lost still verifies, but it recognises no earlier question any more, so that such a question is charged again.

A purpose may be added. The text that `keyed` hashes and the form of the file have to stay, or known questions would not
be recognised.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import OWNER_ONLY, read_secret, remove_leftovers, write_whole
from mpc_appraisal.governance.budget.hash_chain import ENDING as LEDGER

ENDING = ".salt"
BYTES = 32
FIRST_LINE = 1 << 20  # the most bytes that are read of another ledger


def place(ledger: Path) -> Path:
    """Return the path of a ledger's key file, which lies beside the ledger."""
    return ledger.with_name(ledger.name + ENDING)


def key_of(ledger: Path) -> bytes:
    """Return the ledger's key, which is made where there is none. The caller holds the ledger's lock.

    Raises InputError for a file that is no key or that others may read, and OSError.
    """
    path = place(ledger)
    if not path.exists():
        remove_leftovers(path)
        write_whole(path, secrets.token_bytes(BYTES).hex() + "\n", OWNER_ONLY)
    return read_secret(path, "ledger", "a key", BYTES)


def keyed(key: bytes, purpose: str, content: str) -> str:
    """Return the HMAC-SHA256 of `content` for one purpose, 64 hex digits."""
    return hmac.new(key, f"mpc_appraisal ledger {purpose} 1\n{content}".encode(), hashlib.sha256).hexdigest()


def twins(ledger: Path, content: str) -> list[str]:
    """Return the names of other ledgers in the same folder that were made for the same data.

    Args:
        ledger: the path of this ledger.
        content: the data's digest.

    A ledger that records no digest, or whose key is not there, cannot be compared and is left out.
    """
    found = []
    for other in sorted(ledger.parent.glob(f"*{LEDGER}")):
        if other.resolve() == ledger or not place(other).is_file():
            continue
        try:
            with open(other, "rb") as file:
                stated = json.loads(file.readline(FIRST_LINE)).get("digest")
            if stated is not None and stated == keyed(key_of(other), "data", content):
                found.append(other.name)
        except (OSError, ValueError, AttributeError, InputError):
            continue  # a file that is no ledger is passed over
    return found
