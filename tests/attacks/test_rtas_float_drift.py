"""Shares in floating point drift towards the data, and shares in the ring do not."""

from __future__ import annotations

import pytest

from mpc_appraisal.attacks.rtas import float_drift as drift
from mpc_appraisal.common.errors import InputError

KEY = bytes(range(32))


@pytest.mark.parametrize("factor", [1, 10])
def test_float_shares_add_up_to_the_data_and_ring_shares_do_not(private, factor):
    x, times = private.x[:100], (1, 30, 1000)
    variance = float(x.var(correction=0))
    deviation, noise = factor * variance**0.5, 5 / x.numel() ** 0.5
    for count, mean in drift.float_means(x, deviation, times, 0).items():
        assert abs(drift.correlation(mean, x) - drift.expected(deviation, variance, count)) < noise
    for mean in drift.ring_means(x, times, KEY).values():
        assert abs(drift.correlation(mean, x)) < noise
    reached = drift.sharings(deviation, variance, 0.9)
    assert drift.expected(deviation, variance, reached) >= 0.9 > drift.expected(deviation, variance, reached - 1)


def test_a_mask_that_hides_more_costs_precision(private):
    x = private.x / 3  # whole numbers of sixteenths lose little
    for deviation in (1.0, 1e3, 1e6):
        assert 0.1 < drift.rounding(x, deviation, 0) / (deviation * 2**-24) < 1


def test_sharings_refuse_numbers_out_of_range(private):
    for wrong in (
        lambda: drift.float_means(private.x, 0, (1,), 0),
        lambda: drift.float_means(private.x, 1, (), 0),
        lambda: drift.float_means(private.x, 1, (2, 1), 0),
        lambda: drift.ring_means(private.x, (0, 1), KEY),
        lambda: drift.sharings(1, 1, 1.0),
    ):
        with pytest.raises(InputError):
            wrong()
