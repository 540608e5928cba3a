"""Every number of a softmax stays within its ring, for all classes and bounds, and so do rows at the ends of ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from three import run, sharing

from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.protocols.softmax_plan import HIGH, LONG, Q_RING, SHORT, TOP, plan, power_error

torch.set_num_threads(1)
BOUNDS = [*np.geomspace(0.01, 255, 25).tolist(), 2.3, 8.0, 15.999, 16.0, 16.001, 32.0, 64.0, 128.0, 256.0]


@pytest.mark.parametrize("precise", [False, True])
def test_every_plan_fits_its_rings(precise):
    for classes in (2, 3, 5, 10) if precise else (2, 3, 8, 26, 100, 176, 255, 256):
        for bound in BOUNDS:
            aside = 0.03 * bound if precise else 0.0
            how = plan(classes, bound, aside, precise)
            assert how.reach <= (SHORT if precise else LONG)
            assert how.bits.dealer >= (18 if precise and how.coarse else 16) and 1 <= HIGH / (how.low - 2) <= 7
            exponent = how.reach / math.log(2) + how.headroom + how.bits.point
            assert exponent + math.log2(1 + power_error(how.reach, how.bits)) < 63
            if how.coarse is not None:
                sums, most = how.coarse.sums, classes * math.cosh(how.largest) * math.exp(aside / 2**how.doublings)
                opened = most * 2.0**how.coarse.point * (1 + how.coarse.error) / 2.0**sums.drop
                assert opened + 2 <= 2.0 ** (sums.bits - 1) and sums.drop + sums.bits <= 64
                assert max(sums.thresholds) * sums.ratio > opened  # above the last level is nothing
            for stage in how.stages:
                level = len(stage.steps)
                assert stage.first - sum(stage.steps) > 0 and stage.first < 2 ** (stage.factor_bits - 2)
                largest = (stage.sums.high * 2.0 ** (stage.sums.drop - stage.square_drop) + classes) * stage.first
                assert largest / 2.0**stage.drop <= TOP and largest < 2 ** (Q_RING - 1)
                assert stage.sums.high * 3**level > (TOP + classes) ** 2 / 2.0**stage.sums.drop


def extremes(classes: int, bound: float) -> torch.Tensor:
    """Rows whose sums of e^(z / T) go through all levels, in small steps, up to the largest and the least there are."""
    half = torch.cat([torch.ones(classes // 2), -torch.ones(classes // 2), torch.zeros(classes % 2)]).double()
    one = torch.full((classes,), -1.0 / (classes - 1), dtype=torch.float64)
    one[0] = 1.0
    steps = torch.linspace(0, 1, 250, dtype=torch.float64)[:, None]
    return bound * torch.cat([steps * half, steps * one, -steps * one])


@pytest.mark.parametrize("bound", [2.2, 2.4, 8.0, 16.0, 40.0, 256.0])
@pytest.mark.parametrize("classes", [2, 5, 10, 64, 256])
def test_rows_of_every_level_are_right(classes, bound):
    z = extremes(classes, bound)
    share = sharing(z, 32)
    done = run(lambda e: softmax(e, share(e), 32, bound))
    error = done.value(16) - z.softmax(1)
    assert error.abs().max() < (4e-5 if bound <= 16 else 5e-4) and abs(error.mean()) < 5 * error.std() / len(z) ** 0.5
    rounds = 3 if bound < 2.3 else 7 + plan(classes, bound).roots + 5 * plan(classes, bound).doublings
    assert done.engines[0].channel.meter.rounds == done.dry.channel.meter.rounds == rounds
    if classes <= 10:
        error = run(lambda e: log_softmax(e, share(e), 32, bound)[0]).value(18) - z.log_softmax(1)
        assert error.abs().max() < 1.5e-5 + 1.2e-6 * bound and abs(error.mean()) < 2e-6 + 1e-7 * bound
