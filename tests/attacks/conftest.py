"""Fixtures of the attacks on random transformations: the digits, models of some of them, and rows that stay private."""

from __future__ import annotations

import pytest

from mpc_appraisal.data import Dataset, Digits
from mpc_appraisal.models.training import fit


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


@pytest.fixture(scope="module")
def models(digits):
    """The model, one of other rows of the same kind, and one of one logit."""
    own, other = digits[0].subset(range(150)), digits[0].subset(range(150, 300))
    return fit(own, 1e-2), fit(other, 1e-2), fit(Dataset(own.x, (own.y == 0).long(), 2), 1e-2)


@pytest.fixture(scope="module")
def private(digits):
    return digits[0].subset(range(300, 1297))
