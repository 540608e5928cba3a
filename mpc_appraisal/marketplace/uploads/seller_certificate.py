"""A seller's certificate: the public key that verifies its upload, and the private key that signs it.

The authority of the marketplace draws a seller's signing key unless the seller has a certificate. With one the seller
alone can sign: the authority enrols the certificate's key, and the private key stays at the seller. In go PEM files, as
`mpc-appraisal certificates --market --sellers NAME` makes them; out come keys of 32 bytes. The checks may become
stricter. The key has to be of Ed25519, because uploads are signed so. No error may show a key.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.storage import check_private
from mpc_appraisal.mpc.net.certificates import names_of

CERTIFICATE, KEY = "certificate", "key"
UNREADABLE = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def certified_key(certificate: str | Path, authority: str | Path, seller: str) -> bytes:
    """At the authority: return the key, 32 bytes, that verifies what `seller` signs.

    Args:
        certificate: the seller's certificate, NAME.pem.
        authority: the certificate of the authority that must have signed it, ca.pem.
        seller: the seller's name, which the certificate must have as its only DNS name.

    Raises InputError for a file that is no certificate, and for a certificate that another authority signed, that is
    for another name, that is not valid today, or whose key is not of Ed25519.
    """
    found, signer = _certificate(Path(certificate)), _certificate(Path(authority))
    try:
        found.verify_directly_issued_by(signer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise InputError(CERTIFICATE, f"{certificate}, which {authority} did not sign", "one that it signed") from error
    if names_of(found) != {seller}:
        names = ", ".join(sorted(names_of(found))) or "nobody"
        raise InputError(CERTIFICATE, f"{certificate} for {names}", f"one for {seller} alone")
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    if not begin <= datetime.now(timezone.utc) <= end:
        raise InputError(
            CERTIFICATE, f"{certificate}, valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}", "one valid today"
        )
    try:
        key = found.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(CERTIFICATE, f"{certificate} ({type(error).__name__})", "a key of Ed25519") from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(CERTIFICATE, f"{certificate} with a key of another kind", "a key of Ed25519")
    return key.public_bytes_raw()


def private_key(path: str | Path) -> bytes:
    """At the seller: return the private key in the file, 32 bytes. Raises InputError for any other file."""
    place = Path(path)
    if not place.is_file():
        raise InputError(KEY, f"{path}, which is no file", "the file NAME.key beside the seller's certificate")
    check_private(place, KEY, "a key")
    try:
        found = load_pem_private_key(place.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(KEY, f"{path} ({type(error).__name__})", "a private key in a PEM file") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise InputError(KEY, f"{path} with a key of another kind", "a key of Ed25519")
    return found.private_bytes_raw()


def _certificate(path: Path) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
        names_of(found)
        return found
    except (
        OSError,
        ValueError,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise InputError(CERTIFICATE, f"{path} ({type(error).__name__})", "a certificate in a PEM file") from error
