"""Models whose classes share a large common part: softmax does not see it, and neither may the count of failures."""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from three import private, run, sharing

from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax

torch.set_num_threads(1)
L2, D, C, BOUND = 1e-2, 4, 3, 32.0
TRAIN, TEST, CANDIDATE = (Dataset(*oracles.problem(n, D, C, seed, 0.1), C) for seed, n in enumerate((40, 30, 25)))
MODEL = fit(TRAIN, L2)
METHODS = [GradientNorm(), Influence(), Finetuning(steps=3, lr=0.7)]


def uncentred(size: float) -> SoftmaxRegression:
    """MODEL with the same column added to every class: the logits of a row of ones are larger by about `size`."""
    common = torch.linspace(0.5, 1.5, D + 1, dtype=torch.float64)[:, None] * size / (D + 1)
    return SoftmaxRegression(MODEL.theta + common, L2)


def appraised(method, model):
    """The opened number, and the stated probability of a failure."""
    facts = Facts.of(model, TRAIN, TEST, CANDIDATE)
    owned = method.prepare(model, TRAIN, TEST)

    def program(engine):
        inputs = {key: private(engine, 0, value, BOUND) for key, value in owned.items()}
        for value in inputs.values():
            value.context = inputs["weights"].context
        x, y = (private(engine, 1, value, BOUND) for value in (with_bias(CANDIDATE.x), CANDIDATE.one_hot()))
        x.context = y.context = inputs["weights"].context
        inputs["weights"].context.trained = Untold()
        return method.score(inputs, x, y, facts).to_bits(18).share.reshape(())

    done = run(program)
    return done.value(18).item(), done.engines[0].failure


@pytest.mark.parametrize("common", [0.0, 20_000.0, -3e8])
def test_a_common_part_of_a_row_has_no_effect_on_its_log_softmax(common):
    """Not even one that a mean of the row would be too large for the ring with."""
    z = torch.randn(200, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5
    share = sharing(z + common, 32)
    done = run(lambda engine: log_softmax(engine, share(engine), 32, BOUND)[0])
    assert (done.value(18) - z.log_softmax(1)).abs().max() < 6e-5 and done.engines[0].failure < 1e-8


class Untold:
    """Takes the place of what records trained weights, which this does not test."""

    def record(self, share, bits):
        pass


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_values_and_stated_failures_are_those_of_the_centred_model(method):
    value, stated = appraised(method, MODEL)
    theirs, theirs_stated = appraised(method, uncentred(20_000.0))
    assert theirs_stated == stated < 1e-6
    # Rounding is drawn anew in each run.
    assert abs(theirs - value) < 1e-3 * abs(value) + 1e-4


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_in_the_clear_a_common_column_changes_nothing(method):
    facts = Facts.of(MODEL, TRAIN, TEST, CANDIDATE)
    x, y = with_bias(CANDIDATE.x), CANDIDATE.one_hot()
    numbers = []
    for model in (MODEL, uncentred(1000.0)):
        owned = method.prepare(model, TRAIN, TEST)
        numbers.append(method.score(owned, x, y, facts).item())
        assert owned["weights"].sum(1).abs().max() < 1e-9
        if "direction" in owned:
            assert owned["direction"].sum(1).abs().max() < 1e-6
    assert math.isclose(*numbers, rel_tol=1e-7, abs_tol=1e-10)


def test_a_step_of_training_shrinks_what_is_left_out_and_does_nothing_else():
    """Gradient descent with a regulariser from theta and from theta less its mean: the same but for the mean."""
    x, y, rate = with_bias(TRAIN.x), TRAIN.one_hot(), 0.5
    first = uncentred(50.0).theta
    second = first - first.mean(1, keepdim=True)
    for _ in range(5):
        first, second = (
            t - rate * (x.t() @ (torch.softmax(x @ t, 1) - y) / len(x) + 2 * L2 * t) for t in (first, second)
        )
    assert torch.allclose(first - first.mean(1, keepdim=True), second, atol=1e-10)
