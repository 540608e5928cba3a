"""Correlations are compared with their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.metrics import correlations, rank_of


def test_correlations_are_the_definitions():
    rng = np.random.default_rng(0)
    a = rng.normal(size=12)
    b = a + rng.normal(size=12)
    found = correlations(list(a), list(b))
    assert abs(found["pearson"] - np.corrcoef(a, b)[0, 1]) < 1e-12
    # No ties: Spearman is 1 - 6 sum d^2 / (n (n^2 - 1)).
    d = np.argsort(np.argsort(a)) - np.argsort(np.argsort(b))
    assert abs(found["spearman"] - (1 - 6 * (d**2).sum() / (12 * 143))) < 1e-12


def test_a_monotone_curve_is_perfect_in_rank_only():
    found = correlations([1, 2, 3, 4], [1, 10, 100, 1000])
    assert abs(found["spearman"] - 1) < 1e-12 and found["pearson"] < 0.9
    assert abs(correlations([1, 2, 3], [3, 2, 1])["spearman"] + 1) < 1e-12


@pytest.mark.parametrize(
    ("values", "reference"),
    [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0]), ([1], [2]), ([], []), ([1, float("nan"), 2], [1, 2, 3])],
)
def test_undefined_is_none(values, reference):
    assert correlations(values, reference) == {"spearman": None, "pearson": None}


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError):
        correlations([1, 2], [1, 2, 3])


def test_ranks_share_ties():
    assert rank_of([0.5, -1.0, 0.5, 9.0]) == [2.5, 1.0, 2.5, 4.0]
