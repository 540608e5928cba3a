"""Composed epsilon against an oracle of its own: the hockey-stick divergence by numerical integration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mpc_appraisal.release import Mechanism, epsilon

# --- composition, against an oracle of its own: the hockey-stick divergence by numerical integration


def exact_epsilon(sigmas, pures, delta) -> float:
    """Smallest epsilon whose divergence is delta: a Gaussian shift mu and randomised responses, on a grid."""
    mu = math.sqrt(sum(1 / s**2 for s in sigmas))
    x = np.linspace(-12, 12 + mu, 400_001)
    weight = np.exp(-((x - mu) ** 2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    loss = mu * x - mu**2 / 2
    responses = [(0.0, 1.0)]  # losses and probabilities of the randomised responses under the first hypothesis
    for e in pures:
        p = 1 / (1 + math.exp(-e))
        responses = [(total + sign * e, q * r) for total, q in responses for sign, r in ((1, p), (-1, 1 - p))]

    def divergence(eps):
        return sum(q * (weight * np.clip(1 - np.exp(eps - loss - extra), 0, None)).sum() for extra, q in responses)

    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(middle) > delta else (low, middle)
    return high


@pytest.mark.parametrize(
    ("sigmas", "pures", "delta"),
    [
        ([5.0] * 20, [], 1e-6),
        ([5.0] * 20, [], 1e-5),
        ([1.0, 3.0, 50.0], [], 1e-6),
        ([5.0] * 20, [0.1, 0.5, 1.0], 1e-5),
        ([30.0], [0.25] * 4, 1e-6),
    ],
)
def test_epsilon_against_integration(sigmas, pures, delta):
    oracle = exact_epsilon(sigmas, pures, delta)
    found = epsilon(
        [Mechanism("gaussian", sigma=s) for s in sigmas] + [Mechanism("pure", epsilon=e) for e in pures], delta
    )
    assert oracle - 1e-6 <= found <= oracle + 1e-3  # losses are rounded up to a grid of 1e-4: above, never below


def test_twenty_releases_cost_a_quarter_of_their_sum():
    one, twenty = (epsilon([Mechanism("gaussian", sigma=5.0)] * k, 1e-6) for k in (1, 20))
    assert twenty == pytest.approx(4.306, abs=2e-3) and 20 * one == pytest.approx(16.68, abs=0.02)
    assert epsilon([Mechanism("gaussian", sigma=5.0)] * 20, 1e-5) == pytest.approx(3.849, abs=2e-3)


def test_other_compositions():
    assert epsilon([], 1e-6) == 0
    assert epsilon([Mechanism(), Mechanism("gaussian", sigma=5.0)], 1e-6) == math.inf
    assert epsilon([Mechanism("pure", epsilon=0.5)], 1e-6) <= 0.5
    assert epsilon([Mechanism("gaussian", sigma=1e-4)], 1e-6) > 1e4  # at once, by the closed bound
    assert epsilon([Mechanism("gaussian", sigma=0.05)], 1e-5) == pytest.approx(284.392, abs=0.01)  # scipy, closed form


@pytest.mark.parametrize(("sigma", "step"), [(5.0, 1.0), (3.0, 1.0), (5.0, 0.01)])
def test_a_discrete_gaussian_costs_no_more_than_it_is_charged(sigma, step):
    """The exact hockey-stick divergence of the discrete distribution and its shift, at the charged epsilon."""
    k = np.arange(-round(40 * sigma / step), round(40 * sigma / step) + 1)
    p = np.exp(-((k * step) ** 2) / (2 * sigma**2))
    p /= p.sum()
    shift = round(1 / step)
    q = np.roll(p, shift)
    for delta in (1e-3, 1e-5, 1e-7):
        charged = epsilon([Mechanism("discrete_gaussian", sigma=sigma, step=step)], delta)
        assert np.clip(p - math.exp(charged) * q, 0, None)[shift:].sum() <= delta
        assert charged <= 1.2 * epsilon([Mechanism("gaussian", sigma=sigma)], delta)
