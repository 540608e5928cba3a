"""The shopper's part in a run of `ife_transform`, the marketplace's protocol on masked layers.

The shopper wants to buy rows from sellers whose encrypted images lie at a cloud; an authority holds the keys. The
shopper sends its network under secret masks, reads the predictions of all rows on offer, selects the most uncertain
ones, obtains their labels, and retrains the network on subsets to see whether they help. In go the run's context, which
sends messages to cloud and authority, and the shopper's network with rows of its own. Out comes the `MarketResult`
without costs, or an InputError that names a seller. How masks are computed is in `protocols`.

The rules of selection and of validation may change (`buying`). The order and the contents of messages have to fit
`cloud.py` and `authority.py`, and `openings` has to name everything that a run opens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.buying.selection import select
from mpc_appraisal.marketplace.buying.validation import Verdict, validate, wrong_predictions
from mpc_appraisal.marketplace.encryption.labels import open_label
from mpc_appraisal.marketplace.plan import MarketPlan, ShopperInput, rows_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import TransformShopper
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.marketplace.roles.cloud import needs_squares, steps_of
from mpc_appraisal.marketplace.roles.context import KEY_BYTES, RunContext, Selected, by_seller
from mpc_appraisal.marketplace.roles.trials import kept_places
from mpc_appraisal.marketplace.uploads.inbox import sealed_width
from mpc_appraisal.marketplace.uploads.labels import NONCE_BYTES, joined, pads, shares_of
from mpc_appraisal.models.networks import Network
from mpc_appraisal.mpc.session import Opening


def run_transform(context: RunContext, own: ShopperInput) -> MarketResult:
    """Run the shopper's side of `ife_transform`.

    A seller whose signed file cannot be evaluated is left out before rows are selected. A seller whose selected labels
    do not open, or are no labels, is left out afterwards, because labels are opened only then. The selection then has
    fewer rows than the budget, and no others replace them, so that nobody can obtain more labels by calling some bad.
    Both kinds of sellers stand in `refused` by their names.

    Returns the result without costs, which are added when all roles have announced theirs.

    Raises InputError, which names a seller, where nothing is left.
    """
    market, messages = context.market, context.messages
    with context.costs.phase("keys"):
        side = TransformShopper(messages, own.network, needs_squares(market), market.batch)
        side.send_model()
    probabilities, refused = {}, dict(context.offers.refused)
    for name, rows in context.offers.rows.items():
        with context.costs.phase("keys"):
            message = messages.hear(AUTHORITY)
        if "refused" in message:
            refused[name] = shown(str(message["refused"]), 500)
            continue
        with context.costs.phase("predict"):
            message = messages.hear(CLOUD)
            if "refused" in message:
                refused[name] = shown(str(message["refused"]), 500)
                continue
            probabilities[name] = side.logits(rows).softmax(dim=1)
    with context.costs.phase("predict"):
        selected = chosen(market, probabilities, refused)
        for role in (CLOUD, AUTHORITY):
            messages.announce(role, {"rows": selected})
    with context.costs.phase("keys"):
        labels, left_out = _labels(context, selected)
    kept = kept_of(selected, left_out)
    verdicts, network = [], None
    if market.validation:
        verdicts, network = _validate(context, side, own, labels, kept, left_out)
    return MarketResult(
        tuple(selected[place] for place in kept),
        probabilities,
        tuple(verdicts),
        {},
        openings(context, own, sum(map(len, probabilities.values())), len(verdicts), side.gradients),
        market.protocol.leakage,
        market.protocol.label,
        tuple((refused | left_out).items()),
        labels[kept],
        network,
    )


def chosen(
    market: MarketPlan, probabilities: dict[str, Tensor], refused: Mapping[str, str] | None = None
) -> tuple[tuple[str, int], ...]:
    """Select over the rows of all sellers, in the order of `probabilities`, which is that of names.

    Args:
        market: the public plan.
        probabilities: the predicted probabilities of each seller's rows, (n, C), by seller.
        refused: by seller, why it was refused; for the error alone.

    Returns pairs (seller, row), most uncertain first. Raises InputError for fewer rows than the budget.
    """
    rows = [(name, row) for name, p in probabilities.items() for row in range(len(p))]
    market.check_pool(len(rows), refused)
    pool = torch.cat(list(probabilities.values()))
    return tuple(rows[place] for place in select(pool, market.selection, market.budget, market.seed).tolist())


def kept_of(selected: Selected, left_out: Mapping[str, str]) -> list[int]:
    """Return the places of the selection that are left. Raises InputError, which names a seller, if none is left."""
    kept = kept_places(selected, list(left_out))
    if not kept:
        name, why = next(iter(left_out.items()))
        raise InputError(f"upload of {name}", why, "one seller whose selected labels open, at least")
    return kept


def open_shares(
    context: RunContext, selected: Selected, sealed: np.ndarray
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Open the sealed labels of the selection with the keys that the authority sends.

    The authority is sent the nonces of the pads. For a seller that is left out the nonce is zeros, which open nothing.

    Args:
        context: this role's view of the run.
        selected: the selection, b pairs (seller, row).
        sealed: the sealed labels in the order of the selection, (b, width) uint8.

    Returns, by seller, the shares of its selected labels, (rows, C); and by seller, why a seller whose labels do not
    open is left out.
    """
    keys = context.messages.receive(AUTHORITY, (len(selected), KEY_BYTES), torch.uint8).numpy()
    shares, nonces, left_out = {}, {}, {}
    for name, places in by_seller(selected).items():
        try:
            opened = [open_label(name, sealed[place], selected[place][1], keys[place].tobytes()) for place in places]
            nonce, shares[name] = shares_of(np.stack(opened), context.market.architecture.classes, name)
        except InputError as error:
            nonce, left_out[name] = bytes(NONCE_BYTES), str(error)
        nonces[name] = nonce.hex()
    context.messages.announce(AUTHORITY, {"nonces": nonces})
    return shares, left_out


