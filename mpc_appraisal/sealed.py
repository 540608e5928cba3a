"""Answers for one reader in a note that all parties read: the dealer carries no value, and learns none.

Each owner makes an X25519 key for one session; what they agree on encrypts one text (AES-256-GCM), whose length is
public: every answer takes as many bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpc_appraisal.errors import PeerError, shown
from mpc_appraisal.mpc.notes import parse
from mpc_appraisal.mpc.roles import DATA_OWNER
from mpc_appraisal.release.rule import Outcome

SEALED = 1024  # bytes of an answer


class Envelope:
    """One owner's key of one session; `address`: its public part, hexadecimal."""

    def __init__(self) -> None:
        self._secret = X25519PrivateKey.generate()
        self.address = self._secret.public_key().public_bytes_raw().hex()

    def seal(self, to: str, outcomes: Sequence[Outcome]) -> dict[str, str]:
        """JSON for a note; whoever made `to` alone can open it. Once: the nonce is a constant."""
        text = "".join(json.dumps(asdict(outcome)).ljust(SEALED) for outcome in outcomes).encode()
        return {"key": self.address, "text": self._cipher(to).encrypt(bytes(12), text, None).hex()}

    def unseal(self, sealed: Mapping[str, str]) -> list[Outcome]:
        """What the owner of the key in the note has sealed for this one."""
        try:
            text = self._cipher(sealed["key"]).decrypt(bytes(12), bytes.fromhex(sealed["text"]), None)
        except (InvalidTag, ValueError, KeyError, TypeError) as error:
            raise PeerError(f"{DATA_OWNER} told sealed answers that do not open ({type(error).__name__})") from None
        return [_outcome(text[k : k + SEALED]) for k in range(0, len(text), SEALED)]

    def _cipher(self, other: str) -> AESGCM:
        try:
            shared = self._secret.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(other)))
        except (ValueError, TypeError) as error:
            raise PeerError(f"the other owner told no key for sealed answers ({type(error).__name__})") from None
        both = "".join(sorted((self.address, other))).encode()
        return AESGCM(hashlib.sha256(b"mpc_appraisal answers 1" + shared + both).digest())


KINDS = {"decision": bool, "winner": bool, "rank": int}


def _outcome(text: bytes) -> Outcome:
    """One answer that was sealed. Raises PeerError."""
    told = parse(text, DATA_OWNER, "answers")
    known = {f.name for f in fields(Outcome)}
    fit = {key: value is None or _is(value, KINDS.get(key, float)) for key, value in told.items()}
    if set(told) - known or not all(fit.values()):
        wrong = [key for key in told if key not in known or not fit[key]]
        raise PeerError(f"{DATA_OWNER} told an answer that cannot be read: {shown(', '.join(wrong))}")
    return Outcome(**told)


def _is(value: object, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind
