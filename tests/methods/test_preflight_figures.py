"""The figures of a pre-flight against slow oracles: thresholds, error rates, verdicts and the condition number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.preflight.result import DOUBTFUL, INVERTED, TRUSTED, Rate
from mpc_appraisal.methods.preflight.study import condition_number
from mpc_appraisal.methods.preflight.threshold import calibrated, threshold_of
from mpc_appraisal.methods.preflight.verdict import verdict_of
from mpc_appraisal.models.training import fit


@pytest.mark.parametrize("seed", range(40))
def test_threshold_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 12))
    values = np.round(rng.normal(size=n), 1)  # with ties
    good = values + rng.normal(size=n) > 0
    found = threshold_of(values, good)
    if good.all() or not good.any():
        assert found is None
        return

    def cost(t):
        return (values[~good] >= t).mean() + (values[good] < t).mean()

    edges = sorted(set(values))
    everywhere = [edges[0] - 1, *edges, *(np.add(edges[1:], edges[:-1]) / 2), edges[-1] + 1]
    assert cost(found) == pytest.approx(min(map(cost, everywhere)))


def test_a_clean_threshold_is_in_the_middle():
    assert threshold_of([-3.0, -2.0, 4.0, 5.0], [False, False, True, True]) == 1.0


def test_rates_are_of_thresholds_that_did_not_see_the_seed():
    rng = np.random.default_rng(5)
    values, utilities = rng.normal(size=(3, 8)), rng.normal(size=(3, 8))
    found = calibrated(values, utilities, "value")
    accepts = rejects = 0
    for s in range(3):
        others = [k for k in range(3) if k != s]
        t = threshold_of(values[others].ravel(), utilities[others].ravel() > 0)
        accepts += sum(v >= t and u <= 0 for v, u in zip(values[s], utilities[s], strict=True))
        rejects += sum(v < t and u > 0 for v, u in zip(values[s], utilities[s], strict=True))
    assert (found.false_accept.wrong, found.false_reject.wrong) == (accepts, rejects)
    assert found.false_accept.of == (utilities <= 0).sum() and found.false_reject.of == (utilities > 0).sum()
    assert found.zero_false_accept.wrong == ((values >= 0) & (utilities <= 0)).sum()
    assert found.zero_false_reject.wrong == ((values < 0) & (utilities > 0)).sum()


@pytest.mark.parametrize(("wrong", "of"), [(0, 9), (3, 10), (7, 7)])
def test_intervals_are_clopper_and_pearsons(wrong, of):
    rate = Rate.count([True] * wrong + [False] * (of - wrong))
    assert rate.rate == wrong / of
    assert rate.low == pytest.approx(stats.beta.ppf(0.025, wrong, of - wrong + 1) if wrong else 0.0)
    assert rate.high == pytest.approx(stats.beta.ppf(0.975, wrong + 1, of - wrong) if wrong < of else 1.0)
    assert Rate.count([]) == Rate(0, 0, None, None, None)


@pytest.mark.parametrize(
    ("ranks", "swaps", "verdict"),
    [
        ([0.9, 0.8, 0.7], (), TRUSTED),
        ([0.9, 0.9, 0.5], (), DOUBTFUL),  # one seed too low
        ([0.8, 0.7, 0.7], (), DOUBTFUL),
        ([0.9], (3, 45), TRUSTED),
        ([0.9], (4, 45), DOUBTFUL),
        ([0.9], (18, 45), INVERTED),
        ([0.9], (1, 2), DOUBTFUL),  # too few to be sure
        ([-0.2, -0.5], (), INVERTED),
        ([0.9, None], (), DOUBTFUL),
        ([None], (), DOUBTFUL),
    ],
)
def test_verdicts(ranks, swaps, verdict):
    assert verdict_of(ranks, *swaps) == verdict


def test_condition_number_against_the_dense_hessian():
    rng = np.random.default_rng(0)
    data = Dataset.of(rng.normal(size=(40, 3)), rng.integers(0, 3, 40), 3)
    model, x = fit(data, 1e-3), with_bias(data.x)

    def loss(flat):
        return torch.nn.functional.cross_entropy(x @ flat.reshape(4, 3), data.y)

    eigenvalues = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, model.theta.reshape(-1)))
    assert abs(eigenvalues[0]) < 1e-12  # the smallest is 0, as the docstring says
    for damping in (0.0, 0.5):
        d = 2e-3 + damping
        assert condition_number(model, data, damping) == pytest.approx((eigenvalues[-1].item() + d) / d, rel=0.02)
