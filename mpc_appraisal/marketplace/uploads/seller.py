"""A seller's only step: it reads its enrolment file, encrypts its images, seals its labels and writes one signed file.

In go a `SellerInput` and the file NAME.enrolment, which the key authority wrote; out comes the file NAME.upload with a
`Receipt` of its cost. After that the seller takes no part in any run. What an upload consists of is decided in
`encryption.signed_upload` and `uploads.labels`; this file may change in how it measures and where it writes. The ending
SUFFIX has to stay, because `inbox` looks for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.signed_upload import write_upload
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput
from mpc_appraisal.marketplace.uploads.enrolment import SellerKeys, read_keys
from mpc_appraisal.marketplace.uploads.labels import check_labels, label_shares

SUFFIX = ".upload"


@dataclass(frozen=True)
class Receipt:
    """What an upload cost the seller.

    Attributes:
        seller: the seller's name.
        file: the path of the upload.
        rows: the number of rows in it.
        seconds: the time that encrypting and writing took.
        bytes: the size of the file.
    """

    seller: str
    file: Path
    rows: int
    seconds: float
    bytes: int


def upload(
    data: SellerInput,
    enrolment: str | Path,
    out: str | Path,
    market: MarketPlan | None = None,
    signing_key: bytes | None = None,
) -> Receipt:
    """At the seller: encrypt `data` with the keys in the file `enrolment`, and write them to `out`/NAME.upload.

    The file is authenticated and may travel in the open; with `ife_shares` it must not reach the cloud.

    Args:
        data: the images and labels.
        enrolment: the file from the authority.
        out: the folder for the upload.
        market: the public plan, for which the upload is checked; None checks it for the enrolment alone.
        signing_key: the seller's own private key, 32 bytes, if it was enrolled with a certificate.

    Raises InputError where the data do not fit the enrolment, or data or enrolment do not fit the plan. Nothing has
    been written then.
    """
    keys = read_keys(enrolment)
    if keys.seller != data.name:
        raise InputError("enrolment", f"one of {keys.seller!r}", f"one of {data.name!r}")
    if data.x.shape[1] != keys.encryption_key.dimension:
        expected = f"{keys.encryption_key.dimension}, an image of shape {keys.image}"
        raise InputError(f"images of {data.name}", f"{data.x.shape[1]} pixels", expected)
    check_labels(data.y, keys.classes, len(data.x), data.name)
    if market is not None:
        _check_plan(keys, len(data.x), market)
    signing_key = _signing_key(keys, signing_key)
    start = time.perf_counter()
    labels = label_shares(data.y, keys.classes, keys.label_secret)
    path = Path(out) / f"{data.name}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_upload(
        path, data.name, keys.scheme, keys.encryption_key, data.x, labels, keys.image, signing_key,
        keys.label_secret,
    )  # fmt: skip
    return Receipt(data.name, path, len(data.x), time.perf_counter() - start, path.stat().st_size)


def _check_plan(keys: SellerKeys, rows: int, market: MarketPlan) -> None:
    """Raise InputError unless an upload of so many rows under these keys can be on offer in the market."""
    facts = {
        "image": (keys.image, tuple(market.architecture.image)),
        "classes": (keys.classes, market.architecture.classes),
        "scheme": (keys.scheme, market.protocol.scheme),
    }
    for name, (enrolled, planned) in facts.items():
        if enrolled != planned:
            raise InputError(f"enrolment of {keys.seller}", f"{name} {enrolled}", f"{planned}, as the plan states")
    if rows > market.seller_rows:
        raise InputError(f"images of {keys.seller}", f"{rows} rows", f"at most {market.seller_rows}, the plan's cap")


def _signing_key(keys: SellerKeys, own: bytes | None) -> bytes:
    """Return the key that signs. Raises InputError where it is missing, or is another one than that enrolled."""
    signing_key = keys.signing_key or own
    if not signing_key:
        raise InputError("key", None, f"the key of the certificate with which {keys.seller} was enrolled")
    if own and keys.verify_key != Ed25519PrivateKey.from_private_bytes(own).public_key().public_bytes_raw():
        raise InputError("key", "another key", f"the key of the certificate with which {keys.seller} was enrolled")
    return signing_key
