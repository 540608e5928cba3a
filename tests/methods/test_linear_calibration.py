"""What a value means for linear and logistic regression: gains by refits in closed form, and the pre-flight's units."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
from regressions import LINEAR, LOGISTIC, problem

from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.preflight import halves
from mpc_appraisal.methods.preflight.check import preflight
from mpc_appraisal.methods.preflight.parts import stream
from mpc_appraisal.models.training import FITS, refit

BOTH = pytest.mark.parametrize("model", [LINEAR, LOGISTIC], ids=lambda model: model.name)
L2 = 0.1


def sides(model, train: int = 100, features: int = 30) -> tuple[Dataset, Dataset]:
    return tuple(problem(model, rows, seed, features, 1.0) for rows, seed in ((train, 1), (200, 2)))


def offered(model):
    train, test = sides(model)
    fitted = refit(train, L2, 1e-9, model)
    return train, halves.offer(train, test, None, fitted, None, 5, "labels", 0, halves.gauge_for(test))


def joined(*sets: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([one.x for one in sets]), torch.cat([one.y for one in sets])


def rmse(train: Dataset, test: Dataset) -> float:
    """The root mean squared error of ridge regression by numpy's normal equations."""
    (x, y), (t, wanted) = ((np.c_[d.x.numpy(), np.ones(d.rows)], d.y.numpy()) for d in (train, test))
    w = np.linalg.solve(x.T @ x + L2 * len(x) * np.eye(x.shape[1]), x.T @ y)
    return float(np.sqrt(np.mean((t @ w - wanted) ** 2)))


def test_gains_of_numbers_are_falls_of_the_root_mean_squared_error():
    train, offer = offered(LINEAR)
    before, whole = rmse(train, offer.test), offer.parts[0]
    assert offer.gauge.unit == "target units" and whole.rows == offer.test.rows == 100
    for part, utility, gain in zip(offer.parts, offer.utilities, offer.gains, strict=True):
        both = Dataset(*joined(train, part), 1, "both")
        after = rmse(both, offer.test)
        assert gain == pytest.approx(before - after, abs=1e-6)
        assert utility == pytest.approx(before**2 - after**2, abs=1e-6)
        assert set(part.y.tolist()) <= set(whole.y.tolist())
    spoilt = [(part.y != whole.y).double().mean().item() for part in offer.parts]
    assert spoilt[0] == 0 and spoilt == pytest.approx([0.2 * p for p in range(5)], abs=0.15)
    assert offer.gains[0] > 0 > offer.gains[-1]


def test_gains_of_two_classes_are_points_of_accuracy():
    train, offer = offered(LOGISTIC)

    def accuracy(theta) -> float:
        z = np.c_[offer.test.x.numpy(), np.ones(offer.test.rows)] @ theta.numpy()[:, 0]
        return float(100 * np.mean((z > 0) == (offer.test.y.numpy() == 1)))

    before = accuracy(refit(train, L2, 1e-9, LOGISTIC).theta)
    for part, gain in zip(offer.parts, offer.gains, strict=True):
        both = Dataset(*joined(train, part), 2, "both")
        assert gain == pytest.approx(accuracy(refit(both, L2, 1e-6, LOGISTIC).theta) - before, abs=1.01)  # of one row
    assert offer.gauge.unit == "points" and offer.gains[0] > offer.gains[-1]
    spoilt = [(part.y != offer.parts[0].y).double().mean().item() for part in offer.parts]
    assert spoilt == pytest.approx([0.2 * p for p in range(5)], abs=0.15)


def test_two_classes_in_one_column_are_the_one_pair():
    _, test = sides(LOGISTIC)
    assert halves.pairs(refit(test, L2, 1e-6, LOGISTIC), test, 4, stream(0, halves.HALVE)) == [(0, 1)] * 4


@BOTH
def test_the_preflight_calibrates_in_the_unit_of_the_target(model):
    train, test = sides(model)
    found = preflight(train, test, ["influence", "gradient_norm"], L2, partial(FITS[model.name], l2=L2), quick=True)
    for check in found.checks:
        meaning = check.calibration
        words = ("RMSE reduction", "target units") if model is LINEAR else ("accuracy", "points")
        assert (meaning.measure, meaning.unit) == words and check.threshold.value is not None
        ends = [meaning.expected(value * (100 if meaning.per_row else 1), 100).gain for value in meaning.marks(None)]
        assert ends[0] < ends[-1]
    assert json.loads(json.dumps(found.as_dict()))["checks"][0]["calibration"]["unit"] == words[1]
    assert any(words[0] in " ".join(table.header) for table in found.tables() if table.title == "What a value means")


def test_rows_too_few_for_least_squares_are_no_point_of_the_learning_curve():
    """Without a regulariser the 15 held-out rows determine no 31 weights."""
    train, test = sides(LINEAR, 60)
    found = preflight(train, test, "influence", 0.0, partial(FITS["linear_regression"], l2=0.0), quick=True)
    curve = found["influence"].calibration.curve
    assert 0 < curve.gain(20) < test.y.std().item()
