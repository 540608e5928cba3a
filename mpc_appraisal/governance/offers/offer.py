"""One standing offer: what a data owner answers without being asked, signed with the key of its certificate.

    digest    = SHA-256 of the canonical JSON of the content
    signature = signature of words that name the format, then the canonical JSON, by the data owner's certificate key

In go JSON values of the shape `schema.OFFER`, or a content and a private key; out comes an `Offer` whose signature was
checked. What a signature shows: the holder of the key stated these terms. It shows neither who holds the key, for which
a certificate is compared (`check_certificate`), nor that the offer still stands, which its owner alone knows. The
canonical form and the signed words have to stay byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import read_json
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.offers.schema import FORMAT, LARGEST_FILE, OFFER
from mpc_appraisal.reporting.receipt import canonical, is_signature, public_bytes, signed

NOISED = "dp"  # the kind of release whose answers cost epsilon


@dataclass(frozen=True)
class Offer:
    """One offer, whose signature fits its content.

    Attributes:
        content: JSON values of the shape `schema.CONTENT`.
        signature: The public key (SubjectPublicKeyInfo, DER, hex) and the signature (hex).
    """

    content: dict[str, Any]
    signature: dict[str, str]

    @staticmethod
    def of(value: Any, where: str = "offer") -> Offer:
        """Return the offer in a JSON value, which errors call `where`.

        Raises InputError for a field of another shape, terms that do not fit together, or a signature of other terms.
        """
        OFFER.check(value, where)
        found = Offer(value["content"], value["signature"])
        _check_terms(found.content, where)
        found._check_signature(where)
        return found

    @staticmethod
    def read(path: str | os.PathLike[str], where: str = "offer") -> Offer:
        """Return the offer in a file. Raises InputError, under `where`, for a file that holds none."""
        path = Path(path)
        try:
            with open(path, "rb") as file:
                content = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise InputError(where, f"{shown(str(path))} ({error.strerror})", "a file with an offer") from None
        if len(content) > LARGEST_FILE:
            raise InputError(where, f"{path.name}, a file of more bytes", f"at most {LARGEST_FILE} bytes")
        try:
            value = read_json(content.decode("utf-8"))
        except (ValueError, RecursionError):
            raise InputError(where, f"{shown(path.name)}, which is no JSON", "a file with an offer") from None
        return Offer.of(value, where)

    @staticmethod
    def signed(content: Mapping[str, Any], key: Any) -> Offer:
        """Return the offer of these terms, signed with a private key, whose SHA-256 the content gets.

        Raises InputError for terms that are none, and for a key that cannot sign.
        """
        encoded = public_bytes(key.public_key())
        whole = {**content, "format": FORMAT, "key": hashlib.sha256(encoded).hexdigest()}
        signature = signed(key, _statement(whole)).hex()
        return Offer.of({"content": whole, "signature": {"key": encoded.hex(), "signature": signature}})

    def _check_signature(self, where: str) -> None:
        encoded = bytes.fromhex(self.signature["key"])
        if hashlib.sha256(encoded).hexdigest() != self.content["key"]:
            raise InputError(f"{where}.signature.key", "another key", f"the one with SHA-256 {self.content['key']}")
        try:
            key = serialization.load_der_public_key(encoded)
        except (ValueError, TypeError) as error:
            raise InputError(f"{where}.signature.key", "no public key", "one in DER") from error
        if not is_signature(key, bytes.fromhex(self.signature["signature"]), _statement(self.content)):
            expected = "the data owner's signature of these terms (were they changed?)"
            raise InputError(f"{where}.signature", "a signature of other terms", expected)

    def check_certificate(self, certificate: x509.Certificate) -> None:
        """Raise InputError unless the certificate's key is the one that signed the offer."""
        found = hashlib.sha256(public_bytes(certificate.public_key())).hexdigest()
        if found != self.content["key"]:
            raise InputError("certificate", f"one of the key {found}", f"one of the key {self.content['key']}")

    @property
    def name(self) -> str:
        """Return the offer's name."""
        return self.content["name"]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the content, 64 hex digits."""
        return hashlib.sha256(canonical(self.content).encode("ascii")).hexdigest()

    @property
    def named(self) -> dict[str, Any]:
        """Return what a request and a record hold of the offer: its name, its digest and its price."""
        price = {"price": self.content["price"]} if "price" in self.content else {}
        return {"name": self.name, "digest": self.digest, **price}

    @property
    def end(self) -> datetime:
        """Return the first moment, in UTC, at which the offer no longer holds."""
        last = date.fromisoformat(self.content["until"])
        return datetime.combine(last, time(), timezone.utc) + timedelta(days=1)

    def text(self) -> str:
        """Return the offer as its file holds it."""
        return json.dumps({"content": self.content, "signature": self.signature}, indent=1, sort_keys=True) + "\n"


def _statement(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that the data owner signs."""
    return f"{FORMAT}\n{canonical(content)}".encode("ascii")


def _check_terms(content: Mapping[str, Any], where: str) -> None:
    """Raise InputError for terms that do not fit together."""
    release = content["release"]
    for key in ("epsilon", "delta"):
        if (key in release) != (release["kind"] == NOISED):
            expected = f"a number for the release {NOISED}, and none for another"
            raise InputError(f"{where}.release.{key}", release.get(key), expected)
    for method, settings in content["methods"].items():
        for key, limit in settings.items():
            if limit.get("least", float("-inf")) > limit.get("most", float("inf")):
                expected = f"at most {limit['most']:g}, the largest value"
                raise InputError(f"{where}.methods.{method}.{key}.least", limit["least"], expected)
    if content["until"] == "9999-12-31":
        raise InputError(f"{where}.until", content["until"], "a day that has a next one")
