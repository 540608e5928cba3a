"""The shopper in `ife_transform`: masks its model, reads predictions, selects, buys labels to try, and judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.errors import shown
from mpc_appraisal.marketplace.cloud import steps_of, tells_squares
from mpc_appraisal.marketplace.desk import KEY_BYTES, Desk, Selected, by_seller
from mpc_appraisal.marketplace.inbox import sealed_width
from mpc_appraisal.marketplace.labels import joined, pads, shares_of
from mpc_appraisal.marketplace.plan import AUTHORITY, CLOUD, SHOPPER, Market, ShopperInput, rows_of
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.mpc.session import Opening
from mpc_appraisal.networks import Network
from mpc_appraisal.protocols.ife.labels import open_label
from mpc_appraisal.protocols.ife_transform import TransformShopper
from mpc_appraisal.selection import select
from mpc_appraisal.validation import Verdict, validate, wrong_predictions


def run_transform(desk: Desk, own: ShopperInput) -> MarketResult:
    """The shopper's part; the costs are put in when all roles have told theirs.

    Raises InputError, by the seller's name, where selected labels of a signed file do not open or are no labels: the
    whole run ends, for the selection had its budget of them, and is run again without that file.
    """
    market, messages = desk.market, desk.messages
    with desk.bill.phase("keys"):
        side = TransformShopper(messages, own.network, tells_squares(market), market.batch)
        side.send_model()
    probabilities, refused = {}, dict(desk.offers.refused)
    for name, rows in desk.offers.rows.items():
        with desk.bill.phase("keys"):
            note = messages.hear(AUTHORITY)
        if "refused" in note:
            refused[name] = shown(str(note["refused"]), 500)
            continue
        with desk.bill.phase("predict"):
            probabilities[name] = side.logits(rows).softmax(dim=1)
    with desk.bill.phase("predict"):
        selected = chosen(market, probabilities, refused)
        for role in (CLOUD, AUTHORITY):
            messages.tell(role, {"rows": selected})
    with desk.bill.phase("keys"):
        labels = _labels(desk, selected)
    verdicts, network = [], None
    if market.validation:
        verdicts, network = _validate(desk, side, own, labels)
    return MarketResult(
        selected,
        probabilities,
        tuple(verdicts),
        {},
        openings(desk, own, sum(map(len, probabilities.values())), len(verdicts), side.gradients),
        market.protocol.leakage,
        market.protocol.label,
        tuple(refused.items()),
        labels,
        network,
    )


def chosen(
    market: Market, probabilities: dict[str, Tensor], refused: Mapping[str, str] | None = None
) -> tuple[tuple[str, int], ...]:
    """The selection over all sellers' rows, in the order of names. InputError where the pool is below the budget."""
    rows = [(name, row) for name, p in probabilities.items() for row in range(len(p))]
    market.check_pool(len(rows), refused)
    pool = torch.cat(list(probabilities.values()))
    return tuple(rows[place] for place in select(pool, market.selection, market.budget, market.seed).tolist())


def open_shares(desk: Desk, selected: Selected, sealed: np.ndarray) -> dict[str, Tensor]:
    """With the keys that the authority sends: by seller, the shares of its selected labels (b, C). Tells the authority
    the nonces of the pads."""
    keys = desk.messages.receive(AUTHORITY, (len(selected), KEY_BYTES), torch.uint8).numpy()
    shares, nonces = {}, {}
    for name, places in by_seller(selected).items():
        opened = [open_label(name, sealed[place], selected[place][1], keys[place].tobytes()) for place in places]
        nonce, shares[name] = shares_of(np.stack(opened), desk.market.architecture.classes, name)
        nonces[name] = nonce.hex()
    desk.messages.tell(AUTHORITY, {"nonces": nonces})
    return shares


