"""A receipt: what both owners have signed of one candidate's answers, with the keys of their certificates.

    digest of an answer = SHA-256(salt, canonical JSON of the answer)
    statement of a role = words that name the format, the role and its time, then the canonical JSON of the content
    signature = signature of the statement, by the key of the role's certificate

A candidate is a data set on offer. In go the content of the shape `CONTENT` and the salts of the answers that this
party was shown; out comes a `Receipt`, which `sign` and `verify` fill and check. The content binds the answers to the
request that the data owner approved, to the public configuration and to the last hashes of both owners' ledgers. A
digest has a salt, so that neither the dealer nor a reader of the content can try values; whoever has the salt and the
answer can show that this answer was signed.

What a receipt shows: the holders of two keys stated the same content at the times that they state. It does not show
that the answer is right, nor who the holders are. The canonical form and the statement have to stay byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from mpc_appraisal.common import schema
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.common.schema import Part, Schema, hexadecimal, mapping, matching, nullable, text, whole, zoned_time

FORMAT = 1
SALT_BYTES = 32
ANSWER = ("value", "decision", "winner", "rank", "low", "high")  # what an answer holds; None where it was not shown
LONGEST_NAME, LONGEST_KEY = 200, 4096
SHA256 = hexadecimal(64)
HEXADECIMAL = matching("([0-9a-f]{2})+", "hexadecimal digits") | {"maxLength": LONGEST_KEY}
NAME = text(LONGEST_NAME, 1)


def _of_owners(part: Part) -> Part:
    return schema.record(**{role: part for role in OWNERS})


CONTENT = schema.record(
    {"offer": schema.record(name=NAME, digest=SHA256)},  # the standing offer under which the answers were given
    format=whole(FORMAT, FORMAT),
    candidate=NAME,
    request=SHA256,  # the digest of the request that the data owner approved
    config=text(128, 1),  # the hash of the public configuration
    answers=mapping(NAME, SHA256),  # by method
    ledgers=_of_owners(nullable(SHA256)),  # the last hash of each owner's ledger; null without one
    keys=_of_owners(SHA256),  # the SHA-256 of each owner's certificate key
)
SIGNATURE = schema.record(time=zoned_time(), key=HEXADECIMAL, signature=HEXADECIMAL)
RECEIPT = Schema(
    schema.record(
        content=CONTENT,
        salts=mapping(NAME, SHA256),  # by method, of the answers that the holder was shown
        signatures=_of_owners(SIGNATURE),
    )
)


def canonical(value: Any) -> str:
    """Return a value as JSON in ASCII, keys sorted, without spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def answer_of(record: Any) -> dict[str, Any]:
    """Return the answer in a `Record`, as a receipt has it: what was opened, and nothing of cost or accuracy."""
    release = record.release or {}
    return {key: record.value if key == "value" else release.get(key) for key in ANSWER}


def answer_digest(salt: str, answer: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a salt (64 hex digits) and of an answer with the keys `ANSWER`, as 64 hex digits."""
    whole_answer = {key: answer.get(key) for key in ANSWER}
    return hashlib.sha256(bytes.fromhex(salt) + canonical(whole_answer).encode("ascii")).hexdigest()


def statement(content: Mapping[str, Any], role: str, time: str) -> bytes:
    """Return the bytes that the owner of `role` signs at `time` (ISO 8601 with a zone)."""
    return f"mpc_appraisal receipt {FORMAT}\n{role}\n{time}\n{canonical(content)}".encode("ascii")


# -- keys --------------------------------------------------------------------------------------------------------------
def public_bytes(key: Any) -> bytes:
    """Return a public key as SubjectPublicKeyInfo in DER."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)


def signed(key: Any, data: bytes) -> bytes:
    """Return the signature of `data` by a private key: ECDSA or RSA-PSS with SHA-256, or EdDSA.

    Raises InputError: The key is of another kind.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _pss(), hashes.SHA256())
    if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
        return key.sign(data)
    raise InputError("session.tls", f"a key of the kind {type(key).__name__}", "an EC, RSA or Edwards key")


def is_signature(key: Any, signature: bytes, data: bytes) -> bool:
    """Return whether `signature` is one of `data` by the holder of the public key, as `signed` makes it."""
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _pss(), hashes.SHA256())
        elif isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


# -- receipts ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Receipt:
    """What both owners have signed of one candidate.

    Attributes:
        content: JSON values of the shape `CONTENT`.
        salts: The salts of the answers that the holder was shown, by method: 64 hex digits each.
        signatures: By role the time, the public key (SubjectPublicKeyInfo, DER, hex) and the signature (hex).
    """

    content: dict[str, Any]
    salts: dict[str, str] = field(default_factory=dict)
    signatures: dict[str, dict[str, str]] = field(default_factory=dict)

    @staticmethod
    def of(value: Any, name: str = "receipt") -> Receipt:
        """Return the receipt in a JSON value. Raises InputError for the first bad field of a value called `name`."""
        RECEIPT.check(value, name)
        return Receipt(value["content"], value["salts"], value["signatures"])

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON values."""
        return {"content": self.content, "salts": self.salts, "signatures": self.signatures}

    def verify(self) -> None:
        """Check both signatures by the keys that the content names.

        Raises InputError, which names the role: A key is not the one whose SHA-256 is in the content, or a signature is
            not of this content.
        """
        for role in OWNERS:
            one = self.signatures[role]
            encoded = bytes.fromhex(one["key"])
            if hashlib.sha256(encoded).hexdigest() != self.content["keys"][role]:
                raise InputError(f"receipt.signatures.{role}.key", "another key", self.content["keys"][role])
            try:
                key = serialization.load_der_public_key(encoded)
            except (ValueError, TypeError) as error:
                raise InputError(f"receipt.signatures.{role}.key", "no public key", "one in DER") from error
            if not is_signature(key, bytes.fromhex(one["signature"]), statement(self.content, role, one["time"])):
                expected = f"the {role.replace('_', ' ')}'s signature of this content"
                raise InputError(f"receipt.signatures.{role}.signature", "another signature", expected)

    def check_answer(self, method: str, answer: Mapping[str, Any]) -> None:
        """Check that an answer is the one that was signed.

        Raises InputError: The receipt has no digest or no salt of the method, or the answer is another.
        """
        name = f"receipt.answers.{method}"
        if method not in self.content["answers"] or method not in self.salts:
            raise InputError(name, None, "the digest and the salt of this method's answer")
        if answer_digest(self.salts[method], answer) != self.content["answers"][method]:
            raise InputError(name, "another answer", "the one that both owners signed")


def sign(content: Mapping[str, Any], role: str, time: str, key: Any) -> dict[str, str]:
    """Return the entry of `role` in the signatures of a receipt, by its private key."""
    signature = signed(key, statement(content, role, time))
    return {"time": time, "key": public_bytes(key.public_key()).hex(), "signature": signature.hex()}
