"""MNIST at the paper's size: ten candidates of 5,940 rows, ranked privately as in plaintext, values within 1%."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpc_appraisal import appraise
from mpc_appraisal.data import ENVIRONMENT, Mnist
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.reporting.metrics import rank_of

ROOT = Path(os.environ.get(ENVIRONMENT) or Path(__file__).resolve().parents[3] / "shared" / "data")
METHODS = ("gradient_norm", "influence")


@pytest.fixture(scope="module")
def result():
    if not (ROOT / "mnist").is_dir():
        pytest.skip(f"no folder mnist under {ROOT}: set {ENVIRONMENT} to a folder with mnist/")
    market = LabelNoise(train_size=600, candidates=10).build(*Mnist(str(ROOT / "mnist")).load(), seed=0)
    return appraise(market.candidates, train=market.train, test=market.test, method=METHODS, session="spawn", l2=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_private_ranks_are_the_plaintext_ones(method, result):
    records = result.of(method)
    assert len(records) == 10 and {record.n for record in records} == {5940}
    private, plain = [r.value for r in records], [r.plaintext_value for r in records]
    assert len(set(plain)) == 10 and rank_of(private) == rank_of(plain)  # Spearman's correlation is 1


@pytest.mark.parametrize("method", METHODS)
def test_private_values_are_within_one_percent(method, result):
    """Influence passes through zero where a set is worth nothing: there, a unit of 2^-16 for each of ten classes."""
    floor = {"gradient_norm": 0.0, "influence": 10 * 2.0**-16}[method]
    far = [r for r in result.of(method) if abs(r.difference) > 0.01 * abs(r.plaintext_value) + floor]
    assert not far, ", ".join(f"{r.candidate}: {r.value:.6g} for {r.plaintext_value:.6g}" for r in far)


@pytest.mark.parametrize("method", METHODS)
def test_a_private_appraisal_takes_seconds(method, result):
    for record in result.of(method):
        assert record.seconds["share"] + record.seconds["private"] < 20
