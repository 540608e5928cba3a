"""The measures of values against brute force, closed forms and games whose answer is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from test_baselines import Table

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods.evaluation.datamodelling import datamodelling, random_sets
from mpc_appraisal.methods.evaluation.detection import detection
from mpc_appraisal.methods.evaluation.randomised import random_model, randomised
from mpc_appraisal.methods.evaluation.removal import curve, removal
from mpc_appraisal.models.softmax_regression import SoftmaxRegression

WORTH = [3.0, -1.0, 0.5, 2.0, 0.1, -0.3]  # of the players p0, p1, ... of an additive game


def additive() -> Table:
    return Table(len(WORTH), lambda members: sum(WORTH[k] for k in members))


def values(numbers) -> dict[str, float]:
    return {f"p{k}": float(number) for k, number in enumerate(numbers)}


def test_random_sets_differ_and_have_their_size():
    found = random_sets(6, 0.5, 15, seed=4)
    assert len(set(found)) == 15 and all(len(one) == 3 and one <= set(range(6)) for one in found)
    assert found == random_sets(6, 0.5, 15, seed=4) != random_sets(6, 0.5, 15, seed=5)
    everything = random_sets(6, 0.5, 1000, seed=0)
    assert set(everything) == {frozenset(one) for one in itertools.combinations(range(6), 3)}
    with pytest.raises(InputError, match=r"evaluate.share.*1 to 5 of 6 candidates"):
        random_sets(6, 0.01, 8, 0)


def test_true_worths_score_one_and_their_negatives_minus_one():
    game = additive()
    found = datamodelling({"true": values(WORTH), "turned": values(-w for w in WORTH)}, game, subsets=12)
    assert [one.score for one in found] == pytest.approx([1.0, -1.0])
    assert found[0].beyond_chance and not found[1].beyond_chance
    assert game.retrainings == 12 and (found[0].low, found[0].high) == pytest.approx((1.0, 1.0))


def test_the_datamodelling_score_is_the_correlation_over_the_same_sets():
    generator = np.random.default_rng(3)
    worths = {frozenset(s): generator.normal() for k in (2, 3) for s in itertools.combinations(range(6), k)}
    game, own = Table(6, worths.__getitem__), generator.normal(size=6)
    (found,) = datamodelling({"some": values(own)}, game, subsets=20, share=0.5, seed=9)
    sets = random_sets(6, 0.5, 20, 9)
    oracle = stats.spearmanr([sum(own[k] for k in one) for one in sets], [worths[one] for one in sets]).statistic
    assert found.score == pytest.approx(oracle, abs=1e-12)
    assert found.low < found.score < found.high and found.random_low < 0 < found.random_high


def test_few_candidates_have_no_datamodelling_score():
    (found,) = datamodelling({"some": values([1, 2, 3])}, Table(3, len), subsets=8)
    assert found.score is None and "3 different sets" in found.note
    (alone,) = datamodelling({"some": values([1])}, Table(1, len))
    assert alone.score is None


def test_equal_values_have_no_datamodelling_score():
    (found,) = datamodelling({"flat": values([1.0] * 6)}, additive(), subsets=10)
    assert found.score is None and "all equal" in found.note


def test_removal_of_an_additive_game_by_hand():
    game = additive()
    (found,) = removal({"true": values(WORTH)}, game, orders=4)
    falling, rising = sorted(WORTH, reverse=True), sorted(WORTH)
    best = [sum(falling[k:]) for k in range(6)]
    worst = [sum(rising[k:]) for k in range(6)]
    assert found.curves["best first"] == pytest.approx(best) and found.curves["worst first"] == pytest.approx(worst)
    assert found.score == pytest.approx(np.mean(np.array(worst[1:]) - np.array(best[1:]))) and found.score > 0
    assert found.random_low == pytest.approx(-found.random_high)


def test_no_order_removes_better_than_the_true_one():
    game = additive()
    (best,) = removal({"true": values(WORTH)}, game, orders=1)
    for order in itertools.permutations(range(6)):
        (other,) = removal({"some": values(order)}, game, orders=1)
        assert other.score <= best.score + 1e-12
    assert curve(game, [0, 1, 2, 3, 4, 5])[0] == game.value(range(6))


def test_one_candidate_has_no_removal_curve():
    (found,) = removal({"some": values([1])}, Table(1, len))
    assert found.score is None and found.curves is None


def test_detection_counts_pairs():
    levels = values([0, 0.5, 0, 0.2, 1.0, 0])
    for seed in range(20):
        own = np.random.default_rng(seed).integers(0, 4, 6)  # with ties
        (found,) = detection({"some": values(own)}, levels)
        pairs = [(own[a] > own[b]) + (own[a] == own[b]) / 2 for a in (0, 2, 5) for b in (1, 3, 4)]
        assert found.score == pytest.approx(np.mean(pairs)) and "3 of 6 candidates have a level above 0" in found.note


def test_detection_without_clean_candidates_takes_the_less_corrupted_half():
    (found,) = detection({"some": values([4, 3, 2, 1])}, values([0.1, 0.2, 0.3, 0.4]))
    assert found.score == 1.0 and "none of which is clean" in found.note
    (upper,) = detection({"some": values([4, 1, 2, 1])}, values([0.1, 0.4, 0.4, 0.4]))
    assert upper.score == 1.0 and "3 of 4" in upper.note


@pytest.mark.parametrize("levels", [{}, values([0.5, 0.5, 0.5]), values([0, 0, 0])])
def test_equal_levels_detect_nothing(levels):
    (found,) = detection({"some": values([1, 2, 3])}, levels)
    assert found.score is None and "No levels" in found.note


def model(seed: int = 0) -> SoftmaxRegression:
    return SoftmaxRegression(torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), 0.1)


def test_a_random_model_has_columns_of_the_same_length():
    own = model()
    drawn, again = random_model(own, 7), random_model(own, 7)
    assert torch.allclose(drawn.theta.norm(dim=0), own.theta.norm(dim=0)) and drawn.l2 == own.l2
    assert torch.equal(drawn.theta, again.theta) and not torch.allclose(drawn.theta, own.theta)


def test_values_that_ignore_the_model_keep_their_order():
    def valued(m):
        weights = m.theta.reshape(-1)
        return {"ignores": values([1, 2, 3, 4, 5]), "reads": values(weights[:5].tolist()), "flat": values([1] * 5)}

    own = model()
    found = {one.method: one for one in randomised(own, valued, {"none": "It reads no model."}, models=3, seed=1)}
    assert found["ignores"].score == pytest.approx(1.0) and found["ignores"].beyond_chance
    oracle = [
        stats.spearmanr(own.theta.reshape(-1)[:5], random_model(own, 1 + r).theta.reshape(-1)[:5]).statistic
        for r in range(3)
    ]
    assert found["reads"].score == pytest.approx(np.mean(oracle))
    assert found["flat"].score is None and found["none"].score is None and found["none"].note == "It reads no model."
