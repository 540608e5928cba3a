"""What a listing tells of the data, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
from processes import problem, write_npz
from test_catalogue import (
    digits,  # noqa: F401  a fixture
    small,
)

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, StoredDataset
from mpc_appraisal.governance.catalogue import (
    real_samples,
    statistics,
    synthetic_samples,
    types_of,
)

# ---- what is told ----


@pytest.mark.parametrize("seed", range(5))
def test_no_synthetic_row_is_a_real_row(digits, seed):
    samples = synthetic_samples(digits, 100, np.random.default_rng(seed))
    assert samples.kind == "synthetic" and len(samples.x) == 100 and "not" in samples.reveals.lower()
    real = digits.x.double().numpy()
    closest = min(float(np.abs(real - np.array(row)).max(1).min()) for row in samples.x)
    assert closest >= 1  # a whole grey level somewhere
    kinds = np.array(types_of(digits))
    x = np.array(samples.x)
    assert np.isin(x[:, kinds == "binary"], (0, 1)).all() and (x == x.round()).all()


def test_synthetic_rows_follow_their_class(digits):
    samples = synthetic_samples(digits, 100, np.random.default_rng(0))
    x, y = digits.x.double().numpy(), digits.y.numpy()
    means = np.stack([x[y == label].mean(0) for label in range(10)])
    nearest = np.linalg.norm(np.array(samples.x)[:, None] - means, axis=2).argmin(1)
    assert (nearest == np.array(samples.y)).mean() > 0.8


def test_samples_are_refused_where_they_would_show_rows():
    x = np.array([[a, b] for a in (0, 1) for b in (0, 1)] * 10, float)
    with pytest.raises(InputError, match="invented rows are rows of the data"):
        synthetic_samples(Dataset.of(x, np.arange(40) % 2), 5)
    with pytest.raises(InputError, match="samples: got classes of at most 1 rows"):
        synthetic_samples(small(), 1)
    x, y = problem(100)
    y[:] = 0
    y[0] = 1  # a class of one row has nothing but that row
    assert set(synthetic_samples(Dataset.of(x, y), 50).y) == {0}
    for count in (0, 101):
        with pytest.raises(InputError, match="1 to 100"):
            synthetic_samples(Dataset.of(x, y), count)


def test_real_samples_are_rows_and_say_so(tmp_path):
    x, y = problem(20_000)
    stored = StoredDataset(write_npz(tmp_path / "s.npz", x, y), "label", None, "s")
    samples = real_samples(stored, 7)
    rows = {(*row, label) for row, label in zip(x.tolist(), y.tolist(), strict=True)}
    assert {(*row, label) for row, label in zip(samples.x, samples.y, strict=True)} < rows
    assert samples.kind == "real" and "real rows" in samples.reveals and len(samples.x) == 7
    with pytest.raises(InputError, match="4 real rows; expected at most the 3"):
        real_samples(small(), 4)


def test_statistics_against_numpy(digits):
    found = statistics(digits)
    x = digits.x.double().numpy()
    assert found.rows_by_class == tuple(np.bincount(digits.y.numpy()))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=5.1e-3)
    np.testing.assert_allclose(found.deviation, x.std(0), rtol=5.1e-3)


def test_types_by_feature():
    assert types_of(small()) == ("binary", "real", "integer")
