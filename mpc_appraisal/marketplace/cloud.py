"""The cloud in `ife_transform`: evaluates ciphertexts, predicts and retrains masked layers, and learns no label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.errors import InputError, PeerError
from mpc_appraisal.marketplace.desk import Desk, selected_rows
from mpc_appraisal.marketplace.notes import count_of, told_by
from mpc_appraisal.marketplace.plan import AUTHORITY, SHOPPER, Market
from mpc_appraisal.protocols.ife.scheme import FunctionKey
from mpc_appraisal.protocols.ife.sealed_upload import Upload
from mpc_appraisal.protocols.ife_transform import Steps, TransformCloud


@dataclass(frozen=True)
class CloudInput:
    """inbox: the folder of sellers' uploads; None in `ife_shares`, where they must not come to the cloud."""

    inbox: str | Path | None = None


def run_transform(desk: Desk, uploads: dict[str, Upload]) -> None:
    """The cloud's part.

    Raises PeerError, by the seller's name, where a signed ciphertext cannot be evaluated: the whole run ends, for what
    was predicted before is sent already.
    """
    market, messages = desk.market, desk.messages
    with desk.bill.phase("keys"):
        side = TransformCloud(
            messages, market.protocol.scheme, market.architecture, tells_squares(market), market.batch
        )
    products = {}
    for name, found in uploads.items():
        with desk.bill.phase("keys"):
            note = messages.hear(AUTHORITY)
            if "refused" in note:
                continue
            values = messages.receive_array(AUTHORITY)
            key = FunctionKey(market.protocol.scheme.name, market.architecture.features, values, note["key_id"])
        with desk.bill.phase("predict"):
            try:
                products[name] = side.predict(key, found.ciphertext)
            except InputError as error:
                raise PeerError(f"upload of seller {name}: {error}") from error  # which every role is told
    with desk.bill.phase("predict"):
        selected = selected_rows(desk)
        messages.send(SHOPPER, torch.from_numpy(np.stack([uploads[name].labels[row] for name, row in selected])))
    if market.validation:
        with told_by(SHOPPER):  # a seller that is over its cap has no products
            bought = torch.stack([products[name][row] for name, row in selected])
        _validate(desk, side, bought)


def _validate(desk: Desk, side: TransformCloud, selected: Tensor) -> None:
    """Retrain and predict as often as the shopper asks, each time from the network that was uploaded: what is refused
    is thereby rolled back. selected: (b, k1) products of the selection."""
    validation, messages = desk.market.validation, desk.messages
    how = steps_of(desk)
    with desk.bill.phase("retrain"):
        note = messages.hear(SHOPPER)
        with told_by(SHOPPER):
            own_rows, asked_rows = (count_of(note[name], 1) for name in ("own", "validation"))
        own = side.receive_products(own_rows)
    with desk.bill.phase("validate"):
        asked = side.receive_products(asked_rows)
    trained = {}
    while (note := messages.hear(SHOPPER)).get("train") is not None:
        with told_by(SHOPPER):
            places = [count_of(place) for place in note["train"]]
        if any(place >= len(selected) for place in places):
            raise PeerError(f"{SHOPPER} asked for rows that it did not select")
        with desk.bill.phase("retrain"):
            side.retrain(torch.cat([own, selected[places]]), how)
            trained[tuple(places)] = side.network()
        with desk.bill.phase("validate"):
            side.send_logits(asked)
    with told_by(SHOPPER):
        delivered = trained[tuple(note["deliver"])] if validation.deliver and note["deliver"] else None
    if delivered is not None:
        side.send_network(delivered)


def tells_squares(market: Market) -> bool:
    """Whether the cloud gets what exact updates need."""
    return market.validation is not None and market.protocol.update == "exact"


def steps_of(desk: Desk) -> Steps:
    """The SGD of the plan's validation."""
    v = desk.market.validation
    return Steps(v.steps, v.lr, v.batch_size, v.momentum, v.seed)
