"""Certificates, by which the parties identify each other over TLS: each carries the name of a role as its DNS name.

The roles are model_owner, data_owner and dealer, or in the encrypted marketplace shopper, cloud and authority. A
party's folder holds `ca.pem` (the certificate of the authority that signed, which all three trust), `<role>.pem` (the
party's certificate) and `<role>.key` (its private key). `CertificateFiles` finds and checks these files and makes TLS
contexts from them. A party with a certificate of the marketplace accepts no other ones, and so it is the other way.
`make_trial` makes an authority and three certificates for a trial, and does not keep the authority's key; a trial of
the marketplace may have sellers too, who sign files and take part in no connection.

The checks may become stricter, and the keys of a trial may be of another kind. The names of the files, and one role a
certificate, have to stay: parties exchange such files before they meet.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import MARKET_NAMES, ROLES
from mpc_appraisal.common.storage import check_private, write_new

DAYS = 30  # A trial certificate is valid for so many days.
MARKET = {name: role for role, name in MARKET_NAMES.items()}  # the role that a certificate of the marketplace names


class NamedContext(ssl.SSLContext):
    """A context for TLS that knows which names in certificates it accepts, and for which role each stands."""

    names: Mapping[str, str] = dict(zip(ROLES, ROLES, strict=True))

    def wrap_socket(self, *args, server_hostname: str | None = None, **options) -> ssl.SSLSocket:
        """Wrap a socket as the base class does; the role in `server_hostname` has to have its name in a certificate."""
        name = next((name for name, role in self.names.items() if role == server_hostname), server_hostname)
        return super().wrap_socket(*args, server_hostname=name, **options)


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

        The files may have the role's name in the marketplace in place of `role`.

        Raises InputError: No folder is given, a file is missing, others may read the key, or the certificate is not one
            for `role` alone.
        """
        expected = f"a folder with ca.pem, {role}.pem and {role}.key"
        if folder is None:
            raise InputError(
                "session.tls", None, f"{expected}: the transport tls needs it (`mpc-appraisal certificates` makes some)"
            )
        own, of_market = (_place(Path(folder), name) for name in (role, MARKET_NAMES[role]))
        place, name = own, role
        if not (own / f"{role}.pem").is_file() and (of_market / f"{MARKET_NAMES[role]}.pem").is_file():
            place, name = of_market, MARKET_NAMES[role]
            expected = expected.replace(role, name)
        certificates = CertificateFiles(place / "ca.pem", place / f"{name}.pem", place / f"{name}.key")
        for path in (certificates.authority, certificates.certificate, certificates.key):
            if not path.is_file():
                raise InputError("session.tls", f"{str(folder)!r} without {path.name}", expected)
        check_private(certificates.key, "session.tls", "a key")
        try:
            names = names_of(x509.load_pem_x509_certificate(certificates.certificate.read_bytes()))
        except (ValueError, OSError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise InputError("session.tls", f"{certificates.certificate.name}: no certificate", expected) from error
        if names != {name}:
            raise InputError("session.tls", f"a certificate for {_listed(names)}", f"one for {name} alone")
        return certificates

    def context(self, server: bool) -> NamedContext:
        """Return a context for TLS 1.3 in which both sides show certificates, of the listening side if `server`.

        Raises InputError: The files do not fit together.
        """
        context = NamedContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        if self.certificate.stem in MARKET:
            context.names = MARKET
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
    """Return the role in the peer's verified certificate. Raises PermissionError unless it names exactly one.

    The names are those that the connection's `NamedContext` accepts.
    """
    names = {value for kind, value in sock.getpeercert().get("subjectAltName", ()) if kind == "DNS"}
    accepted = sock.context.names
    if len(names) != 1 or not names <= set(accepted):
        raise PermissionError(f"a certificate for {_listed(names)}; expected one for one role alone")
    return accepted[names.pop()]


def _place(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _listed(names: set[str]) -> str:
    return " and ".join(repr(name) for name in sorted(names)) or "no name"


def make_trial(
    folder: Path, days: float = DAYS, names: Sequence[str] = ROLES, sellers: Sequence[str] = ()
) -> list[Path]:
    """Make an authority, and for each role a folder in `folder` with certificate files; return the folders.

    The authority's key is not kept.

    Args:
        folder: The folder in which the folders are made.
        days: The number of days for which the certificates are valid.
        names: The names of the roles, ROLES or those of the marketplace.
        sellers: The names of the marketplace's sellers, who get certificates with keys that sign files (Ed25519).

    Raises:
        InputError: A role's folder exists already, `days` is not above 0, or a seller is called like a role or another.
    """
    if not days > 0:
        raise InputError("--days", days, "a number above 0")
    taken = [*ROLES, *MARKET]
    for seller in sellers:
        if seller in taken:
            raise InputError("--sellers", seller, "a name that is neither a role's nor another seller's")
        taken.append(seller)
    folders = [folder / name for name in (*names, *sellers)]
    for place in folders:
        if place.exists():
            raise InputError("DIR", f"{place}, which is already there", "a folder without certificates in it")
    authority_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mpc-appraisal trial authority")])
    authority = sign(issuer, authority_key, issuer, authority_key, days)
    for place in folders:
        place.mkdir(mode=0o700, parents=True)
        name = place.name
        key = Ed25519PrivateKey.generate() if name in sellers else ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = sign(subject, key, authority.subject, authority_key, days, name)
        write_new(place / "ca.pem", authority.public_bytes(serialization.Encoding.PEM), 0o644)
        write_new(place / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        write_new(place / f"{name}.key", private_bytes(key), 0o600)
    return folders


def sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey,
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
        role: The role or seller that the certificate names; None makes the certificate of an authority.
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


def private_bytes(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """Return a private key in PEM form, without encryption."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
