"""The encrypted marketplace: both strategies in real processes give what the plaintext baseline gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_market import (
    CAP,
    PROBABILITY,
    SHARES,
    SMALL,
    WEIGHT,
    in_threads,
    market,
    problem,
)

from mpc_appraisal.appraisal.sessions import Plain, Spawn
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.labels import label_key
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform, quantised_first
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SELLERS, SHOPPER
from mpc_appraisal.marketplace.uploads.labels import joined, label_shares, pads, shares_of
from mpc_appraisal.models.networks import ARCHITECTURES, train

PLANS = {
    "ife_transform": market(ARCHITECTURES["cnn"]),
    "ife_shares": market(SMALL, SHARES),
}


@pytest.fixture(scope="module", params=PLANS)
def runs(request):
    """The plan, the inputs, and the results of the baseline and of real processes."""
    plan = PLANS[request.param]
    shopper, sellers = problem(plan.architecture)
    plain = run_market(plan, shopper, sellers, Plain())
    spawned = run_market(plan, shopper, sellers, Spawn(), cap_share=CAP, sellers_per_process=2)
    return plan, shopper, sellers, plain, spawned


def test_real_processes_select_and_judge_as_the_baseline(runs):
    plan, _, sellers, plain, spawned = runs
    assert spawned.selected == plain.selected and len(set(plain.selected)) == plan.budget
    assert spawned.verdicts == plain.verdicts and len(plain.verdicts) == 3
    for seller in sellers:
        found, expected = spawned.probabilities[seller.name], plain.probabilities[seller.name]
        assert found.shape == (len(seller.x), 10)
        assert (found - expected).abs().max() <= PROBABILITY[plan.protocol.name]


def test_the_baseline_predicts_as_the_network_itself(runs):
    """Only the quantised first layer differs: by its error times the other layers' norms, halved in a probability."""
    _, shopper, sellers, plain, _ = runs
    network = shopper.network.to(torch.float64)
    bound = quantised_first(network).error.max() / 2
    for weight in network.weights[1:]:
        bound *= weight.abs().sum(1).max().item()
    for seller in sellers:
        expected = network.probabilities(torch.from_numpy(seller.x).double() / 255)
        assert 0 < (plain.probabilities[seller.name] - expected).abs().max() <= bound


def test_every_output_says_what_the_strategy_is(runs):
    plan, _, _, plain, spawned = runs
    word = {"ife_transform": "not encryption", "ife_shares": "secret shares"}[plan.protocol.name]
    assert word in spawned.label and spawned.leakage == plan.protocol.leakage
    assert "no privacy" in plain.label and "no privacy" in plain.leakage[0]


def test_costs_are_told_by_phase_and_role(runs):
    plan, _, sellers, _, spawned = runs
    assert set(spawned.costs["enrol"]) == {AUTHORITY} and set(spawned.costs["encrypt"]) == {SELLERS}
    # A ciphertext has 8 bytes a pixel and a seed of 32, and a sealed label has 112.
    rows = sum(len(seller.x) for seller in sellers)
    sent = spawned.costs["upload"][SELLERS]["bytes"]
    assert 0 < sent - rows * (8 * plan.architecture.features + 32 + 112) < 2000 * len(sellers)
    for phase in ("keys", "predict", "retrain"):
        assert {SHOPPER, CLOUD} <= set(spawned.costs[phase])
        assert all(cost["seconds"] > 0 for cost in spawned.costs[phase].values())
    outputs = int(np.prod(plan.architecture.shapes()[0]))
    assert spawned.costs["keys"][AUTHORITY]["bytes"] > len(sellers) * outputs * 2560 * 8
    assert spawned.costs["retrain"][CLOUD]["rounds"] >= 6 * len(spawned.verdicts)


