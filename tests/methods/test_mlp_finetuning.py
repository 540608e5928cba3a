"""Fine-tuning of a perceptron: the formula against torch.nn and SGD, and shares against both."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import oracles
import pytest
import torch
from processes import DATA_OWNER, MODEL_OWNER
from scipy.stats import spearmanr
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from mpc_appraisal import Dataset, Spawn, appraise
from mpc_appraisal.appraisal.cost import estimate
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits, with_bias
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, MlpFinetuning, plaintext
from mpc_appraisal.methods.mlp_finetuning import gradients, logits
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.models.training import fit, union

torch.set_num_threads(1)
D, C = 4, 3

# |value - plaintext|, of a mean loss. Every step rounds each weight by 2^-16 or so; CrypTen's own softmax is coarser.
TOLERANCE = {"fast": 2e-4, "stock": 3e-3}
METHOD = MlpFinetuning(hidden=16, steps=3, lr=0.3, pretraining=100)
MARKET = LabelNoise(train_size=100, candidates=4, size=150, test_size=100).build(*Digits().load(), seed=0)
SETS = {"train": MARKET.train, "test": MARKET.test}


def data(n: int, seed: int) -> Dataset:
    return Dataset(*oracles.problem(n, D, C, seed, 0.1), C, f"seed {seed}")


TRAIN, TEST, CANDIDATE = data(40, 1), data(30, 2), data(25, 3)
MODEL = fit(TRAIN, 1e-2)


# ---- the formula


def change_of_loss(method: MlpFinetuning, start: list[torch.Tensor], l2: float) -> float:
    """Eq. 4 by torch.nn and torch.optim, from the method's initialisation."""
    sizes = [D, *method.widths, C]
    linear = [torch.nn.Linear(m, n) for m, n in itertools.pairwise(sizes)]
    layers = [part for each in linear[:-1] for part in (each, torch.nn.ReLU())]
    net = torch.nn.Sequential(*layers, linear[-1]).double()
    weights = [(start[0][:-1], start[0][-1:]), *zip(start[1::2], start[2::2], strict=True)]
    with torch.no_grad():
        for each, (matrix, bias) in zip(linear, weights, strict=True):
            each.weight.copy_(matrix.T)
            each.bias.copy_(bias[0])

    def train(rows: Dataset, optimiser: torch.optim.Optimizer, steps: int) -> float:
        for _ in range(steps):
            optimiser.zero_grad()
            size = sum(p.square().sum() for p in net.parameters())
            (torch.nn.functional.cross_entropy(net(rows.x), rows.y) + l2 * size).backward()
            optimiser.step()
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(net(TEST.x), TEST.y, reduction="sum").item()

    before = train(TRAIN, torch.optim.Adam(net.parameters(), lr=0.01), method.pretraining)
    after = train(union(TRAIN, CANDIDATE), torch.optim.SGD(net.parameters(), lr=method.lr), method.steps)
    return after - before


@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize(
    "method",
    [
        MlpFinetuning(hidden=8, pretraining=50),
        MlpFinetuning(hidden=1, steps=1, lr=0.001, pretraining=0),
        MlpFinetuning(hidden=32, steps=20, lr=2.0, seed=5, pretraining=10),
        MlpFinetuning(hidden=[8, 5], pretraining=50),
        MlpFinetuning(hidden=(6, 1, 7, 3), steps=6, lr=0.2, seed=2, pretraining=20),
    ],
    ids=["a few steps", "one step of one unit", "many steps", "two layers", "four layers"],
)
def test_it_is_sgd_of_torchs_own_network(method, l2):
    model = type(MODEL)(MODEL.theta, l2)
    start = replace(method, pretraining=0).pretrained(with_bias(TRAIN.x), TRAIN.one_hot(), l2)
    theirs = change_of_loss(method, start, l2)
    value, paper = plaintext(method, model, TRAIN, TEST, CANDIDATE)
    assert abs(theirs) > 1e-6
    assert paper == pytest.approx(theirs, rel=1e-9, abs=1e-12) and value == -paper / TEST.rows