def _labels(desk: Desk, selected: Selected) -> Tensor:
    """(b,) labels of the selection, in its order."""
    sealed = desk.messages.receive(CLOUD, (len(selected), sealed_width(desk.market)), torch.uint8).numpy()
    shares = open_shares(desk, selected, sealed)
    keys = desk.messages.receive(AUTHORITY, (len(selected), KEY_BYTES), torch.uint8).numpy()
    labels = torch.zeros(len(selected), dtype=torch.int64)
    for name, places in by_seller(selected).items():
        labels[places] = joined(
            shares[name], pads([keys[place].tobytes() for place in places], desk.market.architecture.classes), name
        )
    return labels


def _validate(
    desk: Desk, side: TransformShopper, own: ShopperInput, labels: Tensor
) -> tuple[list[Verdict], Network | None]:
    """Verdicts, and the network retrained with what was accepted where the market delivers it."""
    market, messages = desk.market, desk.messages
    x, y = rows_of(own.own, market.architecture, "own")
    asked_x, asked_y = rows_of(own.validation, market.architecture, "validation")
    with desk.bill.phase("retrain"):
        messages.tell(CLOUD, {"own": len(x), "validation": len(asked_x)})
        side.send_products(x)
    with desk.bill.phase("validate"):
        side.send_products(asked_x)
    how = steps_of(desk)

    def retrain(places: Tensor) -> Callable[[Tensor], Tensor]:
        with desk.bill.phase("retrain"):
            messages.tell(CLOUD, {"train": places.tolist()})
            side.retrain(torch.cat([y, labels[places]]), how)
        return predict

    def predict(asked: Tensor) -> Tensor:
        with desk.bill.phase("validate"):
            return side.logits(len(asked))

    before = wrong_predictions(side.own_logits, asked_x, asked_y) / len(asked_y)
    places = torch.arange(market.budget)
    verdicts = validate(retrain, places, market.validation.granularity, asked_x, asked_y, before, keep=True)
    accepted = [place for verdict in verdicts if verdict.accepted for place in verdict.rows]
    messages.tell(CLOUD, {"train": None, "deliver": accepted if market.validation.deliver else []})
    with desk.bill.phase("retrain"):
        delivered = market.validation.deliver and accepted
        return verdicts, side.network() if delivered else None


def openings(desk: Desk, own: ShopperInput, rows: int, verdicts: int, gradients: int) -> tuple[Opening, ...]:
    """What was opened to whom in a run of `ife_transform`."""
    market = desk.market
    architecture, v = market.architecture, market.validation
    k, classes = int(np.prod(architecture.shapes()[0])), architecture.classes
    later = sum(p.numel() for p in (*own.network.weights[1:], *own.network.biases))
    found = [
        Opening("masked first layer", (CLOUD, AUTHORITY), k * architecture.features, "keys are made for it"),
        Opening("masked remaining layers", (CLOUD,), later, "the cloud computes with them"),
        Opening("first-layer products of all records", (CLOUD,), rows * k, "evaluation of ciphertexts"),
        Opening("masked logits of all records", (CLOUD,), rows * classes, "prediction"),
        Opening("logits of all records", (SHOPPER,), rows * classes, "selection"),
        Opening("rows selected", (CLOUD, AUTHORITY), market.budget, "their labels and products are asked for"),
        Opening("labels of the rows selected", (SHOPPER,), market.budget, "retraining's gradients"),
    ]
    if v is None:
        return tuple(found)
    own_rows, asked_rows = len(own.own[0]), len(own.validation[0])
    found += [
        Opening("masked products of the shopper's own rows", (CLOUD,), own_rows * k, "retraining"),
        Opening("masked products of the validation rows", (CLOUD,), asked_rows * k, "validation"),
        Opening("rotated gradients", (CLOUD,), gradients * classes, "retraining"),
        Opening("logits of the validation rows", (SHOPPER,), asked_rows * classes * verdicts, "verdicts"),
        Opening("which subsets were accepted", (CLOUD,), verdicts, "later subsets are trained beside them"),
    ]
    if tells_squares(market):
        units = sum(shape[0] for shape in architecture.shapes()[:-1])
        found.append(Opening("squared mask factors", (CLOUD,), units, "exact updates"))
    if v.deliver:
        found.append(Opening("retrained layers", (SHOPPER,), later, "the market delivers them"))
    return tuple(found)
