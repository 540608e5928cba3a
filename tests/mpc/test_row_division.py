"""Rows divided by sums in narrow and wide ranges: plans that fit their rings, and rows at both ends of every range."""

from __future__ import annotations

import math

import pytest
import torch
from three import run, sharing

from mpc_appraisal.mpc.protocols.row_division import LINE, ONE, divided, division_plan
from mpc_appraisal.mpc.protocols.softmax_plan import HIGH, Q_RING, TOP, X_BITS, X_DROP
from mpc_appraisal.mpc.protocols.unbounded_softmax import LARGEST_SPREAD, log_fit, window

torch.set_num_threads(1)
CASES = [(2, 3.3), (4, 6.6), (10, 8.9), (10, 17.4), (16, 30), (40, 69), (60, 130), (256, 428)]
DOWN = 30  # sums are up to TOP * 2^DOWN


def test_every_plan_fits_its_rings():
    for classes in (2, 3, 4, 5, 8, 9, 10, 15, 16, 33, 64, 127, 128, 255, 256):
        for spread in (0.5, 64.0, 4096.0, LARGEST_SPREAD):
            w = window(classes, 36, spread)
            how = division_plan(classes, w.low, w.down)
            assert 1 / 1.0025 < math.exp(2.0**-w.point) * classes * w.one / w.high < 1  # the largest sum is TOP
            assert HIGH / (w.low / 2.0**w.down) < 1.003 * classes * math.exp(2 * 2.0**-w.point)
            assert how.highest < 1.006 and how.error < 3.3e-6
            if classes <= 10:
                assert log_fit(w).error() < 3.3e-6 and log_fit(w).low <= w.low / 2.0**w.down - 2
            if how.rough is None:
                continue
            fit, off = how.rough.fit, 1 + how.rough.fit.error()
            assert fit.low <= w.low / 2.0**w.down - 2 and fit.high == HIGH
            assert w.high / classes / 2.0**how.x_down <= TOP
            assert fit.one / fit.low * off * 2.0**how.rough.point + 16 <= 2.0**23
            largest = fit.one * 2.0 ** (how.rough.point + how.down - how.x_down) * off * 1.001
            assert largest < 2.0 ** (Q_RING - 2) and how.rough.drop + X_DROP + X_BITS <= Q_RING
            assert largest / 2.0**how.rough.drop <= (ONE * (1 + 2 * LINE) if how.reciprocal is None else HIGH)


def test_a_line_is_as_close_to_a_reciprocal_as_is_said():
    w = window(10, 36, 64.0)
    how = division_plan(10, w.low, w.down)
    e = 1 - how.low / ONE
    t = torch.linspace(1 - e, 1 + e, 10001, dtype=torch.float64)
    off = (t * (2 + how.rough.lift - t) - 1).abs().max()
    assert how.reciprocal is None and 0.9 * how.error < off < how.error


@pytest.mark.parametrize(
    ("classes", "ratio"), [(2, 3.3), (4, 6.6), (10, 8.9), (10, 17.4), (16, 30), (60, 130), (256, 428)]
)
def test_rows_at_both_ends_of_a_range_are_divided_within_the_bound(classes, ratio):
    low = TOP * 2.0**DOWN / ratio
    size = torch.cat([torch.linspace(1.0, ratio, 300, dtype=torch.float64), torch.tensor([1.0, ratio]).double()])
    rows = torch.rand(302, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(classes)) ** 4
    rows[::3], rows[::3, 0] = 0.0, 1.0  # one entry has the whole sum, where it may
    rows[1::3] = 1.0
    x = rows / rows.sum(1, keepdim=True) * size[:, None] * low
    most = TOP * 2.0**DOWN / classes
    x = torch.where((x.max(1, keepdim=True).values > most), size[:, None] * low / classes, x) * (1 - 1e-12)
    how = division_plan(classes, low, DOWN)
    done = run(lambda e: divided(e, sharing(x, 0)(e), how))
    exact = x / x.sum(1, keepdim=True)
    unit = 2.0**X_DROP / how.low + 2.0**-16 + (classes + 1) * (2.0**how.x_down / low if how.rough else 0.0)
    bound = unit + exact * (1 / how.low + 2.0**-16 + how.error)
    error = done.value(16) - exact
    assert ((error.abs() - bound) <= 0).all() and error.mean().abs() < 2e-6
    assert (done.value(16).sum(1) - 1).abs().max() <= how.highest - 1 + classes * 2.0**-16
    rounds = 2 if ratio < 5.5 else 3 if ratio < 17.5 else 4
    assert done.engines[0].channel.meter.rounds == done.dry.channel.meter.rounds == rounds


def test_a_range_that_is_too_wide_is_refused():
    with pytest.raises(ArithmeticError, match="at most 430"):
        division_plan(256, TOP * 2.0**DOWN / 500, DOWN)
    with pytest.raises(ArithmeticError, match="no division of rows of 4096"):
        division_plan(4096, TOP * 2.0**DOWN / 400, DOWN)
