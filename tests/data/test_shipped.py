"""scikit-learn's own tables as it ships them, and the scenarios for targets that are numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import BreastCancer, Diabetes, Wine
from mpc_appraisal.data.scenarios import Clean, DistributionMismatch, LabelNoise, MissingData, TargetNoise, TargetShift

SIZES = {Diabetes: (332, 110, 10, 1), BreastCancer: (419, 150, 30, 2), Wine: (128, 50, 13, 3)}


@pytest.mark.parametrize("source", SIZES, ids=lambda source: source.name)
def test_tables_are_split_and_standardised(source):
    train, test = source().load()
    assert (train.rows, test.rows, train.features, train.classes) == SIZES[source]
    x = train.x * train.features**0.5
    assert x.mean(0).abs().max() < 1e-12 and (x.std(0, correction=0) - 1).abs().max() < 1e-12
    assert 0.9 < train.x.norm(dim=1).square().mean() ** 0.5 < 1.1
    assert len(train.columns) == train.features and test.columns == train.columns
    assert torch.equal(source().load()[1].x, test.x)
    if not train.numeric:
        assert len(train.class_names) == train.classes == len(train.y.unique())


def test_the_diabetes_target_is_the_shipped_one():
    train, test = Diabetes().load()
    shipped = load_diabetes(scaled=False).target[np.random.RandomState(0).permutation(442)]
    ours = torch.cat([train.y, test.y]).numpy()
    assert train.numeric and np.abs(ours - (shipped - shipped[:332].mean()) / shipped[:332].std()).max() < 1e-12


def test_noise_and_shift_change_the_target_alone():
    train, test = Diabetes().load()
    clean = Clean(60, 4).build(train, test, 3)
    deviation = train.y.std(correction=0)
    for scenario in (TargetNoise, TargetShift):
        market = scenario(60, 4, deviations=3.0).build(train, test, 3)
        assert [c.level for c in market.candidates] == [0.25, 0.5, 0.75, 1.0]
        assert torch.equal(market.train.y, clean.train.y)
        for one, other in zip(market.candidates, clean.candidates, strict=True):
            change = one.data.y - other.data.y
            assert torch.equal(one.data.x, other.data.x) and one.data.numeric
            assert one.name == f"{scenario.name}={one.level:g}"
            if scenario is TargetShift:
                assert (change - 3 * one.level * deviation).abs().max() < 1e-12
            else:
                assert 0.75 < change.std() / (3 * one.level * deviation) < 1.25
        again = scenario(60, 4, deviations=3.0).build(train, test, 3)
        assert torch.equal(again.candidates[2].data.y, market.candidates[2].data.y)


def test_missing_data_of_a_numeric_target():
    market = MissingData(60, 4).build(*Diabetes().load(), 0)
    share = [(c.data.x == 0).double().mean().item() for c in market.candidates]
    assert share == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.05) and all(c.data.numeric for c in market.candidates)


@pytest.mark.parametrize("scenario", [LabelNoise(60, 4), DistributionMismatch((30, 30))])
def test_scenarios_of_labels_refuse_numbers(scenario):
    with pytest.raises(InputError, match="numeric target.*target_noise"):
        scenario.build(*Diabetes().load(), 0)


def test_scenarios_of_numbers_refuse_labels_and_bad_sizes():
    with pytest.raises(InputError, match="target_shift on wine train"):
        TargetShift(40, 4).build(*Wine().load(), 0)
    with pytest.raises(InputError, match="^deviations"):
        TargetNoise(deviations=0.0)
