"""A ledger's own key: 32 random bytes in FILE.ledger.salt, mode 0600, made together with the ledger.

What a ledger says of data is a keyed digest (HMAC-SHA256), so neither the ledger nor a hash of its lines, which cards
show, can be used to test guesses of the data. Without its key a ledger is as whole as before, but no earlier question
is recognised any more: it is charged again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from pathlib import Path

from mpc_appraisal.common.errors import InputError

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
        aside = path.with_name(f"{path.name}.{os.getpid()}.new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_bytes(BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)  # whole or not at all, whenever the process is killed
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise InputError("ledger", f"{path.name} with mode {mode:o}", "a key for its owner alone: 600")
    text = path.read_bytes()[: 2 * BYTES + 2].decode("ascii", "replace").strip()
    if not re.fullmatch(f"[0-9a-f]{{{2 * BYTES}}}", text):
        raise InputError("ledger", f"{path.name} with something else", f"{2 * BYTES} hexadecimal digits")
    return bytes.fromhex(text)


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
