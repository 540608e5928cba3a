"""The cloud in `ife_transform`: it evaluates ciphertexts, and predicts and retrains with masked layers.

In go the run's context and the sellers' uploads; predictions go to the shopper, and gradients come from it. The cloud
learns no label. It serves every seller that it can, and derives from the plan what it may be asked (`trials`). How it
computes may change (`protocols`). The order and the contents of messages have to fit `shopper` and `authority`; and
nothing of an upload may be sent before all of its ciphertexts were evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.common.text import shown
from mpc_appraisal.marketplace.encryption.scheme import FunctionKey
from mpc_appraisal.marketplace.encryption.signed_upload import Upload
from mpc_appraisal.marketplace.messages import REASON, announced_by, count_of, reasons_of
from mpc_appraisal.marketplace.plan import MarketPlan
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import Steps, TransformCloud
from mpc_appraisal.marketplace.roles import AUTHORITY, SHOPPER
from mpc_appraisal.marketplace.roles.context import RunContext, Selected, selected_rows
from mpc_appraisal.marketplace.roles.trials import MOST_ROWS, Trials, kept_places


@dataclass(frozen=True)
class CloudInput:
    """The private input of the cloud.

    Attributes:
        inbox: the folder of sellers' uploads; None in `ife_shares`, where the cloud must not have them.
    """

    inbox: str | Path | None = None


def run_transform(context: RunContext, uploads: dict[str, Upload]) -> None:
    """Run the cloud's side of `ife_transform`.

    A seller whose signed ciphertexts cannot be evaluated is left out by its name before anything of that seller is
    sent, and the others are served. Raises PeerError where the shopper asks for what the plan does not have, see
    `trials`.
    """
    market, messages = context.market, context.messages
    with context.costs.phase("keys"):
        side = TransformCloud(
            messages, market.protocol.scheme, market.architecture, needs_squares(market), market.batch
        )
    products = {}
    for name, found in uploads.items():
        with context.costs.phase("keys"):
            message = messages.hear(AUTHORITY)
            if "refused" in message:
                context.refusal(name, shown(str(message["refused"]), REASON))
                continue
            values = messages.receive_array(AUTHORITY)
            key = FunctionKey(market.protocol.scheme.name, market.architecture.features, values, message["key_id"])
        with context.costs.phase("predict"):
            try:
                products[name] = side.products(key, found.ciphertext)
            except InputError as error:
                messages.announce(SHOPPER, {"refused": f"upload of seller {name}: {error}"})
                context.refusal(name, f"upload of seller {name}: {error}")
                continue
            messages.announce(SHOPPER, {"rows": len(products[name])})
            side.send_logits(products[name])
    with context.costs.phase("predict"):
        selected = selected_rows(context)
        if any(name not in products for name, _ in selected):
            raise PeerError(f"{SHOPPER} selected rows of a seller that was refused")
        messages.send(SHOPPER, torch.from_numpy(np.stack([uploads[name].labels[row] for name, row in selected])))
    if market.validation:
        _validate(context, side, torch.stack([products[name][row] for name, row in selected]), selected)


def _validate(context: RunContext, side: TransformCloud, bought: Tensor, selected: Selected) -> None:
    """Retrain and predict for each subset of the plan.

    Each retraining starts from the network that was uploaded, which undoes what was refused before.

    Args:
        context: this role's view of the run.
        side: the cloud's computations.
        bought: the first-layer products of the selection, (b, k1).
        selected: the selection, b pairs (seller, row).
    """
    validation, messages = context.market.validation, context.messages
    how = steps_of(context)
    with context.costs.phase("retrain"):
        message = messages.hear(SHOPPER)
        with announced_by(SHOPPER):
            own_rows, asked_rows = (count_of(message[name], 1, MOST_ROWS) for name in ("own", "validation"))
            left_out = reasons_of(message["left_out"], context.offers.rows)
        for name, why in left_out.items():
            context.refusal(name, why)
        trials = Trials(kept_places(selected, list(left_out)), validation.granularity)
        own = side.receive_products(own_rows)
    with context.costs.phase("validate"):
        asked = side.receive_products(asked_rows)
    trained = {}
    while (message := messages.hear(SHOPPER)).get("train") is not None:
        with announced_by(SHOPPER):
            places = [count_of(place) for place in message["train"]]
        trials.take(places)
        with context.costs.phase("retrain"):
            side.retrain(torch.cat([own, bought[places]]), how)
            trained[tuple(places)] = side.network()
        with context.costs.phase("validate"):
            side.send_logits(asked)
    with announced_by(SHOPPER):
        asked_for = [count_of(place) for place in message["deliver"]]
        delivered = None
        if validation.deliver and asked_for:
            trials.deliver(asked_for)
            delivered = trained[tuple(asked_for)]
    if delivered is not None:
        side.send_network(delivered)


def needs_squares(market: MarketPlan) -> bool:
    """Return whether the cloud needs the squared mask factors, because its updates are exact."""
    return market.validation is not None and market.protocol.update == "exact"


def steps_of(context: RunContext) -> Steps:
    """Return the settings of SGD in the plan's validation."""
    v = context.market.validation
    return Steps(v.steps, v.lr, v.batch_size, v.momentum, v.seed)
