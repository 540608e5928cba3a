"""The inbox of uploads, and the offers that all roles agree on.

In `ife_transform` the cloud holds the inbox, a folder of sellers' signed files, and in `ife_shares` the shopper does.
`read_inbox` reads the folder: an upload is on offer once its signature, its keys and its shape are found right; any
other upload is refused by its name. `agree_offers` announces the result to the other roles and returns the same
`Offers` at each. A further check may be added to `_verified`, if it raises InputError. The order of the two exchanges
and the keys of the messages have to stay equal at all roles, and offers have to be in the order of names, because the
baseline selects in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from mpc_appraisal.mpc.net.lifecycle import Link

NAMED, SAID = 200, 500  # the most characters of a refused file's name, and of the reason


@dataclass(frozen=True)
class Offers:
    """What is on offer in a run, which is equal at all roles.

    Attributes:
        rows: the number of rows on offer, by seller, in the order of names.
        ids: the id of the upload, 16 bytes, by seller.
        refused: why an upload was refused, by the name of its file.
    """

    rows: dict[str, int]
    ids: dict[str, bytes]
    refused: dict[str, str]

    @property
    def total(self) -> int:
        """Return the number of rows on offer over all sellers."""
        return sum(self.rows.values())


def read_inbox(
    folder: str | Path, registry: Mapping[str, Mapping[str, str]], market: MarketPlan
) -> tuple[dict[str, Upload], dict[str, str]]:
    """Read the uploads in `folder`; one bad file does not keep the others from being served.

    Args:
        folder: the folder with the sellers' files.
        registry: what is public of the enrolled sellers, as `enrolment.registry` returns it.
        market: the public plan, which the uploads have to fit.

    Returns the good uploads by seller, and by name why others were refused.
    """
    uploads, refused = {}, {}
    paths = {path.name.removesuffix(SUFFIX): path for path in Path(folder).glob(f"*{SUFFIX}")}
    # The baseline goes by the order of names, too; the order of files would put "a-b" before "a".
    for name, path in sorted(paths.items()):
        try:
            uploads[name] = _verified(path, name, registry, market)
        except InputError as error:
            refused[shown(name, NAMED)] = shown(str(error), SAID)  # longer ones would not pass at the other roles
    return uploads, refused


def sealed_width(market: MarketPlan) -> int:
    """Return the number of bytes of a sealed label: its nonce, a share of 8 bytes for each class, and a tag."""
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
    rendezvous: Link,
    holder: str,
    registry: dict[str, Any],
    read: Callable[[Mapping[str, Mapping[str, str]]], tuple[dict[str, Upload], dict[str, str]]],
    market: MarketPlan,
) -> tuple[Offers, dict[str, Upload]]:
    """Agree on what is on offer. Every role calls this function at the same place of a run.

    Args:
        rendezvous: where the roles meet.
        holder: the role that holds the inbox.
        registry: what is public of the enrolled sellers, at the authority; empty elsewhere.
        read: a function of the registry that returns uploads and refusals, as `read_inbox` does; it is called at
            `holder` alone.
        market: the public plan.

    Returns the offers, and the uploads by seller, which are empty everywhere but at `holder`.

    Raises InputError at every role alike where nothing is on offer, or fewer rows than the budget; PeerError where the
    holder's message cannot be read.
    """
    known = rendezvous.exchange("registry", {"sellers": registry})[AUTHORITY]["sellers"]
    uploads, refused = read(known) if rendezvous.role == holder else ({}, {})
    own = {"rows": {}, "ids": {}, "refused": refused}
    for name, found in uploads.items():
        own["rows"][name], own["ids"][name] = len(found), found.upload_id.hex()
    message = rendezvous.exchange("offers", own)[holder]
    with announced_by(holder):
        offers = Offers(
            {name: count_of(rows, 1) for name, rows in message["rows"].items()},
            {name: id_of(message["ids"][name]) for name in message["rows"]},
            {shown(name, NAMED): shown(str(why), SAID) for name, why in message["refused"].items()},
        )
    if not offers.rows:
        why = "; ".join(offers.refused.values()) or "no file in the inbox"
        raise InputError("uploads", why, "the upload of one seller at least")
    market.check_pool(offers.total, offers.refused)
    return offers, uploads
