"""Features that are far larger than others are named with their ranges; standardised ones and pixels are not."""

from __future__ import annotations

import numpy as np
import pytest

from mpc_appraisal.data import BreastCancer, Dataset, Diabetes, Digits, Wine
from mpc_appraisal.data.scaling import out_of_scale

RANDOM = np.random.default_rng(3)


def rows(*scales: float, columns=None) -> Dataset:
    x = RANDOM.normal(size=(50, len(scales))) * np.array(scales)
    return Dataset.of(x, np.arange(50) % 2, name="train", columns=columns)


@pytest.mark.parametrize("source", [BreastCancer, Diabetes, Digits, Wine])
def test_built_in_data_are_of_one_scale(source):
    assert out_of_scale(source().load()[0], "") is None


def test_large_features_are_named_with_their_ranges_the_largest_first():
    data = rows(1.0, 3_000.0, 500.0, 9.0, columns=("age", "income", "debt", "score"))
    text = out_of_scale(data, "standardise them.")
    x = data.x.numpy()
    ranges = [f"{name} ({x[:, k].min():.4g} to {x[:, k].max():.4g})" for k, name in ((1, "income"), (2, "debt"))]
    assert text.startswith(f"2 of 4 features are far larger than others: {', '.join(ranges)}. ")
    assert text.endswith("opposite order: standardise them.")


def test_features_without_names_have_their_number_and_many_are_counted():
    text = out_of_scale(rows(1.0, *[1e3] * 5), "")
    assert text.startswith("5 of 6 features") and " and 2 more." in text and "feature 0 " not in text


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-3, 1.0), (15.0, 0.5), (3e3, 3e3), (0.0, 0.0), (0.0, 5.0)])
def test_no_feature_is_named_that_is_small_or_as_large_as_all_others(scales):
    assert out_of_scale(rows(*scales), "") is None
