"""The noise of one owner, against the exact discrete probabilities and against the claimed epsilon and delta.

An attack on the worst pair of neighbours must fail at the claimed epsilon, and must succeed if the noise is too little.
Draws cannot be seeded: the chance of a false alarm is below 1e-10 for each test, and so is that of a wrong scale that
passes.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing

import numpy as np
import opendp.prelude as dp
import pytest
import torch
from scipy import stats
from test_sensitivity import NEAR, facts, one_hot

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import with_bias
from mpc_appraisal.methods import GradientNorm
from mpc_appraisal.release.dp import noise as noise_module
from mpc_appraisal.release.dp.clipping import clip_rows, radius
from mpc_appraisal.release.dp.noise import deviation, noise, scale, units
from mpc_appraisal.release.dp.sensitivity import Bounds, sensitivity

DRAWS = 20_000


# --- noise


def discrete_gaussian(s: float) -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(-math.ceil(12 * s), math.ceil(12 * s) + 1)
    weights = np.exp(-(k**2) / (2 * s**2))
    return k, weights / weights.sum()


def fit(draws: list[int], s: float) -> float:
    """p-value of a chi-square test against the discrete Gaussian of scale s, rare values taken together."""
    k, probability = discrete_gaussian(s)
    common = probability * len(draws) >= 10
    counts = np.array([np.sum(np.array(draws) == value) for value in k[common]])
    counts = np.append(counts, len(draws) - counts.sum())
    expected = np.append(probability[common], 1 - probability[common].sum()) * len(draws)
    if expected[-1] < 5:
        counts = np.append(counts[:-2], counts[-2:].sum())
        expected = np.append(expected[:-2], expected[-2:].sum())
    return stats.chisquare(counts, expected).pvalue


@pytest.mark.parametrize(
    ("sigma", "delta", "bits", "s"),
    [(0.7, 1.0, 0, 0.7), (2.5, 1.0, 0, 2.5), (1.5, 0.3, 4, 7.5), (4.0, 2.0**-40, 16, 4.0)],
)
def test_the_noise_is_the_discrete_gaussian_of_the_stated_scale(sigma, delta, bits, s):
    assert scale(sigma, delta, bits) == s
    draws = [noise(sigma, delta, bits) for _ in range(DRAWS)]
    assert all(type(draw) is int for draw in draws)
    assert fit(draws, s) > 1e-11
    for wrong in (0.9 * s, 1.1 * s):  # seven or more deviations of the statistic beyond this
        assert fit(draws, wrong) < 1e-9


def test_large_noise_is_gaussian():
    draws = np.array([noise(2.0**10, 2.0**10, 35) for _ in range(5000)], dtype=float)
    assert scale(2.0**10, 2.0**10, 35) == 2.0**55
    assert stats.kstest(draws / 2.0**55, "norm").pvalue > 1e-11
    assert stats.kstest(draws / 2.0**55, "norm", args=(0, 1.5)).pvalue < 1e-9
    assert np.abs(draws).max() < 2**62


def test_tiny_noise_is_all_zero_and_still_an_integer():
    assert [noise(1e-6, 1e-12, 3) for _ in range(10)] == [0] * 10


def test_opendp_grants_the_privacy_that_is_claimed():
    """Its own map from sensitivity in units to zCDP: 1 / (2 sigma^2)."""
    for sigma, delta, bits in ((5.0, 0.37, 16), (0.6, 1e-7, 16), (1.0, 700.0, 36)):
        space = dp.atom_domain(T="i64"), dp.absolute_distance(T="i64")
        measurement = dp.m.make_gaussian(*space, scale=scale(sigma, delta, bits))
        assert measurement.map(units(delta, bits)) == pytest.approx(1 / (2 * sigma**2), rel=1e-12)


def test_the_sensitivity_is_rounded_up_in_units_and_the_scale_never_down():
    assert units(1.0, 16) == 65536
    assert units(math.nextafter(1.0, 2.0), 16) == 65537
    assert units(0.1, 62) == math.ceil(0.1 * 2.0**62)
    assert units(5e-324, 0) == 1
    for sigma, delta in ((0.1, 1 / 3), (1 / 3, 0.7), (5, 12345.678)):
        assert scale(sigma, delta, 40) >= sigma * (delta * 2.0**40) * (1 - 1e-16)
        assert noise_module.Fraction(scale(sigma, delta, 40)) >= noise_module.Fraction(sigma) * units(delta, 40)


def _draws(_: int) -> list[int]:
    return [noise(1.0, 1.0, 45) for _ in range(300)]


def test_parties_draw_independently_even_when_forked():
    with multiprocessing.get_context("fork").Pool(2) as processes:
        first, second = processes.map(_draws, range(2), chunksize=1)
    assert len({*first, *second}) == 600
    assert stats.pearsonr(first, second).pvalue > 1e-11
    mine = _draws(0)
    assert stats.pearsonr(mine[:-1], mine[1:]).pvalue > 1e-11


def test_the_noise_of_both_parties_has_the_stated_deviation():
    total = [noise(2.0, 0.5, 10) + noise(2.0, 0.5, 10) for _ in range(DRAWS)]
    assert np.std(total) / 2**10 == pytest.approx(deviation(2.0, 0.5, 10), rel=0.035)  # seven deviations of this
    assert deviation(2.0, 0.5, 10) == math.sqrt(2) and deviation(2.0, 0.5, 10, parties=1) == 1.0


@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.nan, math.inf, True, "1", None, torch.tensor(1.0)])
def test_bad_arguments_are_refused_by_name(value):
    with pytest.raises(InputError, match="release.sigma: got"):
        noise(value, 1.0, 16)
    with pytest.raises(InputError, match="release.sensitivity: got"):
        noise(1.0, value, 16)
    with pytest.raises(InputError, match="parties: got"):
        deviation(1.0, 1.0, 16, parties=0)


@pytest.mark.parametrize("bits", [-1, 63, 1.5, True, None])
def test_bad_bits_are_refused(bits):
    with pytest.raises(InputError, match="release.bits: got"):
        noise(1.0, 1.0, bits)


def test_noise_that_the_ring_cannot_hold_is_refused():
    assert scale(1.0, 2.0**20, 36) == 2.0**56
    for sigma, delta in ((1.01, 2.0**20), (1.0, 1e300)):
        with pytest.raises(InputError, match="which the ring holds"):
            noise(sigma, delta, 36)
    with pytest.raises(InputError, match="release.sigma: got an integer of 1329 bits; expected a finite number"):
        noise(10**400, 1.0, 36)


# --- the guarantee


BITS, NORM, ROWS, SIGMA = 20, 10.0, 20, 1.0


def worst_pair() -> tuple[int, int, float]:
    """Two neighbours, what gradient_norm opens of them in units, and the stated sensitivity.

    Twenty equal rows, of which the model is sure and wrong; one turned to the opposite.
    """
    f = facts(ROWS, features=1, classes=2, norm=NORM)
    theta = torch.tensor([[0.0, 0.0], [-50.0, 50.0]], dtype=torch.float64)
    x = torch.full((ROWS, 1), radius(NORM, 1), dtype=torch.float64)
    other = x.clone()
    other[0] *= -1
    y = one_hot([0] * ROWS, 2)
    opened = [GradientNorm().score({"weights": theta}, with_bias(clip_rows(a, NORM)), y, f).item() for a in (x, other)]
    delta = sensitivity(GradientNorm(), f, Bounds(NORM))
    return *(round(value * 2**BITS) for value in opened), delta


def violated(first: np.ndarray, second: np.ndarray, centre: float, step: float) -> bool:
    """Whether some event shows that P(A) <= e^epsilon P'(A) + delta does not hold; a false alarm has a chance of 1e-10.

    `first` and `second`: released numbers of the two neighbours. The events are all half-lines that end at one of 41
    places fixed beforehand around `centre` (those at which the likelihood ratio is e^epsilon are among the best); delta
    at each epsilon is that of the Gaussian mechanism at SIGMA (Balle and Wang 2018, theorem 8).
    """
    places = centre + step * np.linspace(-5, 5, 41)
    for epsilon, (p, q), sign in itertools.product((0.25, 1.0, 2.0), ((first, second), (second, first)), (1, -1)):
        a, b = 1 / (2 * SIGMA), epsilon * SIGMA
        delta = stats.norm.cdf(a - b) - math.exp(epsilon) * stats.norm.cdf(-a - b)
        for place in places:
            hits, others = np.sum(sign * p >= sign * place), np.sum(sign * q >= sign * place)
            low = stats.beta.ppf(1e-13, hits, len(p) - hits + 1) if hits else 0.0
            high = stats.beta.isf(1e-13, others + 1, len(q) - others) if others < len(q) else 1.0
            if low > math.exp(epsilon) * high + delta:
                return True
    return False


@pytest.mark.parametrize(
    ("part", "holds"),
    # Half of the variance each is what parties draw who count on the other's noise too: not enough against the other.
    [(1.0, True), (1 / 3, False), (1 / math.sqrt(2), False), (0.75, False)],
    ids=["right", "a third", "half of the variance", "0.75"],
)
def test_the_worst_neighbours_are_as_hard_to_tell_apart_as_claimed(part, holds):
    """Against the other party, who has taken its own noise off: one party's draws are left."""
    first, second, delta = worst_pair()
    assert NEAR * units(delta, BITS) <= abs(first - second) <= units(delta, BITS)
    released = [
        np.array([value + noise(part * SIGMA, delta, BITS) for _ in range(DRAWS)], dtype=float)
        for value in (first, second)
    ]
    assert violated(*released, (first + second) / 2, units(delta, BITS)) is not holds


def test_a_sensitivity_that_forgets_the_other_rows_is_found_out():
    """||g||^2 of one row instead of the change of the squared sum."""
    first, second, delta = worst_pair()
    wrong = delta / (4 * (ROWS - 1))
    released = [
        np.array([value + noise(SIGMA, wrong, BITS) for _ in range(2000)], dtype=float) for value in (first, second)
    ]
    assert violated(*released, (first + second) / 2, units(delta, BITS))