def test_openings_say_who_learned_what(runs):
    plan, _, sellers, _, spawned = runs
    opened = {(opening.what, opening.to): opening.numbers for opening in spawned.openings}
    rows = sum(len(seller.x) for seller in sellers)
    labels = [what for what, _ in opened if what.startswith("labels")]
    to_cloud = [what for what, to in opened if CLOUD in to]
    if plan.protocol.name == "ife_transform":
        outputs = int(np.prod(plan.architecture.shapes()[0]))
        assert opened["first-layer products of all records", (CLOUD,)] == rows * outputs
        assert opened["logits of all records", (SHOPPER,)] == rows * 10 and labels
    else:
        assert sum(o.numbers for o in spawned.openings if o.what == "logits of encrypted images") == rows * 10
        assert not labels and sorted(to_cloud) == ["rows selected", "which subsets were accepted"]
        judged = opened["selected labels in orders that it does not know", (AUTHORITY,)]
        assert judged == len(spawned.selected) * plan.architecture.classes


def test_labels_of_the_selection_alone_are_told(runs):
    plan, _, sellers, _, spawned = runs
    data = {seller.name: seller for seller in sellers}
    if plan.protocol.name == "ife_shares":
        assert spawned.labels is None
    else:
        assert spawned.labels.tolist() == [data[name].y[row] for name, row in spawned.selected]


def test_the_delivered_network_is_the_one_that_sgd_gives():
    """The oracle is `networks.train` on own and accepted rows, with the first layer quantised and frozen."""
    plan = market()
    shopper, sellers = problem(SMALL)
    plain, masked = run_market(plan, shopper, sellers, Plain()), in_threads(plan, shopper, sellers)[SHOPPER]
    assert plain.accepted and masked.accepted == plain.accepted
    data = {seller.name: seller for seller in sellers}
    x = np.concatenate([shopper.own[0], [data[name].x[row] for name, row in plain.accepted]])
    y = np.concatenate([shopper.own[1], [data[name].y[row] for name, row in plain.accepted]])
    v = plan.validation
    oracle = train(
        shopper.network.to(torch.float64), torch.from_numpy(x).double() / 255, torch.from_numpy(y), steps=v.steps,
        lr=v.lr, batch_size=v.batch_size, momentum=v.momentum, seed=v.seed, freeze_first=True,
    )  # fmt: skip
    error = quantised_first(shopper.network).error.max()
    parameters = (n.weights + n.biases for n in (masked.network, plain.network, oracle))
    for found, close, expected in zip(*parameters, strict=True):
        assert (found - close).abs().max() <= WEIGHT
        assert (close - expected).abs().max() <= 10 * error < 0.01
    moved = max((p - q).abs().max() for p, q in zip(oracle.weights, shopper.network.weights, strict=True))
    assert moved > 100 * WEIGHT  # training moved the weights


def test_preconditioned_updates_select_alike_and_train_otherwise():
    shopper, sellers = problem(SMALL)
    plan = market(protocol=IfeTransform(LWE(), update="preconditioned"))
    found, plain = in_threads(plan, shopper, sellers)[SHOPPER], run_market(plan, shopper, sellers, Plain())
    assert found.selected == plain.selected and found.verdicts[0].threshold == plain.verdicts[0].threshold
    assert not any(opening.what == "squared mask factors" for opening in found.openings)


def test_the_public_key_scheme_serves_as_well():
    shopper, sellers = problem(SMALL, rows=6)
    plan = replace(market(protocol=IfeTransform(ALS16())), budget=6)
    found, plain = in_threads(plan, shopper, sellers)[SHOPPER], run_market(plan, shopper, sellers, Plain())
    assert found.selected == plain.selected and found.verdicts == plain.verdicts
    for name, expected in plain.probabilities.items():
        assert (found.probabilities[name] - expected).abs().max() <= PROBABILITY["ife_transform"]


def test_a_sealed_label_needs_both_keys():
    y = np.array([3, 0, 9])
    secret = bytes(range(32))
    sealed = label_shares(y, 10, secret)
    nonce, shares = shares_of(sealed, 10, "s")
    keys = [label_key(secret, nonce, row, "pad") for row in range(3)]
    assert joined(shares, pads(keys, 10), "s").tolist() == y.tolist()
    with pytest.raises(InputError, match="labels of s"):
        joined(shares, pads(keys[::-1], 10), "s")
    assert shares_of(label_shares(y, 10, secret), 10, "s")[0] != nonce
    assert len(np.unique(shares.numpy())) == shares.numel()  # a share alone is no one-hot vector
