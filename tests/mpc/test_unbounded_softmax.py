"""The softmax and the log-softmax for logits of any size, element by element against float64."""

from __future__ import annotations

import json
import math

import pytest
import torch
from three import run, sharing

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.softmax import softmax
from mpc_appraisal.mpc.protocols.unbounded_softmax import (
    COARSE_WIDTHS,
    LARGEST_SPREAD,
    log_bits,
    unbounded_log_softmax,
    unbounded_softmax,
    window,
)
from mpc_appraisal.release.softmax_accuracy import LAMBDA
from mpc_appraisal.release.unbounded_accuracy import unbounded_log_softmax_off, unbounded_softmax_off

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(9)


def boundary_rows(classes: int, spread: float) -> torch.Tensor:
    """Equal rows, ties at the top, one logit far above or far below, and others near the end of the window."""
    rows = torch.randn(120, classes, dtype=torch.float64, generator=GENERATOR)
    rows[:4] = torch.tensor([[0.0], [1e4], [-1e4], [0.3]])
    rows[4:8] *= spread / 8
    rows[8:12], rows[8:12, 0] = 0.0, torch.tensor([spread, -spread, 16.0, -16.0], dtype=torch.float64)
    rows[12:16, -1] = rows[12:16].max(1).values  # two logits are the largest
    near = torch.linspace(15.0, 17.0, 64, dtype=torch.float64)
    rows[16:80], rows[16:80, 1] = 0.0, -near
    return rows + torch.randn(120, 1, dtype=torch.float64, generator=GENERATOR) * 100  # common to a row


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 256])
@pytest.mark.parametrize(("bits", "spread"), [(36, 64.0), (40, 2.0**20), (18, 2.0**12)])
def test_probabilities_are_those_in_float64(classes, bits, spread):
    z = boundary_rows(classes, spread)
    z = torch.round(z * 2.0**bits) / 2.0**bits
    done = run(lambda e: unbounded_softmax(e, sharing(z, bits, 1)(e), bits, spread))
    off = unbounded_softmax_off(classes, spread)
    assert (done.value(16) - z.softmax(1)).abs().max() <= off.sure + LAMBDA * off.chance
    assert (done.value(16) - z.softmax(1)).abs().max() < (2e-4 if classes <= 10 else 1e-3)
    assert (done.value(16) - z.softmax(1)).std() < 2e-5
    real, dry = done.engines[0].channel.meter, done.dry.channel.meter
    assert (real.bytes_sent, real.rounds) == (dry.bytes_sent, dry.rounds)
    script = parse(json.dumps(done.dry.script))
    assert measured(script).requests == len(script)
    kept = [r[1] for r in script if r[0] in ("open", "bits", "difference")]
    assert sorted(kept) == sorted(key for r in script if r[0] == "forget" for key in r[1])


@pytest.mark.parametrize("spread", [64.0, 2.0**18])
@pytest.mark.parametrize("classes", [2, 10])
def test_logarithms_are_those_in_float64_whatever_their_size(classes, spread):
    z = boundary_rows(classes, spread)
    done = run(lambda e: unbounded_log_softmax(e, sharing(z, 36, 2)(e), 36, spread)[0])
    bits, exact = log_bits(len(z), spread), z.log_softmax(1)
    error = done.value(bits) - exact
    off = unbounded_log_softmax_off(classes, spread, len(z))
    assert exact.min() < -spread / 2 and error.abs().max() < min(1e-4, off.sure + LAMBDA * off.chance)
    assert error.std() < 3e-5 and error.mean().abs() < 1e-5


def test_a_floor_holds_logarithms_at_16_below_the_largest():
    z = boundary_rows(5, 2.0**20)
    done = run(lambda e: unbounded_log_softmax(e, sharing(z, 32, 3)(e), 32, LARGEST_SPREAD, floor=True)[0])
    near = (z - z.max(1, keepdim=True).values).clamp_min(-16)
    assert (done.value(18) - (near - near.logsumexp(1, keepdim=True))).abs().max() < 2e-3


@pytest.mark.parametrize("bits", [32, 36, 40])
def test_differences_near_the_end_of_the_ring_are_compared_rightly_in_every_row(bits):
    """A comparison that takes more bits than the ring has is wrong in one of 16 rows where D is 2^24."""
    largest = 2.0 ** (61 - bits)
    z = torch.zeros(3000, 2, dtype=torch.float64)
    z[::2, 0], z[1::2, 1] = largest, -largest / 2
    done = run(lambda e: unbounded_softmax(e, sharing(z, bits, 4)(e), bits, LARGEST_SPREAD))
    assert (done.value(16)[:, 0] - 1).abs().max() < 1e-3 and done.value(16)[:, 1].abs().max() < 1e-3


def test_sums_over_many_rows_keep_to_the_bound():
    z, weights = torch.randn(3000, 10, dtype=torch.float64, generator=GENERATOR) * 200, torch.zeros(3000, 10)
    weights[torch.arange(3000), torch.randint(10, (3000,), generator=GENERATOR)] = 1.0
    done = run(lambda e: unbounded_softmax(e, sharing(z, 36, 4)(e), 36, 4096.0))
    off = unbounded_softmax_off(10, 4096.0)
    assert abs(((done.value(16) - z.softmax(1)) * weights).sum()) < 3000 * off.sure + LAMBDA * off.chance * 3000**0.5
    assert off.sure < 1e-3 and off.chance < 1e-3


def test_numbers_of_the_window_fit_their_rings():
    for classes in (2, 10, 256):
        for spread in (0.5, 16.0, 1e3, 2.0**20, LARGEST_SPREAD):
            w = window(classes, 36, spread)
            assert w.coarse in COARSE_WIDTHS and w.point >= 2
            assert (spread + 16) * 2.0**w.point + 16 <= 2.0 ** (w.coarse - 1)
            assert w.high * 1.001 < 2.0**63 and w.low * 2**10 > w.high / classes
    for spread in (0.0, -1.0, math.nan, 2 * LARGEST_SPREAD):
        with pytest.raises(InputError, match="difference of two logits"):
            window(10, 36, spread)
    with pytest.raises(InputError, match="classes"):
        window(257, 36, 10.0)


def test_rounds_lie_between_those_of_the_smallest_and_of_the_largest_bound():
    z = torch.zeros(2000, 10)
    wide = run(lambda e: unbounded_softmax(e, sharing(z, 36)(e), 36, 2.0**20)).dry.channel.meter.rounds
    near, far = (
        run(lambda e, b=bound: softmax(e, sharing(z, 36)(e), 36, b)).dry.channel.meter.rounds for bound in (16.0, 256.0)
    )
    assert near < wide == 12 < far
