"""Enrolment: the authority draws a seller's secrets, keeps them, and writes the one file that the seller takes home.

`enrol` runs at the key authority: in go the seller's name and the market's architecture, out comes the file
NAME.enrolment. `read_keys` reads that file at the seller. `registry` returns what is public of all enrolled sellers, so
that their uploads can be verified. A scheme may be added to SCHEMES. The fields of an enrolment file are closed by the
schema ENROLMENT and have to stay, because sellers keep such files. The file has to be made before the name is enrolled,
because a name that is enrolled cannot be enrolled again.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TextIO

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.schema import Schema, many, mapping, matching, number, one_of, read_json, record, text, whole
from mpc_appraisal.common.storage import write_whole
from mpc_appraisal.marketplace.cap import check_cap
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.authority import Authority
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.encryption.scheme import EncryptionKey, Scheme
from mpc_appraisal.marketplace.encryption.signed_upload import new_signing_key
from mpc_appraisal.marketplace.plan import check_name
from mpc_appraisal.models.networks import Architecture

SCHEMES: dict[str, type[Scheme]] = {"lwe": LWE, "als16": ALS16}
SUFFIX = ".enrolment"
REGISTRY = "registry"
EXPECTED = "a file that the authority's `enrol` wrote"
_SIZE, _NAME = whole(1, (1 << 31) - 1), text(1 << 20)
_SECRET = matching("([0-9a-f]{2})*", "bytes in hexadecimal")
ENROLMENT = Schema(
    record(
        {"verify_key": _SECRET},
        seller=_NAME,
        scheme=one_of(*SCHEMES),
        parameters=mapping(_NAME, number()),
        image=many(_SIZE, 3, 3),
        classes=_SIZE,
        dimension=_SIZE,
        material=_SECRET,
        key_id=_NAME,
        label_secret=_SECRET,
        signing_key=_SECRET,
    )
)


@dataclass(frozen=True)
class SellerKeys:
    """The content of an enrolment file: the secrets of one seller, which are kept out of logs.

    Attributes:
        seller: the seller's name.
        scheme: the scheme of functional encryption.
        image: the shape of an image, (channels, height, width).
        classes: the number of classes.
        encryption_key: the key that the seller encrypts its images with.
        label_secret: the secret of seller and authority, from which the keys of labels are derived.
        signing_key: the private key that signs the upload, 32 bytes; empty where the seller has a key of its own.
        verify_key: the public key that verifies the upload, 32 bytes; empty in files of earlier versions.
    """

    seller: str
    scheme: Scheme
    image: tuple[int, int, int]
    classes: int
    encryption_key: EncryptionKey = field(repr=False)
    label_secret: bytes = field(repr=False)
    signing_key: bytes = field(repr=False)
    verify_key: bytes = b""


def enrol(
    folder: str | Path,
    seller: str,
    architecture: Architecture,
    out: str | Path,
    scheme: Scheme,
    cap_share: float,
    verify_key: bytes | None = None,
) -> Path:
    """At the authority: enrol `seller` for the images and classes of `architecture`.

    The authority draws the signing key too, unless the seller has one with a certificate (`seller_certificate`). So it
    could sign for the seller, just as it could read the uploads.

    Args:
        folder: the folder with the authority's state.
        seller: the seller's name.
        architecture: the architecture of the market's network.
        out: the folder into which the seller's file NAME.enrolment is written, with mode 600. The file must travel in
            private.
        scheme: the scheme of functional encryption.
        cap_share: the largest number of independent rows that keys are issued for, as a share of the pixels; see
            `Authority`.
        verify_key: the key, 32 bytes, that verifies what the seller signs; None draws a pair for the seller.

    Returns the path of the file.

    Raises InputError for a bad name, a name that is enrolled, a file that exists already, or a network whose first
    layer has more independent rows than the cap; then nothing is enrolled.
    """
    check_name(seller)
    check_cap(architecture, cap_share)
    authority = Authority(Path(folder), scheme, cap_share)
    path = Path(out) / f"{seller}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError("enrolment", path, "no such file yet: it may hold a seller's secrets") from None
    try:  # the file comes first, because a name that is enrolled without its file would be lost
        with open(descriptor, "w") as file:
            public = _enrol(authority, seller, architecture, file, verify_key)
    except BaseException:
        path.unlink()
        raise
    place = Path(folder) / REGISTRY
    place.mkdir(exist_ok=True)
    write_whole(place / f"{seller}.json", json.dumps(public))
    return path


def _enrol(
    authority: Authority, seller: str, architecture: Architecture, file: TextIO, verify_key: bytes | None
) -> dict[str, str]:
    """Write what the seller takes home into `file`, and return the public verification key and the key's id."""
    secret, verify_key = (b"", verify_key) if verify_key is not None else new_signing_key()
    made = authority.enrol(seller, architecture.features, verify_key)
    facts = {
        "seller": seller,
        "scheme": authority.scheme.name,
        "parameters": asdict(authority.scheme),
        "image": architecture.image,
        "classes": architecture.classes,
        "dimension": made.encryption_key.dimension,
        "material": made.encryption_key.material.hex(),
        "key_id": made.encryption_key.key_id,
        "label_secret": made.label_secret.hex(),
        "signing_key": secret.hex(),
        "verify_key": verify_key.hex(),
    }
    json.dump(facts, file)
    return {"verify_key": verify_key.hex(), "key_id": made.encryption_key.key_id}


def registry(folder: str | Path) -> dict[str, dict[str, str]]:
    """At the authority: return what is public of the sellers enrolled in `folder`.

    Returns, by seller, 'verify_key', the key in hexadecimal that verifies the seller's uploads, and 'key_id', the
    public id of its secret. Raises InputError, which names the seller, for a file that cannot be read.
    """
    found = {}
    for path in sorted((Path(folder) / REGISTRY).glob("*.json")):
        try:
            known = json.loads(path.read_text())
            found[path.stem] = {key: known[key] for key in ("verify_key", "key_id")}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"registry of {path.stem}", f"{path} ({type(error).__name__})", EXPECTED) from error
    return found


def read_keys(path: str | Path) -> SellerKeys:
    """At the seller: read the enrolment file at `path`. Raises InputError for any other file, and shows no secret."""
    try:
        facts = read_json(Path(path).read_text())
        wrong = ENROLMENT.violation(facts)
        if wrong is not None:  # the value may be a secret, and is not shown
            raise InputError("enrolment", f"{path}, with another {wrong.named('content')}", wrong.expected)
        if not set(facts["parameters"]) <= {each.name for each in fields(SCHEMES[facts["scheme"]])}:
            raise ValueError("parameters")
        key = EncryptionKey(facts["scheme"], facts["dimension"], bytes.fromhex(facts["material"]), facts["key_id"])
        return SellerKeys(
            facts["seller"],
            SCHEMES[facts["scheme"]](**facts["parameters"]),
            tuple(facts["image"]),
            facts["classes"],
            key,
            bytes.fromhex(facts["label_secret"]),
            bytes.fromhex(facts["signing_key"]),
            bytes.fromhex(facts.get("verify_key", "")),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ArithmeticError) as error:
        raise InputError("enrolment", f"{path} ({type(error).__name__})", EXPECTED) from error
