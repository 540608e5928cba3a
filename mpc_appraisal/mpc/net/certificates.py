"""Certificates, by which the parties identify each other over TLS: each carries the name of a role as its DNS name.

The roles are model_owner, data_owner and dealer. A party's folder holds `ca.pem` (the certificate of the authority,
which all three trust), `<role>.pem` (the party's certificate) and `<role>.key` (its private key). `CertificateFiles`
finds and checks these files and makes TLS contexts from them. `make_trial` makes an authority and three certificates
for a trial, and does not keep the authority's key.

The checks may become stricter, and the keys of a trial may be of another kind. The names of the files, and one role a
certificate, have to stay: parties exchange such files before they meet.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.common.storage import check_private, write_new

DAYS = 30  # A trial certificate is valid for so many days.


@dataclass(frozen=True)
class CertificateFiles:
    """The paths of one party's certificate files.

    Attributes:
        authority: The certificate of the authority.
        certificate: The party's own certificate.
        key: The party's private key.
    """

    authority: Path
    certificate: Path
    key: Path

    @staticmethod
    def of(folder: str | Path | None, role: str) -> CertificateFiles:
        """Return the files of `role` in `folder`/`role` if this is a folder, or else in `folder`.

        Raises InputError: No folder is given, a file is missing, others may read the key, or the certificate is not one
            for `role` alone.
        """
        expected = f"a folder with ca.pem, {role}.pem and {role}.key"
        if folder is None:
            raise InputError(
                "session.tls", None, f"{expected}: the transport tls needs it (`mpc-appraisal certificates` makes some)"
            )
        place = Path(folder) / role if (Path(folder) / role).is_dir() else Path(folder)
        certificates = CertificateFiles(place / "ca.pem", place / f"{role}.pem", place / f"{role}.key")
        for path in (certificates.authority, certificates.certificate, certificates.key):
            if not path.is_file():
                raise InputError("session.tls", f"{str(folder)!r} without {path.name}", expected)
        check_private(certificates.key, "session.tls", "a key")
        try:
            names = names_of(x509.load_pem_x509_certificate(certificates.certificate.read_bytes()))
        except (ValueError, OSError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise InputError("session.tls", f"{certificates.certificate.name}: no certificate", expected) from error
        if names != {role}:
            raise InputError("session.tls", f"a certificate for {_listed(names)}", f"one for {role} alone")
        return certificates

    def context(self, server: bool) -> ssl.SSLContext:
        """Return a context for TLS 1.3 in which both sides show certificates, of the listening side if `server`.

        Raises InputError: The files do not fit together.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        if server:
            context.num_tickets = 0  # sessions are never resumed, and an unread ticket can cut a connection short
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key, password=lambda: b"")  # never asks for a password
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            fitting = "an authority, a certificate and its key"
            raise InputError("session.tls", f"files that do not fit ({error})", fitting) from error
        return context


def key_digest(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER), as 64 hex digits."""
    found = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(found).hexdigest()


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the DNS names in a certificate."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value.get_values_for_type(x509.DNSName))


def certified_role(sock: ssl.SSLSocket) -> str:
    """Return the role in the peer's verified certificate. Raises PermissionError unless it names exactly one."""
    names = {value for kind, value in sock.getpeercert().get("subjectAltName", ()) if kind == "DNS"}
    if len(names) != 1 or not names <= set(ROLES):
        raise PermissionError(f"a certificate for {_listed(names)}; expected one for one role alone")
    return names.pop()


def _listed(names: set[str]) -> str:
    return " and ".join(repr(name) for name in sorted(names)) or "no name"


def make_trial(folder: Path, days: float = DAYS) -> list[Path]:
    """Make an authority, and for each role a folder in `folder` with certificate files; return the roles' folders.

    The authority's key is not kept. The certificates are valid for `days` days.

    Raises:
        InputError: A role's folder exists already, or `days` is not above 0.
    """
    if not days > 0:
        raise InputError("--days", days, "a number above 0")
    folders = [folder / role for role in ROLES]
    for place in folders:
        if place.exists():
            raise InputError("DIR", f"{place}, which is already there", "a folder without certificates in it")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mpc-appraisal trial authority")])
    authority = sign(name, authority_key, name, authority_key, days)
    for place, role in zip(folders, ROLES, strict=True):
        place.mkdir(mode=0o700, parents=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
        certificate = sign(subject, key, authority.subject, authority_key, days, role)
        write_new(place / "ca.pem", authority.public_bytes(serialization.Encoding.PEM), 0o644)
        write_new(place / f"{role}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        write_new(place / f"{role}.key", private_bytes(key), 0o600)
    return folders


def sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: float,
    role: str | None = None,
) -> x509.Certificate:
    """Return a certificate that is valid from an hour ago until `days` days from now.

    Args:
        subject, key: The name and the key of the holder.
        issuer, issuer_key: The name and the key of the authority that signs.
        days: The number of days.
        role: The role that the certificate names; None makes the certificate of an authority.
    """
    now, whole = datetime.now(timezone.utc), role is None
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(whole, 0 if whole else None), critical=True)
        .add_extension(x509.KeyUsage(not whole, False, False, False, False, whole, whole, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if role is not None:
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(role)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def private_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key in PEM form, without encryption."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