@pytest.mark.parametrize("hidden", [7, [7, 4], [5, 6, 3]])
def test_gradients_and_losses_are_autograds_and_scikit_learns(hidden):
    method = MlpFinetuning(hidden=hidden, pretraining=30, seed=1)
    owned, shapes = method.prepare(MODEL, TRAIN, TEST), method.weight_shapes(D + 1, C)
    assert {name: tuple(owned[name].shape) for name in shapes} == shapes
    weights = [owned[name].clone().requires_grad_() for name in shapes]
    x, y = with_bias(TRAIN.x.double()), TRAIN.one_hot()
    loss = torch.nn.functional.cross_entropy(logits(x.matmul(weights[0]), *weights[1:]), TRAIN.y, reduction="sum")
    loss.backward()
    for ours, weight in zip(gradients([x[:11], x[11:]], y, *(w.detach() for w in weights)), weights, strict=True):
        assert torch.allclose(ours, weight.grad, rtol=1e-10, atol=1e-12)
    net = MLPClassifier(method.widths, max_iter=1).fit(TRAIN.x.numpy()[: 2 * C], np.arange(2 * C) % C)
    first, *further = (w.detach().numpy() for w in weights)
    net.coefs_, net.intercepts_ = [first[:-1], *further[::2]], [first[-1], *(bias[0] for bias in further[1::2])]
    theirs = log_loss(TEST.y.numpy(), net.predict_proba(TEST.x.numpy()), labels=range(C))
    assert torch.nn.functional.cross_entropy(owned["before"], TEST.y).item() == pytest.approx(theirs, rel=1e-9)


def test_a_list_of_one_layer_is_its_number_and_a_request_states_several():
    assert MlpFinetuning(hidden=[16]) == MlpFinetuning(hidden=16)
    text = "MlpFinetuning(hidden={}, steps=4, lr=0.3, seed=0, pretraining=200)"
    assert repr(MlpFinetuning(hidden=[16])) == text.format("16")
    assert repr(MlpFinetuning(hidden=[16, 8])) == text.format("(16, 8)")
    several = MlpFinetuning(hidden=[16, 8])
    assert hash(several) == hash(MlpFinetuning(hidden=(16, 8))) and several.settings["hidden"] == (16, 8)


def test_the_model_owners_training_is_the_same_at_every_call_and_another_with_another_seed():
    first, again, other = (MlpFinetuning(seed=s).prepare(MODEL, TRAIN, TEST) for s in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["hidden"], other["hidden"])


@pytest.mark.parametrize(
    ("settings", "key"),
    [({key: bad}, key) for key in ("hidden", "steps") for bad in (0, 2.0, None, True)]
    + [({key: bad}, key) for key in ("seed", "pretraining") for bad in (-1, 0.5, 2**63)]
    + [({"hidden": bad}, "hidden") for bad in ([], [8, 0], [8, True], [8, 2.0], "8", [[8]], [4] * 9, {8})]
    + [({"lr": bad}, "lr") for bad in (0.0, -1.0, float("nan"), float("inf"), "fast", True)],
)
def test_bad_settings_are_named(settings, key):
    with pytest.raises(InputError, match=f"^{key}:"):
        MlpFinetuning(**settings)


def test_it_needs_both_sets():
    for train, test, lacks in ((None, TEST, "train"), (TRAIN, None, "test")):
        with pytest.raises(InputError, match=f"^party.{lacks}: .*mlp_finetuning"):
            MlpFinetuning().prepare(MODEL, train, test)


def test_a_preflight_trusts_it_on_digits():
    market = LabelNoise(train_size=400, candidates=1, size=10, test_size=300).build(*Digits().load(), seed=1)
    found = preflight(market.train, market.test, METHOD, quick=True)
    (check,) = found.checks
    assert check.method == "mlp_finetuning" and check.rank.mean > 0.8 and not found.skipped


# ---- on shares


def run(engine: str, candidates, **options):
    return appraise(candidates, **SETS, method=METHOD, session=Spawn(engine=engine), true_utility=False, **options)


@pytest.fixture(scope="module")
def fast():
    return run("fast", MARKET.candidates)


