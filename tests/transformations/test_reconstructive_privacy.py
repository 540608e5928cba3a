"""Definitions and theorems of reconstructive privacy against every adversary there is, or the best one many times."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, stats

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.transformations.reconstructive_privacy import (
    additive_noise,
    exact,
    linear,
    linear_as_printed,
    permutation,
    permutation_under,
    positions,
    within,
)

TRIALS = 40_000
SURE = 1e-6  # how often a right formula may fail a simulation


def margin(trials: int = TRIALS) -> float:
    """By how much a frequency may miss its probability (Hoeffding)."""
    return math.sqrt(math.log(2 / SURE) / (2 * trials))


def setting(seed: int, inputs: int = 4, outputs: int = 3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.dirichlet(np.ones(inputs)), draw.dirichlet(np.ones(outputs), size=inputs)


def permuted(vectors: list[tuple[int, ...]]) -> np.ndarray:
    """P(t | x) of a uniform permutation, (vectors, vectors), by going through all of them."""
    place, channel = {v: k for k, v in enumerate(vectors)}, np.zeros((len(vectors), len(vectors)))
    for row, vector in enumerate(vectors):
        orders = list(itertools.permutations(vector))
        for order in orders:
            channel[row, place[order]] += 1 / len(orders)
    return channel


@pytest.mark.parametrize("seed", range(3))
def test_no_adversary_exceeds_definition_1_and_one_attains_it(seed):
    prior, channel = setting(seed)
    chances = [
        sum(prior[answers[t]] * channel[answers[t], t] for t in range(3))
        for answers in itertools.product(range(4), repeat=3)
    ]
    assert exact(prior, channel) == pytest.approx(max(chances), abs=1e-12)
    assert max(prior) <= exact(prior, channel) <= 1


@pytest.mark.parametrize("delta", [0.5, 1.5, 2.5])
def test_no_adversary_exceeds_definition_2_and_one_attains_it(delta):
    prior, channel = setting(7)
    answers = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])  # more than there are x
    distances = np.abs(answers[:, None] - np.arange(4.0))
    chances = [
        sum(prior[x] * channel[x, t] for t in range(3) for x in range(4) if distances[chosen[t], x] < delta)
        for chosen in itertools.product(range(6), repeat=3)
    ]
    assert within(prior, channel, distances, delta) == pytest.approx(max(chances), abs=1e-12)


def test_exactness_is_nearness_of_nothing_else():
    prior, channel = setting(3)
    assert within(prior, channel, 1 - np.eye(4), 0.5) == pytest.approx(exact(prior, channel), abs=1e-15)


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5), (1, 1, 2, 3), (0, 0, 0, 1, 1), (4, 4, 4), (9,)])
def test_theorem_4_counts_distinct_orders(values):
    orders = sorted(set(itertools.permutations(values)))
    best = exact(np.full(len(orders), 1 / len(orders)), permuted(orders))
    assert permutation(values) == Fraction(1, len(orders))
    assert float(permutation(values)) == pytest.approx(best, abs=1e-12)
    if len(set(values)) == len(values):
        assert permutation(values) == Fraction(1, math.factorial(len(values)))


def test_theorem_4_by_simulation():
    """The adversary answers with what it sees: as good as any other order of the same values."""
    values, draw = np.array([3, 3, 5, 8]), np.random.default_rng(1)
    raw = draw.permuted(np.tile(values, (TRIALS, 1)), axis=1)
    seen = draw.permuted(raw, axis=1)
    hits = (seen == raw).all(axis=1).mean()
    assert abs(hits - float(permutation(values.tolist()))) < margin()
    assert abs(hits - 1 / math.factorial(4)) > margin()  # the theorem as printed


def test_a_prior_undoes_a_permutation():
    vectors = list(itertools.product(range(3), repeat=3))
    prior = np.random.default_rng(2).dirichlet(np.full(len(vectors), 0.3))
    found = permutation_under(dict(zip(vectors, prior, strict=True)))
    assert found == pytest.approx(exact(prior, permuted(vectors)), abs=1e-12)
    assert permutation_under({(1, 2, 3): 1.0, (3, 2, 1): 0.0}) == 1  # known to be sorted: nothing is hidden
    flat = {order: 1 / 24 for order in itertools.permutations(range(4))}
    assert permutation_under(flat) == pytest.approx(float(permutation(range(4))))


def test_most_places_can_be_right_with_an_epsilon_of_nothing():
    image = (Digits().load()[1].x[0] * 16).int().tolist()
    blank = image.count(0) / len(image)
    assert permutation(image) < Fraction(1, 10**20) and positions(image) == blank > 0.4
    draw = np.random.default_rng(4)
    for answer in set(image):  # no constant answer beats the commonest value; nor does the seen order
        assert np.mean(np.array(image) == answer) <= positions(image)
    shares = [(draw.permutation(image) == image).mean() for _ in range(2000)]
    assert np.mean(shares) == pytest.approx(sum((n / 64) ** 2 for n in Counter(image).values()), abs=0.01)
    assert np.mean(shares) < positions(image)


@pytest.mark.parametrize("projections", [0, 1, 2, 4, 5])
def test_theorem_3_with_m_projections_by_simulation(projections):
    n, delta, draw = 6, 1.6, np.random.default_rng(projections)
    hits, others = 0, 0
    count = 20_000
    for _ in range(count):
        x, a = draw.normal(size=n), draw.normal(size=(projections, n))
        best = np.linalg.pinv(a) @ (a @ x)
        hits += np.linalg.norm(best - x) < delta
        others += np.linalg.norm(best + 0.5 - x) < delta  # an answer that is off that centre
    assert abs(hits / count - linear(n, projections, delta)) < margin(count)
    assert others / count < linear(n, projections, delta) + margin(count)
    if projections > 1:
        assert hits / count > linear_as_printed(n, delta) + margin(count)  # more than is printed as the bound


def test_theorem_3_at_its_ends():
    assert linear(5, 5, 0.01) == linear(5, 9, 0.01) == 1
    assert linear(5, 1, 0.7) == linear_as_printed(5, 0.7) == pytest.approx(stats.chi2(4).cdf(0.49))
    assert linear(784, 0, 28) == pytest.approx(0.5, abs=0.02)  # a vector's usual length, sqrt n


def test_noise_hides_less_from_who_knows_where_values_lie():
    assert additive_noise(1, 3) == pytest.approx(0.9973, abs=1e-4)  # the paper's example
    draw = np.random.default_rng(5)
    x = draw.normal(size=TRIALS)
    hits = np.abs((x + 2 * draw.normal(size=TRIALS)) / 5 - x) < 0.5  # the posterior's mean
    assert abs(hits.mean() - additive_noise(2, 0.5, prior=1)) < margin()
    assert additive_noise(2, 0.5, prior=1) > additive_noise(2, 0.5) + 0.1
    density = stats.norm(scale=2 / math.sqrt(5)).pdf
    assert additive_noise(2, 0.5, prior=1) == pytest.approx(integrate.quad(density, -0.5, 0.5)[0], abs=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: exact(np.array([0.5, 0.6]), np.eye(2)),
        lambda: exact(np.array([0.5, 0.5]), np.array([[1.2, -0.2], [0, 1]])),
        lambda: exact(np.array([0.5, 0.5]), np.eye(3)),
        lambda: exact(np.array([]), np.empty((0, 0))),
        lambda: within(np.array([0.5, 0.5]), np.eye(2), np.eye(3), 1),
        lambda: within(np.array([0.5, 0.5]), np.eye(2), np.eye(2), 0),
        lambda: additive_noise(0, 1),
        lambda: additive_noise(1, math.nan),
        lambda: linear(0, 0, 1),
        lambda: linear(3, -1, 1),
        lambda: linear(3, 1, 0),
        lambda: permutation([]),
        lambda: positions([]),
        lambda: permutation_under({}),
        lambda: permutation_under({(1, 2): 0.5, (1,): 0.5}),
        lambda: permutation_under({(1, 2): 0.5}),
    ],
)
def test_bad_input_is_named(wrong):
    with pytest.raises(InputError, match="expected"):
        wrong()
