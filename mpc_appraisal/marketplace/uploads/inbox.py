"""The uploads that came: each is on offer once its signature, its keys and its shape hold, else refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.encryption.labels import TAG_BYTES
from mpc_appraisal.marketplace.encryption.signed_upload import Upload, read_upload
from mpc_appraisal.marketplace.messages import announced_by, count_of, id_of
from mpc_appraisal.marketplace.plan import MarketPlan
from mpc_appraisal.marketplace.roles import AUTHORITY
from mpc_appraisal.marketplace.uploads.labels import NONCE_BYTES
from mpc_appraisal.marketplace.uploads.seller import SUFFIX
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink


@dataclass(frozen=True)
class Offers:
    """What is on offer, by seller in the order of names: rows, and the uploads' ids. refused: by file's name, why."""

    rows: dict[str, int]
    ids: dict[str, bytes]
    refused: dict[str, str]

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def read_inbox(
    folder: str | Path, registry: Mapping[str, Mapping[str, str]], market: MarketPlan
) -> tuple[dict[str, Upload], dict[str, str]]:
    """Uploads by seller, and why others were refused. One bad file does not keep the others from being served."""
    uploads, refused = {}, {}
    paths = {path.name.removesuffix(SUFFIX): path for path in Path(folder).glob(f"*{SUFFIX}")}
    for name, path in sorted(paths.items()):  # by names, as the baseline: files' would put "a-b" before "a"
        try:
            uploads[name] = _verified(path, name, registry, market)
        except InputError as error:
            refused[name] = str(error)
    return uploads, refused


def sealed_width(market: MarketPlan) -> int:
    """Bytes of a sealed label: nonce, a share of 8 bytes a class, tag."""
    return NONCE_BYTES + 8 * market.architecture.classes + TAG_BYTES


def _verified(path: Path, name: str, registry: Mapping[str, Mapping[str, str]], market: MarketPlan) -> Upload:
    if name not in registry:
        raise InputError(f"upload of {name}", "a seller that the authority does not know", "an enrolled one")
    known, shape, width = registry[name], market.architecture.image, sealed_width(market)
    found = read_upload(
        path, name, bytes.fromhex(known["verify_key"]), market.protocol.scheme, tuple(shape), market.seller_rows, width
    )
    if found.ciphertext.key_id != known["key_id"]:
        raise InputError(f"upload of {name}", "ciphertexts under another key", "the key of its enrolment")
    if not len(found):
        raise InputError(f"upload of {name}", "no rows", "one or more")
    return found


def agree_offers(
    rendezvous: Rendezvous | TlsLink, holder: str, registry: dict[str, Any], read: Any, market: MarketPlan
) -> tuple[Offers, dict[str, Upload]]:
    """Every party calls it. registry: at the authority. read: from the registry to uploads and refusals; called at
    `holder` alone.

    Raises, at every party alike, InputError where nothing is left on offer or less than the budget, PeerError where the
    holder's note cannot be read.
    """
    known = rendezvous.exchange("registry", {"sellers": registry})[AUTHORITY]["sellers"]
    uploads, refused = read(known) if rendezvous.role == holder else ({}, {})
    note = {"rows": {}, "ids": {}, "refused": refused}
    for name, found in uploads.items():
        note["rows"][name], note["ids"][name] = len(found), found.upload_id.hex()
    told = rendezvous.exchange("offers", note)[holder]
    with announced_by(holder):
        offers = Offers(
            {name: count_of(rows, 1) for name, rows in told["rows"].items()},
            {name: id_of(told["ids"][name]) for name in told["rows"]},
            {shown(name, 200): shown(str(why), 500) for name, why in told["refused"].items()},
        )
    if not offers.rows:
        why = "; ".join(offers.refused.values()) or "no file in the inbox"
        raise InputError("uploads", why, "one seller's at least")
    market.check_pool(offers.total, offers.refused)
    return offers, uploads
