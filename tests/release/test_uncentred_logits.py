"""Models whose classes share a large common part: softmax does not see it, and neither may the count of failures.

What may wrap are the shares of a row's sum over classes; the chance is that sum's size as a ring element, by 2^64.
"""

from __future__ import annotations

import math

import oracles
import pytest
import torch
from three import private, run

from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods import Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.protocols import log_softmax as logsoftmax

torch.set_num_threads(1)
L2, D, C, BOUND = 1e-2, 4, 3, 32.0
TRAIN, TEST, CANDIDATE = (Dataset(*oracles.problem(n, D, C, seed, 0.1), C) for seed, n in enumerate((40, 30, 25)))
MODEL = fit(TRAIN, L2)
METHODS = [GradientNorm(), Influence(), Finetuning(steps=3, lr=0.7)]


def uncentred(size: float) -> SoftmaxRegression:
    """MODEL with the same column added to every class: the logits of a row of ones are larger by about `size`."""
    common = torch.linspace(0.5, 1.5, D + 1, dtype=torch.float64)[:, None] * size / (D + 1)
    return SoftmaxRegression(MODEL.theta + common, L2)


def appraised(method, model, monkeypatch):
    """The opened number, the stated probability of a failure, what a mean of logits adds to it, and what it should add,
    by the sums of logits that are taken."""
    facts, sums, counted = Facts.of(model, TRAIN, TEST, CANDIDATE), {0: [], 1: []}, [0.0, 0.0]
    owned = method.prepare(model, TRAIN, TEST)
    true = logsoftmax._centred

    def watched(engine, z, bits, bound):
        before = engine.failure
        result = true(engine, z, bits, bound)
        if not engine.dry:
            sums[engine.me].append(z.sum(1))
            counted[engine.me] += engine.failure - before
        return result

    monkeypatch.setattr(logsoftmax, "_centred", watched)

    def program(engine):
        inputs = {key: private(engine, 0, value, BOUND) for key, value in owned.items()}
        for value in inputs.values():
            value.context = inputs["weights"].context
        x, y = (private(engine, 1, value, BOUND) for value in (with_bias(CANDIDATE.x), CANDIDATE.one_hot()))
        x.context = y.context = inputs["weights"].context
        inputs["weights"].context.trained = Untold()
        return method.score(inputs, x, y, facts).to_bits(18).share.reshape(())

    done = run(program)
    monkeypatch.setattr(logsoftmax, "_centred", true)
    derived = sum(float((a + b).double().abs().sum()) for a, b in zip(*sums.values(), strict=True)) * 2.0**-64
    return done.value(18).item(), done.engines[0].failure, counted[0], derived


class Untold:
    """Takes the place of what records trained weights, which this does not test."""

    def record(self, share, bits):
        pass


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_values_and_stated_failures_are_those_of_the_centred_model(method, monkeypatch):
    value, stated, counted, derived = appraised(method, MODEL, monkeypatch)
    assert derived <= counted <= stated < 1e-6
    theirs, *theirs_stated, theirs_derived = appraised(method, uncentred(20_000.0), monkeypatch)
    assert theirs_derived <= theirs_stated[1] and theirs_stated == [stated, counted]
    # Rounding is drawn anew in each run: of a sum of 30 losses by fine-tuning, about a thousandth.
    assert abs(theirs - value) < (5e-3 if isinstance(method, Finetuning) else 1e-3 * abs(value) + 1e-4)


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
