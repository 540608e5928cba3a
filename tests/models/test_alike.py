"""Fits of the same rows at once are those of separate fits, and a fit that fails says so and holds up no other."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from regressions import LINEAR, LOGISTIC, problem

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Digits
from mpc_appraisal.models.alike import _Joint, refit_each
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import refit, union


def copies(rows: int, count: int):
    """Rows of the digits, and the same further rows with other labels each time."""
    digits = Digits().load()[0]
    own, clean = digits.subset(range(rows)), digits.subset(range(rows, 2 * rows))
    generator = torch.Generator().manual_seed(0)
    wrong = [torch.randint(0, 10, (rows,), generator=generator) for _ in range(count)]
    hit = [torch.rand(rows, generator=generator) < k / count for k in range(count)]
    return own, [replace(clean, y=torch.where(h, w, clean.y)) for h, w in zip(hit, wrong, strict=True)]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_softmax_regressions_at_once_are_those_of_separate_fits(tolerance):
    own, parts = copies(120, 6)
    found = refit_each(own, parts, 1e-2, tolerance, SoftmaxRegression)
    for part, model in zip(parts, found, strict=True):
        alone = refit(union(own, part), 1e-2, tolerance, SoftmaxRegression)
        assert model.l2 == 1e-2 and (model.theta - alone.theta).abs().max() < 1e-9


@pytest.mark.parametrize("model", [LINEAR, LOGISTIC])
def test_other_models_and_other_rows_are_fitted_one_after_the_other(model):
    own, parts = problem(model, 60, 1), [problem(model, 40, seed) for seed in (2, 3)]
    for part, found in zip(parts, refit_each(own, parts, 1e-2, 1e-6, model), strict=True):
        assert torch.equal(found.theta, refit(union(own, part), 1e-2, 1e-6, model).theta)
    own, (part, _) = copies(60, 2)
    other = replace(part, x=part.x * 0.5)
    found = refit_each(own, [part, other], 1e-2, 1e-6, SoftmaxRegression)
    assert torch.equal(found[1].theta, refit(union(own, other), 1e-2, 1e-6, SoftmaxRegression).theta)


def test_fits_that_fail_say_so_and_hold_up_no_other(monkeypatch):
    own, parts = copies(40, 3)
    before = threading.active_count()
    with pytest.raises(InputError, match="l2"):
        refit_each(own, parts, -1.0, 1e-4, SoftmaxRegression)
    known, calls = _Joint._evaluate, []

    def breaks(joint: _Joint) -> None:
        calls.append(len(joint.asked))
        if len(calls) == 3:
            raise MemoryError("no room")
        known(joint)

    monkeypatch.setattr(_Joint, "_evaluate", breaks)
    with pytest.raises((AppraisalError, MemoryError), match="no room|another of the fits"):
        refit_each(own, parts, 1e-2, 1e-4, SoftmaxRegression)
    assert calls == [3, 3, 3] and threading.active_count() == before
