"""Receipts at the end of a session over TLS: both owners sign what was answered, and their records keep it.

    1. Each owner says its part of the content: the last hash of its ledgers, the digests of answers that it alone was
       shown, and an address (the public part of an X25519 key).
    2. Both owners make the content of each candidate's receipt, sign it, and send their signatures.

In go the finished records of one owner. Out come the same records with a receipt each (see `reporting.receipt`). The
dealer reads the messages and signs nothing. The salt of an answer that both owners were shown follows from the secret
that both addresses give, so that the dealer can try no values. The salt of an answer that one owner was shown is drawn
by this owner. Only a transport over which both owners show certificates has keys to sign with. Over any other one the
records stay as they are.

The answers are known before anything is signed, so that a party that leaves now leaves the other one without a receipt.
The records are kept all the same, and a warning in them says why there is none.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.common.errors import AppraisalError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS
from mpc_appraisal.common.text import PLACE
from mpc_appraisal.mpc.net.certificates import CertificateFiles
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.reporting.receipt import FORMAT, SALT_BYTES, Receipt, answer_digest, answer_of, sign
from mpc_appraisal.reporting.record import Record


def attend_receipts(role: str, rendezvous: Rendezvous, plan: Plan, records: list[Record]) -> list[Record]:
    """Take part in the exchange of receipts, which all parties call at the same time.

    Args:
        role: This party's role.
        rendezvous: The connection to the other parties.
        plan: What all parties state alike.
        records: This party's records; none at the dealer.

    Returns the records, each with its candidate's receipt; over a transport without certificates, the records as they
    are. Where the exchange fails, each record has a warning in place of a receipt.
    """
    keys = {owner: rendezvous.certified(owner) for owner in OWNERS}
    if None in keys.values():
        return records
    try:
        if role == DEALER:
            for topic in ("receipt", "signed"):
                rendezvous.exchange(topic, {})
            return records
        receipts = _Receipts(role, plan, records, keys).exchanged(rendezvous)
    except AppraisalError as error:
        words = str(error)
        why = "the connection to another party was lost" if PLACE.search(words) else words  # a record names no place
        warning = f"There is no receipt of this answer: {why}"
        return [replace(record, warnings=(*record.warnings, warning)) for record in records]
    return [replace(record, receipt=receipts[record.candidate].as_dict()) for record in records]


@dataclass
class _Receipts:
    """One owner's part of the exchange."""

    role: str
    plan: Plan
    records: Sequence[Record]
    keys: Mapping[str, str | None]

    def __post_init__(self) -> None:
        self._secret, self._salt_key = X25519PrivateKey.generate(), b""
        self._other = MODEL_OWNER if self.role == DATA_OWNER else DATA_OWNER
        self._drawn = {(r.method, r.candidate): secrets.token_hex(SALT_BYTES) for r in self.records}

    def exchanged(self, rendezvous: Rendezvous) -> dict[str, Receipt]:
        """Return the receipt of each candidate, signed by both owners.

        Raises:
            PeerError: The other party left, or its signature is not one of the same content.
            InputError: This party's key cannot sign.
        """
        said = rendezvous.exchange("receipt", self._part())
        self._salt_key = self._shared_secret(said)
        contents = self._contents(said)
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        key = self._key()
        mine = {name: sign(content, self.role, time, key) for name, content in contents.items()}
        found = rendezvous.exchange("signed", {"signatures": mine})[self._other]["signatures"]
        both = {name: {self.role: mine[name], self._other: found.get(name)} for name in contents}
        return {name: self._checked(content, both[name]) for name, content in contents.items()}

    def _part(self) -> dict[str, Any]:
        """Return what this owner says: an address, last hashes, and the digests of answers that it alone was shown."""
        heads = {r.candidate: r.budget["head"] for r in self.records if r.budget is not None}
        alone: dict[str, dict[str, str]] = {}
        for r in self.records:
            if self._learners(r) == {self.role}:
                digest = answer_digest(self._drawn[r.method, r.candidate], answer_of(r))
                alone.setdefault(r.candidate, {})[r.method] = digest
        address = self._secret.public_key().public_bytes_raw().hex()
        return {"address": address, "heads": heads, "answers": alone}

    @staticmethod
    def _learners(record: Record) -> set[str]:
        return set((record.release or {}).get("to", OWNERS))

    def _shared_secret(self, said: Mapping[str, Any]) -> bytes:
        """Return the secret that both owners' addresses give. Raises PeerError where the other one's is no address."""
        try:
            address = X25519PublicKey.from_public_bytes(bytes.fromhex(said[self._other]["address"]))
            shared = self._secret.exchange(address)
        except ValueError:
            raise PeerError(f"{self._other} sent no address for a receipt") from None
        both = "".join(said[owner]["address"] for owner in OWNERS).encode()
        return hashlib.sha256(b"mpc_appraisal receipt 1" + shared + both).digest()

    def _salt(self, record: Record) -> str:
        """Return the salt of an answer that both owners were shown."""
        place = f"{record.method}\n{record.candidate}".encode()
        return hashlib.sha256(self._salt_key + place).hexdigest()

    def _contents(self, said: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the content of each candidate's receipt, which both owners make alike."""
        contents: dict[str, dict[str, Any]] = {}
        for r in self.records:
            content = contents.setdefault(
                r.candidate,
                {
                    "format": FORMAT,
                    "candidate": r.candidate,
                    "request": r.request["digest"],
                    "config": self.plan.digest,
                    "answers": {},
                    "ledgers": {owner: said[owner]["heads"].get(r.candidate) for owner in OWNERS},
                    "keys": dict(self.keys),
                }
                | _offer(r.request),
            )
            content["answers"][r.method] = self._digest(r, said)
        return contents

    def _digest(self, record: Record, said: Mapping[str, Any]) -> str:
        learners = self._learners(record)
        if learners == set(OWNERS):
            return answer_digest(self._salt(record), answer_of(record))
        (learner,) = learners
        found = said[learner]["answers"].get(record.candidate, {}).get(record.method)
        if found is None:
            raise PeerError(f"{learner} sent no digest of its answer of {record.method}")
        return found

    def _key(self) -> Any:
        """Return this owner's private key. Raises InputError where the file holds none."""
        files = CertificateFiles.of(self.plan.transport.tls, self.role)
        try:
            return serialization.load_pem_private_key(Path(files.key).read_bytes(), None)
        except (ValueError, TypeError, OSError) as error:
            raise InputError("session.tls", files.key.name, "a private key without a password") from error

    def _checked(self, content: dict[str, Any], signatures: dict[str, Any]) -> Receipt:
        """Return the receipt of one candidate. Raises PeerError where the other owner's signature is not good."""
        salts = {}
        for r in self.records:
            if r.candidate == content["candidate"] and self.role in self._learners(r):
                both = self._learners(r) == set(OWNERS)
                salts[r.method] = self._salt(r) if both else self._drawn[r.method, r.candidate]
        try:
            found = Receipt.of({"content": content, "salts": salts, "signatures": signatures})
            found.verify()
        except InputError as error:
            raise PeerError(f"{self._other} did not sign the same receipt ({error.name})") from error
        return found


def _offer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the offer under which a request was answered, as a receipt has it; nothing where another yes was given."""
    if request["how"] != "offer":
        return {}
    return {"offer": {key: request["offer"][key] for key in ("name", "digest")}}
