"""Recorded answers that travel in a message which all parties read, encrypted so that one owner alone reads them.

An answer is the outcome of an earlier appraisal, which the data owner's ledger (its file of what was opened to the
other side) has recorded. In go such outcomes at the data owner. Out come the same outcomes at the model owner, and the
dealer, who supplies random numbers, learns only how many there are. Each owner makes an X25519 key for one session. The
secret that both keys give encrypts one text (AES-256-GCM), in which every answer takes the same number of bytes. The
end of the file holds the readers of messages about answers.

The length SEALED and the text that enters the key may change only at both owners at once. A key has to be new in each
session and may encrypt one text only, because the nonce is a constant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpc_appraisal.common.checks import is_number
from mpc_appraisal.common.errors import DisagreementError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.mpc.net.message_schemas import parse
from mpc_appraisal.release.base import Outcome

SEALED = 1024  # bytes that one answer takes in the text


class EncryptedAnswers:
    """One owner's key for one session.

    Attributes:
        address: The public part of the key, in hexadecimal digits.
    """

    def __init__(self) -> None:
        self._secret = X25519PrivateKey.generate()
        self.address = self._secret.public_key().public_bytes_raw().hex()

    def seal(self, to: str, outcomes: Sequence[Outcome]) -> dict[str, str]:
        """Return the encrypted outcomes for a message, which only the owner of the address `to` can read.

        A key encrypts once, because the nonce is a constant. Raises PeerError where `to` is no address.
        """
        text = "".join(json.dumps(asdict(outcome)).ljust(SEALED) for outcome in outcomes).encode()
        try:
            cipher = self._cipher(to)
        except (TypeError, ValueError):
            raise PeerError("the model owner sent no key that an answer can be sealed for") from None
        return {"key": self.address, "text": cipher.encrypt(bytes(12), text, None).hex()}

    def unseal(self, sealed: Any, count: int) -> list[Outcome]:
        """Return the outcomes that the other owner encrypted for this key.

        Raises PeerError for a text that does not decrypt, or that holds another number of outcomes than `count`.
        """
        try:
            text = self._cipher(sealed["key"]).decrypt(bytes(12), bytes.fromhex(sealed["text"]), None)
        except (InvalidTag, ValueError, KeyError, TypeError) as error:
            raise PeerError(f"{DATA_OWNER} sent sealed answers that do not open ({type(error).__name__})") from None
        found = [_outcome(text[k : k + SEALED]) for k in range(0, len(text), SEALED)]
        if len(found) != count:
            raise PeerError(f"{DATA_OWNER} sealed {len(found)} answers; expected {count}, one for each that it names")
        return found

    def _cipher(self, other: str) -> AESGCM:
        shared = self._secret.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(other)))
        both = "".join(sorted((self.address, other))).encode()
        return AESGCM(hashlib.sha256(b"mpc_appraisal answers 1" + shared + both).digest())


KINDS = {"decision": bool, "winner": bool, "rank": int}


def _outcome(text: bytes) -> Outcome:
    """Read one answer from its decrypted text. Raises PeerError where it is no `Outcome`."""
    answer = parse(text, DATA_OWNER, "answers")
    known = {f.name for f in fields(Outcome)}
    fit = {key: value is None or _is(value, KINDS.get(key, float)) for key, value in answer.items()}
    if set(answer) - known or not all(fit.values()):
        wrong = [key for key in answer if key not in known or not fit[key]]
        raise PeerError(f"{DATA_OWNER} sent an answer that cannot be read: {shown(', '.join(wrong))}")
    return Outcome(**answer)


def _is(value: object, kind: type) -> bool:
    if kind is float:
        return is_number(value)
    return type(value) is kind


def keys_in(said: Any, asked: Collection[Key], joint: bool, who: str) -> list[Key]:
    """Return the questions that a message names: pairs of a method and a candidate.

    Args:
        said: What the message holds, which may be anything.
        asked: The questions of this session. Each named question must be one of them, and be named once.
        joint: Whether candidates are compared with each other, so that a method's questions are named all or not at
            all.
        who: The role that sent the message.

    Raises:
        DisagreementError: The message names anything else.
    """
    expected = "expected questions of this session, each once" + " and with all others of its method" * joint
    if not isinstance(said, list):
        raise DisagreementError(f"{who} names no list of questions; {expected}")
    found: list[Key] = []
    for one in said:
        good = isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)
        if not good or tuple(one) not in asked or tuple(one) in found:
            raise DisagreementError(
                f"{who} names a question that was not asked, or one twice: {str(one)[:80]!r}; {expected}"
            )
        found.append((one[0], one[1]))
    if joint and any(key[0] == method and key not in found for method, _ in found for key in asked):
        raise DisagreementError(f"{who} names a part of the questions that are answered together; {expected}")
    return found


def text_in(message: Mapping[str, Any], key: str, who: str) -> str:
    """Return the text that another party's message holds under `key`. Raises PeerError where there is none."""
    found = message.get(key)
    if not isinstance(found, str):
        raise PeerError(f"{who} sent a message with {str(found)[:40]!r} for {key!r}; expected a text")
    return found
