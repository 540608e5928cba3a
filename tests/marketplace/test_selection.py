"""Selection against oracles: the formulas of uncertainty, the order of rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.buying.selection import STRATEGIES, entropy, least_confidence, margin, random, select

CERTAIN = {"least_confidence", "margin", "entropy"}


def probabilities(n: int = 60, classes: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet([0.4] * classes, n))


def test_uncertainties_are_their_formulas():
    p = probabilities()
    ordered = np.sort(p.numpy(), axis=1)
    np.testing.assert_allclose(least_confidence(p), 1 - p.numpy().max(axis=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(margin(p), 1 - (ordered[:, -1] - ordered[:, -2]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(entropy(p), stats.entropy(p.numpy(), axis=1), rtol=0, atol=1e-12)


def test_certain_and_uniform_predictions_are_the_ends_of_each_scale():
    ends = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    for strategy, most in ((least_confidence, 0.75), (margin, 1.0), (entropy, np.log(4))):
        assert strategy(ends).tolist() == pytest.approx([0.0, most], abs=1e-12)


def test_of_two_classes_all_three_buy_nearest_to_one_half():
    first = torch.linspace(0.013, 0.97, 41, dtype=torch.float64)
    p = torch.stack([first, 1 - first], dim=1)
    nearest = sorted(range(41), key=lambda row: abs(float(first[row]) - 0.5))[:15]
    for strategy in CERTAIN:
        assert select(p, strategy, 15).tolist() == nearest


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("budget", [1, 7, 60])
def test_selection_is_that_of_a_sort_in_python(strategy, budget):
    p = probabilities().repeat_interleave(2, dim=0)[torch.randperm(120, generator=torch.Generator().manual_seed(1))]
    known = {"least_confidence": least_confidence, "margin": margin, "entropy": entropy}
    uncertainty = (random(120, 3) if strategy == "random" else known[strategy](p)).tolist()
    expected = sorted(range(120), key=lambda row: (-uncertainty[row], row))[:budget]
    assert select(p, strategy, budget, seed=3).tolist() == expected  # pairs of equal rows: ties by row number


def test_equal_rows_are_bought_in_their_order():
    p = torch.full((6, 3), 1 / 3)
    for strategy in CERTAIN:
        assert select(p, strategy, 4).tolist() == [0, 1, 2, 3]


def test_random_depends_on_the_seed_alone():
    one, other = probabilities(400, seed=1), probabilities(400, seed=2)
    assert torch.equal(select(one, "random", 50, 5), select(other, "random", 50, 5))
    assert not torch.equal(select(one, "random", 50, 5), select(one, "random", 50, 6))
    assert stats.kstest(random(4000, 9).numpy(), "uniform").pvalue > 1e-4


def test_rounded_predictions_are_taken():
    p = probabilities()
    rounded = p + 4e-4 * (torch.rand(p.shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    assert float(rounded.min()) < 0
    assert bool(torch.isfinite(entropy(rounded)).all())
    assert len(set(select(p, "margin", 20).tolist()) & set(select(rounded, "margin", 20).tolist())) >= 19


@pytest.mark.parametrize("budget", [0, -1, 61, True, 2.0, None])
def test_bad_budgets_are_refused(budget):
    with pytest.raises(InputError, match=r"selection\.budget.*1 \.\. 60"):
        select(probabilities(), "margin", budget)


def test_unknown_strategies_are_refused():
    with pytest.raises(InputError, match=r"selection\.strategy.*least_confidence"):
        select(probabilities(), "variance", 3)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "p",
    [
        torch.tensor([[0.5, 0.5], [0.5, float("nan")]]),
        torch.tensor([[0.5, 0.5], [2.0, -1.0]]),
        torch.tensor([[0.5, 0.5], [3.0, 1.0]]),
        torch.tensor([0.5, 0.5]),
        torch.ones(3, 1),
        torch.empty(0, 4),
    ],
    ids=["nan", "negative", "logits", "one dimension", "one class", "no rows"],
)
def test_what_are_no_probabilities_is_refused(strategy, p):
    with pytest.raises(InputError, match=r"selection\.p"):
        select(p, strategy, 1)
