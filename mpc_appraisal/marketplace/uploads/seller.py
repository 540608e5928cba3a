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

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.signed_upload import write_upload
from mpc_appraisal.marketplace.plan import SellerInput
from mpc_appraisal.marketplace.uploads.enrolment import read_keys
from mpc_appraisal.marketplace.uploads.labels import label_shares

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


def upload(data: SellerInput, enrolment: str | Path, out: str | Path) -> Receipt:
    """At the seller: encrypt `data` with the keys in the file `enrolment`, and write them to `out`/NAME.upload.

    The file is authenticated and may travel in the open; with `ife_shares` it must not reach the cloud. Raises
    InputError where the data do not fit the enrolment.
    """
    keys = read_keys(enrolment)
    if keys.seller != data.name:
        raise InputError("enrolment", f"one of {keys.seller!r}", f"one of {data.name!r}")
    if data.x.shape[1] != keys.encryption_key.dimension:
        expected = f"{keys.encryption_key.dimension}, an image of shape {keys.image}"
        raise InputError(f"images of {data.name}", f"{data.x.shape[1]} pixels", expected)
    start = time.perf_counter()
    labels = label_shares(data.y, keys.classes, keys.label_secret)
    path = Path(out) / f"{data.name}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_upload(
        path, data.name, keys.scheme, keys.encryption_key, data.x, labels, keys.image, keys.signing_key,
        keys.label_secret,
    )  # fmt: skip
    return Receipt(data.name, path, len(data.x), time.perf_counter() - start, path.stat().st_size)