def _labels(context: RunContext, selected: Selected) -> tuple[Tensor, dict[str, str]]:
    """Obtain the labels of the selection.

    Returns the labels (b,), in the order of the selection; and by seller, why a seller is left out. The labels of a
    seller that is left out mean nothing.
    """
    sealed = context.messages.receive(CLOUD, (len(selected), sealed_width(context.market)), torch.uint8).numpy()
    shares, left_out = open_shares(context, selected, sealed)
    keys = context.messages.receive(AUTHORITY, (len(selected), KEY_BYTES), torch.uint8).numpy()
    labels = torch.zeros(len(selected), dtype=torch.int64)
    for name, places in by_seller(selected).items():
        if name in left_out:
            continue
        own = pads([keys[place].tobytes() for place in places], context.market.architecture.classes)
        try:
            labels[places] = joined(shares[name], own, name)
        except InputError as error:
            left_out[name] = str(error)
    return labels, left_out


def _validate(
    context: RunContext,
    side: TransformShopper,
    own: ShopperInput,
    labels: Tensor,
    kept: list[int],
    left_out: Mapping[str, str],
) -> tuple[list[Verdict], Network | None]:
    """Try the subsets of the selection.

    `kept` has the places of the selection that are tried, and the rows of a verdict are places in `kept`.

    Returns the verdicts, and the network retrained with what was accepted, or None where the market delivers none.
    """
    market, messages = context.market, context.messages
    x, y = rows_of(own.own, market.architecture, "own")
    asked_x, asked_y = rows_of(own.validation, market.architecture, "validation")
    with context.costs.phase("retrain"):
        messages.announce(CLOUD, {"own": len(x), "validation": len(asked_x), "left_out": dict(left_out)})
        side.send_products(x)
    with context.costs.phase("validate"):
        side.send_products(asked_x)
    how, tried = steps_of(context), torch.tensor(kept)

    def retrain(places: Tensor) -> Callable[[Tensor], Tensor]:
        with context.costs.phase("retrain"):
            messages.announce(CLOUD, {"train": tried[places].tolist()})
            side.retrain(torch.cat([y, labels[tried[places]]]), how)
        return predict

    def predict(asked: Tensor) -> Tensor:
        with context.costs.phase("validate"):
            return side.logits(len(asked))

    before = wrong_predictions(side.own_logits, asked_x, asked_y) / len(asked_y)
    places, granularity = torch.arange(len(kept)), min(market.validation.granularity, len(kept))
    verdicts = validate(retrain, places, granularity, asked_x, asked_y, before, keep=True)
    accepted = [kept[place] for verdict in verdicts if verdict.accepted for place in verdict.rows]
    messages.announce(CLOUD, {"train": None, "deliver": accepted if market.validation.deliver else []})
    with context.costs.phase("retrain"):
        delivered = market.validation.deliver and accepted
        return verdicts, side.network() if delivered else None


def openings(context: RunContext, own: ShopperInput, rows: int, verdicts: int, gradients: int) -> tuple[Opening, ...]:
    """List what was opened to whom in a run of `ife_transform`."""
    market = context.market
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
    if needs_squares(market):
        units = sum(shape[0] for shape in architecture.shapes()[:-1])
        found.append(Opening("squared mask factors", (CLOUD,), units, "exact updates"))
    if v.deliver:
        found.append(Opening("retrained layers", (SHOPPER,), later, "the market delivers them"))
    return tuple(found)
