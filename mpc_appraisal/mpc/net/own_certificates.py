"""Certificates without an authority: each party makes its own, and all three trust the three certificates alone.

`make_own` writes a key and a certificate that the key itself has signed. The key never leaves its folder, and the
parties send each other the certificates, which are public. `trust` checks that three certificates are one for each
role, and writes them into one `ca.pem`, which `session.tls` and `session.relay` read like that of an authority. No
certificate here can sign another one, so that a party cannot stand in for another.

What is trusted is whoever holds these three keys. A certificate that was exchanged on its way is found only if two
people compare the fingerprints by other means. The checks may become stricter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.common.storage import write_new
from mpc_appraisal.common.text import shown
from mpc_appraisal.mpc.net.certificates import DAYS, key_digest, names_of, private_bytes, sign

FAULTS = (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
EXPECTED = "a certificate that `mpc-appraisal certificates DIR --own ROLE` made"


def make_own(folder: Path, role: str, days: float = DAYS) -> tuple[Path, str]:
    """Write `role`.key and `role`.pem into `folder`; return the certificate's file and its fingerprint.

    Args:
        folder: The party's own folder, which is made if it is not there.
        role: One of ROLES.
        days: The number of days for which the certificate is valid.

    Raises InputError: Another role is named, one of the files exists already, or `days` is not above 0.
    """
    one_of("--own", role, ROLES)
    if not days > 0:
        raise InputError("--days", days, "a number above 0")
    files = [folder / f"{role}.{ending}" for ending in ("key", "pem")]
    for path in files:
        if path.exists():
            raise InputError("DIR", f"{folder}, which holds {path.name}", "a folder without a key of this role")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
    certificate = sign(name, key, name, key, days, role)
    write_new(files[0], private_bytes(key), 0o600)
    write_new(files[1], certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return files[1], key_digest(certificate)


def trust(folder: Path, others: Sequence[Path]) -> dict[str, str]:
    """Write `ca.pem` of this party's own certificate in `folder` and those of `others`; return fingerprints by role.

    A fingerprint is the SHA-256 of a certificate's public key, as 64 hex digits.

    Raises InputError: The folder has no certificate of its own, or has a ca.pem already, or the certificates are not
        three by themselves with three keys, one for each role.
    """
    own = [folder / f"{role}.pem" for role in ROLES if (folder / f"{role}.key").is_file()]
    if len(own) != 1:
        expected = "a folder with one key, which `mpc-appraisal certificates DIR --own ROLE` made"
        raise InputError("DIR", f"{folder} with {len(own)} keys", expected)
    if (folder / "ca.pem").exists():
        raise InputError("DIR", f"{folder}, which holds ca.pem", "a folder without ca.pem; to trust anew, remove it")
    found: dict[str, x509.Certificate] = {}
    for path in (*own, *others):
        certificate = _read(path)
        (role,) = names_of(certificate)
        if role in found:
            raise InputError("--trust", f"two certificates for {role}", "one for each of the two other roles")
        found[role] = certificate
    missing = [role for role in ROLES if role not in found]
    if missing:
        raise InputError(
            "--trust", f"no certificate for {' and '.join(missing)}", "one for each of the two other roles"
        )
    digests = {role: key_digest(found[role]) for role in ROLES}
    if len(set(digests.values())) < len(ROLES):
        raise InputError("--trust", "one key for two roles", "three keys, each of a party of its own")
    texts = [found[role].public_bytes(serialization.Encoding.PEM).decode("ascii") for role in ROLES]
    write_new(folder / "ca.pem", "".join(texts), 0o644)
    return digests


def _read(path: Path) -> x509.Certificate:
    """Return the one certificate in a file. Raises InputError unless it is signed by itself and cannot sign others."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(path.read_bytes())
        certificate.verify_directly_issued_by(certificate)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        names = names_of(certificate)
    except (OSError, ValueError, TypeError, InvalidSignature, *FAULTS) as error:
        raise InputError("--trust", f"{shown(path.name)}, which is none", EXPECTED) from error
    if constraints.ca:
        raise InputError("--trust", f"{shown(path.name)}, which could sign certificates of others", EXPECTED)
    if len(names) != 1 or not names <= set(ROLES):
        raise InputError("--trust", f"{shown(path.name)} for {shown(', '.join(sorted(names))) or 'no role'}", EXPECTED)
    return certificate