def test_values_on_shares_are_those_in_the_clear_and_rank_candidates_alike(fast):
    values, plain = ([getattr(r, key) for r in fast] for key in ("value", "plaintext_value"))
    assert max(abs(v - p) for v, p in zip(values, plain, strict=True)) < TOLERANCE["fast"]
    assert spearmanr(values, plain).statistic == 1.0
    assert min(values[:2]) > max(values[2:])  # a quarter and a half of the labels wrong, three quarters and all
    assert max(plain) - min(plain) > 20 * TOLERANCE["fast"]  # what is told apart is no rounding


def test_a_record_states_a_bound_that_holds_and_says_that_it_is_loose(fast):
    for record in fast:
        assert abs(record.difference) <= record.error_bound < math.inf and "loose" in record.error_note


def test_one_number_is_opened_and_no_truncation_can_wrap_uncounted(fast):
    for record in fast:
        (opening,) = record.openings
        assert opening["what"] == MlpFinetuning.opens
        assert opening["numbers"] == 1 and opening["to"] == [MODEL_OWNER, DATA_OWNER]
        assert record.engine == "fast" and 0 < record.failure_probability < 1e-3


def test_a_dry_run_tells_the_cost(fast):
    facts = Facts.of(fit(MARKET.train, 1e-2), MARKET.train, MARKET.test, MARKET.candidates[0].data)
    found = estimate([METHOD], facts, len(MARKET.candidates), 10.0)
    assert found.rounds == sum(record.rounds for record in fast)
    for party, count in found.bytes_sent.items():
        assert count == sum(record.bytes_sent[party] for record in fast)


def test_two_hidden_layers_on_shares_give_the_value_in_the_clear():
    method = MlpFinetuning(hidden=[12, 8], steps=3, lr=0.1, pretraining=100)
    done = appraise(MARKET.candidates, **SETS, method=method, session=Spawn(engine="fast"), true_utility=False)
    values, plain = ([getattr(r, key) for r in done] for key in ("value", "plaintext_value"))
    assert max(abs(v - p) for v, p in zip(values, plain, strict=True)) < TOLERANCE["fast"]
    assert max(plain) - min(plain) > 20 * TOLERANCE["fast"]
    facts = Facts.of(fit(MARKET.train, 1e-2), MARKET.train, MARKET.test, MARKET.candidates[0].data)
    found = estimate([method], facts, len(MARKET.candidates), 10.0)
    assert found.rounds == sum(record.rounds for record in done)
    assert found.bytes_sent[MODEL_OWNER] == sum(record.bytes_sent[MODEL_OWNER] for record in done)
    for record in done:
        assert abs(record.difference) <= record.error_bound < math.inf and "loose" in record.error_note
        assert record.settings["appraisal.mlp_finetuning.hidden"] == [12, 8] and len(record.openings) == 1


def test_crypten_as_shipped_runs_the_same_formula():
    for record in run("stock", [MARKET.candidates[0].data, MARKET.candidates[-1].data]):
        assert record.engine == "stock" and len(record.openings) == 1
        assert abs(record.value - record.plaintext_value) < TOLERANCE["stock"]


def test_a_bit_is_all_that_is_opened_where_a_bit_is_released(fast):
    good, bad = MARKET.candidates[0].data, MARKET.candidates[-1].data
    threshold = (fast[0].plaintext_value + fast[len(fast) - 1].plaintext_value) / 2
    result = run("fast", [good, bad], release="bit", threshold=threshold)
    assert [record.decision for record in result] == [True, False]
    assert all(record.uncertain_within == fast[0].error_bound for record in result)
    assert all(record.value is None and len(record.openings) == 1 for record in result)


def test_the_app_runs_it_by_its_configuration(processes):
    process = processes.app(
        "app",
        "appraisal=mlp_finetuning",
        "appraisal.hidden=[8,4]",
        "appraisal.steps=2",
        "appraisal.pretraining=20",
        "scenario.candidates=2",
        "scenario.size=30",
        "scenario.train_size=60",
        "scenario.test_size=40",
        "baselines.true_utility=false",
        "party.preflight=no",
    )
    ended = process.wait(120)
    assert ended.code == 0, ended.err
    assert "mlp_finetuning" in ended.out
