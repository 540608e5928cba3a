"""What several test files of the marketplace share."""

from __future__ import annotations

import pytest
from small_market import SMALL, market, problem, stocked


@pytest.fixture
def simulated(tmp_path):
    plan = market()
    shopper, sellers = problem(SMALL)
    return plan, shopper, sellers, stocked(tmp_path, plan, sellers)
