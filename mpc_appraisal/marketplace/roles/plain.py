"""The baseline: the same market in one process, in float64 and with the same quantised first layer.

In go the plan and the inputs of shopper and sellers; out comes a `MarketResult`. The baseline hides nothing. Selections
and verdicts of the private protocols are compared with those of `run_plain`. So the order of sellers, the rule of
selection, the batches and the steps of SGD have to stay those of the private protocols; how they are computed may
change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.marketplace.buying.validation import Verdict, validate, wrong_predictions
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput, ShopperInput, rows_of
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import quantised_first
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.roles.shopper import chosen
from mpc_appraisal.models.networks import Network, batches, first_bias, remaining

EVERYBODY = "everybody"


def run_plain(market: MarketPlan, shopper: ShopperInput, sellers: Sequence[SellerInput]) -> MarketResult:
    """Select and validate in the clear. Returns the same kind of result as a private run.

    Args:
        market: the public plan.
        shopper: the shopper's input.
        sellers: one input for each seller, in any order.

    Raises InputError where fewer rows are on offer than the budget, and where the shopper's rows have another form.
    """
    sellers = sorted(sellers, key=lambda seller: seller.name)
    network = shopper.network.to(torch.float64)
    first = quantised_first(network)
    bias = first_bias(network)
    costs: dict[str, dict[str, dict[str, float]]] = {}

    def hidden(x: np.ndarray | Tensor) -> Tensor:
        """Return z_1 of pixels 0 .. 255, with the quantised first layer."""
        return first.real(torch.as_tensor(x).to(torch.float64) @ torch.from_numpy(first.w.T).to(torch.float64)) + bias

    start = time.perf_counter()
    z1 = {seller.name: hidden(seller.x) for seller in sellers}
    probabilities = {name: network.from_hidden(z).softmax(dim=1) for name, z in z1.items()}
    selected = chosen(market, probabilities)
    costs["predict"] = {EVERYBODY: {"seconds": time.perf_counter() - start, "bytes": 0, "rounds": 0}}
    data = {seller.name: seller for seller in sellers}
    labels = torch.tensor([int(data[name].y[row]) for name, row in selected])
    result = MarketResult(
        selected,
        probabilities,
        (),
        costs,
        (),
        ("One process sees everything: a baseline, no privacy.",),
        "no privacy: the baseline",
        (),
        labels,
    )
    if market.validation is None:
        return result
    start = time.perf_counter()
    x, y = rows_of(shopper.own, market.architecture, "own")
    asked_x, asked_y = rows_of(shopper.validation, market.architecture, "validation")
    own, asked = hidden(x), hidden(asked_x)
    bought = torch.stack([z1[name][row] for name, row in selected])
    trained: dict[tuple[int, ...], Network] = {}

    def retrain(places: Tensor) -> Callable[[Tensor], Tensor]:
        made = _retrained(network, torch.cat([own, bought[places]]), torch.cat([y, labels[places]]), market)
        trained[tuple(places.tolist())] = made
        return lambda _: made.from_hidden(asked)

    before = wrong_predictions(lambda _: network.from_hidden(asked), asked_x, asked_y) / len(asked_y)
    verdicts = validate(
        retrain, torch.arange(market.budget), market.validation.granularity, asked_x, asked_y, before, keep=True
    )
    costs["retrain"] = {EVERYBODY: {"seconds": time.perf_counter() - start, "bytes": 0, "rounds": 0}}
    accepted = accepted_places(verdicts)
    delivered = trained[accepted] if market.validation.deliver and accepted else None
    return replace(result, verdicts=tuple(verdicts), network=delivered)


def accepted_places(verdicts: Sequence[Verdict]) -> tuple[int, ...]:
    """Return the places in the selection of all accepted subsets, in the order of trials."""
    return tuple(place for verdict in verdicts if verdict.accepted for place in verdict.rows)


def _retrained(network: Network, z1: Tensor, y: Tensor, market: MarketPlan) -> Network:
    """Retrain the layers after the first by SGD with momentum, as `networks.train` does; z1 (n, k1), y (n,)."""
    v = market.validation
    layers = [p.clone().requires_grad_() for p in (*network.weights[1:], *network.biases[1:])]
    half, velocities = len(layers) // 2, [torch.zeros_like(p) for p in layers]
    for index in batches(len(y), v.batch_size, v.steps, v.seed):
        z = remaining(network.architecture, layers[:half], layers[half:], z1[index])
        gradients = torch.autograd.grad(functional.cross_entropy(z, y[index]), layers)
        with torch.no_grad():
            for p, velocity, gradient in zip(layers, velocities, gradients, strict=True):
                velocity.mul_(v.momentum).add_(gradient)
                p.sub_(velocity, alpha=v.lr)
    weights, biases = (tuple(p.detach() for p in part) for part in (layers[:half], layers[half:]))
    return Network(network.architecture, network.weights[:1] + weights, network.biases[:1] + biases)
