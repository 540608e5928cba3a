"""Sensitivities, norms and sigma at their ends."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
from processes import DATA_OWNER, MODEL_OWNER, stretched
from test_deal_edges import CLASSES, L2

from mpc_appraisal.appraisal.norms import check_norms
from mpc_appraisal.appraisal.plan import BLOCK_ROWS, Plan
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.methods import Facts, Influence
from mpc_appraisal.release import (
    Mechanism,
    NoisedRelease,
    epsilon,
)
from mpc_appraisal.release.dp import release as private
from mpc_appraisal.release.dp.release import smallest_sigma
from mpc_appraisal.release.dp.rounding import opened_error, softmax_error

# ---- sensitivities, norms, sigma


INFLUENCE_FACTS = Facts(4, CLASSES, 60, 40, 1 << 20, L2, row_norm=64.0, longest=64.0, logit_bound=16.0)


def wide(ceiling: float | None, spread: float = 1.0) -> NoisedRelease:
    return NoisedRelease(sigma=1e-3, row_norm=64.0, ceiling=ceiling, spread=spread)


def held_rows(spread: float) -> int:
    """The most rows whose sum surely fits 2^26, and hence the ring."""
    error = softmax_error(CLASSES, 16.0)
    off = opened_error(Influence(), INFLUENCE_FACTS, 0.0, spread)
    return math.ceil((2.0**26 - off) / (64.0 * spread * (1 + error))) - 1


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_the_sensitivity_of_a_sum_that_may_wrap_is_the_whole_range(spread):
    most = held_rows(spread)
    assert 0.99 * 2**20 / spread < most < 2**20 / spread
    for rows, whole in ((most - 1, False), (most + 2, True), (2 * most, True), (most // 4, False)):
        facts = replace(INFLUENCE_FACTS, rows=rows)
        derived = wide(None, spread).sensitivity(Influence(), facts)
        assert 2 * 64 * spread < derived < 1.02 * 2 * 64 * spread  # without a ceiling, whatever the number of rows
        ceiling = 2.0**23 / rows
        released = wide(ceiling, spread)
        low, high = released.range_of(Influence(), facts)
        assert (low, high) == pytest.approx((-(2.0**23), 2.0**23), rel=1e-12)
        assert released.sensitivity(Influence(), facts) == (high - low if whole else derived)


def test_a_range_below_the_derived_sensitivity_counts_in_any_case():
    for rows in (1000, 1 << 21):
        facts = replace(INFLUENCE_FACTS, rows=rows)
        assert wide(1 / rows).sensitivity(Influence(), facts) == pytest.approx(2.0, rel=1e-12)


def norms_of(rows: int, features: int = 784, norm: float = 100.0, train_rows: int = 600) -> float:
    notes = {MODEL_OWNER: {"row_norm": 1.0, "weight_norm": 0.01}, DATA_OWNER: {"row_norm": norm}}
    plan, facts = Plan((Influence(),), L2, 0, "", fit=None), Facts(features, 10, train_rows, 40, rows, L2)
    return check_norms(notes, plan, {"seller": facts})


def test_a_short_last_block_counts_as_small():
    whole = 610 * BLOCK_ROWS  # five million rows: 2^29 would hold the sum of them, 2^25 would not
    largest_small = 2**17 // 785
    for rows in (whole, whole + largest_small + 1, whole + BLOCK_ROWS - 1, 5_000_100):
        assert norms_of(rows) == 1.0
    for rows in (whole + 1, whole + largest_small):
        with pytest.raises(InputError, match=r"at most 3.35544e\+07: standardise") as error:
            norms_of(rows)
        assert error.value.name == "party.data (seller)"
    assert norms_of(whole + 1, norm=2.0**25 / (whole + 1)) > 0  # what 2^25 holds is not refused
    with pytest.raises(InputError, match="5.36871e"):
        norms_of(whole, norm=110.0)


def test_few_training_rows_count_as_small_too():
    rows = 610 * BLOCK_ROWS
    with pytest.raises(InputError, match=r"3.35544e\+07"):
        norms_of(rows, train_rows=20)
    assert norms_of(rows, train_rows=0) == 1.0  # none at all


@pytest.mark.parametrize("target", [1e-5, 1e-3, 0.7, 700.0])
def test_the_smallest_sigma_is_found_within_a_second_for_any_epsilon(monkeypatch, target):
    smallest_sigma.__wrapped__(1.0, 1e-6)  # what it imports takes longer
    asked = []
    monkeypatch.setattr(private, "epsilon", lambda *stated: asked.append(stated) or epsilon(*stated))
    start = time.thread_time()
    sigma = smallest_sigma.__wrapped__(target, 1e-6)
    assert time.thread_time() - start < stretched(1.0) and len(asked) < 40  # was thousands
    assert epsilon([Mechanism("gaussian", sigma=sigma)], 1e-6) <= target
    assert epsilon([Mechanism("gaussian", sigma=sigma * 0.99)], 1e-6) > target
    assert float(f"{sigma:.4g}") == sigma
