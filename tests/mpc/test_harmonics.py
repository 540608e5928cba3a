"""Functions by harmonics and levels by digits, against big decimals and integers, at the ends of every range."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from test_kernels import both, ring
from three import new_key, run, sharing

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols import borrow_chain, harmonics, levels
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.ring import circle

torch.set_num_threads(1)
TOP = 2**23
CASES = [("reciprocal", 4.0, 8), ("reciprocal", 7.0, 16), ("logarithm", 5.0, 10), ("inverse root", 6.0, 12)]


def test_cosines_are_those_of_decimals_and_the_same_everywhere():
    table = circle.tables()
    with localcontext() as context:
        context.prec = 50
        for phase in (0, 1, 4095, 4096, 2**22, 2**23 - 1, 2**23, 12_345_678, 2**24 - 1):
            words = torch.tensor([[1], [0]])
            got = circle.weighted(torch.tensor([phase]), 24, [1 << 30], [0], words).item()
            exact = circle.circle_point(2 * circle.PI * phase / 2**24)[0] * 2**30
            assert abs(got - exact) <= 4, phase
    assert abs(table[0].astype(float) ** 2 + table[1].astype(float) ** 2 - 2.0**60).max() < 2.0**31
    digest = int(np.bitwise_xor.reduce(table.reshape(-1) * np.arange(1, table.size + 1)))
    assert digest == DIGEST  # both owners compute these, and a bit that differs would spoil every share


DIGEST = 6229881489247


def test_factors_are_the_same_by_torch_by_numba_and_by_integers(monkeypatch):
    delta, words = ring(200, 1), ring(6, 200)
    a, b = [2**31, -(2**31), 12345], [2**31 - 1, 2**31, -7]
    plain, fast = both(monkeypatch, lambda: circle.weighted(delta, 22, a, b, words))
    assert torch.equal(plain, fast) and plain.shape == delta.shape
    table = circle.tables().tolist()
    for i in range(0, 200, 7):
        total = 0
        for k in range(3):
            phase = int(delta[i]) * (k + 1) * 4 % 2**24
            (ch, sh), (cl, sl) = ((table[j][p], table[j + 1][p]) for j, p in ((0, phase >> 12), (2, phase % 4096)))
            c, s = (ch * cl - sh * sl) >> 30, (sh * cl + ch * sl) >> 30
            total += ((a[k] * c + b[k] * s) >> 30) * int(words[2 * k, i])
            total += ((a[k] * s - b[k] * c) >> 30) * int(words[2 * k + 1, i])
        assert (total - int(plain[i])) % 2**64 == 0


@pytest.mark.parametrize(("name", "ratio", "count"), CASES)
def test_a_function_is_within_its_bound_at_every_place_of_its_range(name, ratio, count):
    fit = harmonics.fitted(name, int(TOP / ratio), TOP, 24, TOP, count)
    s = torch.cat([torch.arange(40) + fit.low, fit.high - torch.arange(40)])
    s = torch.cat([s, torch.linspace(fit.low, fit.high, 4000, dtype=torch.float64).round().long()])[:, None]
    s = s[s < TOP][:, None]
    share = sharing(s.double(), 0)

    def program(engine):
        (x,) = open_all(engine, MaskedOpening(share(engine), 0, 24, 24, 0))
        shared = harmonics.waves(engine, x, count + 2)  # more waves than this function needs
        evict(engine, x)
        return harmonics.evaluate(engine, x, fit, shared)

    done = run(program)
    assert done.engines[0].channel.meter.rounds == done.dry.channel.meter.rounds == 1
    found = ((done.results[0] + done.results[1]) << (64 - harmonics.RING)) >> (64 - harmonics.RING)
    worst = 0.0
    with localcontext() as context:
        context.prec = 40
        for n, got in list(zip(s[:, 0].tolist(), found[:, 0].tolist(), strict=True))[::3]:
            exact = harmonics.FUNCTIONS[name](Decimal(n) / TOP) / 2**fit.shift
            off = abs(Decimal(got) / 2**harmonics.POINT - exact)
            worst = max(worst, float(off / abs(exact) if name in harmonics.RELATIVE else off))
    assert worst <= fit.error() < 6e-6
    assert fit.error() < 20 * worst  # the bound is of use


def test_the_bound_on_the_fit_covers_every_integer_of_a_small_range():
    fit = harmonics.fitted("reciprocal", 700, 2**11, 12, 2**11, 6)
    every = np.arange(fit.low, fit.high + 1)
    off = np.abs(fit.approximate(every) / fit.exact(every) - 1).max()
    assert off < fit.error() < off + 1e-5


def test_coefficients_are_the_same_on_every_machine():
    fit = harmonics.fitted("reciprocal", 2**21, TOP, 24, TOP, 8)
    assert fit.constant == CONSTANT and fit.cosines[:2] + fit.sines[:2] == FIRST


CONSTANT, FIRST = 271973412, (442784901, 232752450, -144661140, -338883172)


@pytest.mark.parametrize(
    ("low", "high", "bits", "count"), [(0, 9, 5, 3), (9, 9, 5, 3), (3, 40, 6, 3), (3, 9, 25, 3), (3, 9, 5, 0)]
)
def test_ranges_that_do_not_fit_are_refused(low, high, bits, count):
    with pytest.raises(ArithmeticError, match="harmonics"):
        harmonics.fitted("reciprocal", low, high, bits, 1, count)
    with pytest.raises(ArithmeticError, match="coefficients"):
        harmonics.fitted("reciprocal", 2**23 // 40, TOP, 24, TOP, 12)


# ---- levels


def positions(bits: int, thresholds: list[int]) -> torch.Tensor:
    """Every threshold, its neighbours, both ends of the ring's positive half, and random numbers."""
    top = 2 ** (bits - 1) - 1
    near = {min(top, max(0, t + step)) for t in [0, top, *thresholds] for step in (-1, 0, 1)}
    drawn = np.random.default_rng(bits).integers(0, top + 1, 60, dtype=np.int64)
    return torch.tensor([*sorted(near), *drawn.tolist()])[:, None]


@pytest.mark.parametrize("bits", [2, 3, 8, 17, 27, 40, 49])
@pytest.mark.parametrize("count", [1, 2, 7, 14])
def test_levels_are_exact_at_every_threshold(bits, count):
    thresholds = [int(t) for t in np.geomspace(1, 2 ** (bits - 1) - 1, count)]
    s = positions(bits, thresholds)
    mask = ring(*s.shape)

    def program(engine):
        share = torch.empty_like(s, device="meta") if engine.dry else mask if engine.me == 0 else s - mask
        (x,) = open_all(engine, MaskedOpening(share, 0, bits, bits, 0))
        found = levels.reached(engine, x, thresholds)
        evict(engine, x)
        return torch.cat([levels.level(engine, found)[None], levels.indicators(engine, found)])

    done = run(program)
    wanted = (s >= torch.tensor(thresholds)).long()
    assert torch.equal(done.results[0] + done.results[1], torch.cat([wanted.sum(1)[None], wanted.t()]))
    dry, real = done.dry.channel.meter, done.engines[0].channel.meter
    assert (dry.bytes_sent, dry.rounds) == (real.bytes_sent, real.rounds)
    assert real.rounds == 3 + (bits > 9 or len(borrow_chain.threshold_plan(bits, count).levels) > 0)


def test_a_digit_is_as_wide_as_takes_the_fewest_planes():
    for bits, count in ((27, 13), (12, 4), (20, 1)):
        plan = borrow_chain.threshold_plan(bits, count)
        cost = plan.indicators + count * sum(2 * level.opened + level.dealt for level in plan.levels)
        assert plan.digits <= borrow_chain.LONGEST and cost < 8 * (40 + 8 * count)
    with pytest.raises(ArithmeticError, match="no thresholds"):
        borrow_chain.threshold_plan(64, 3)


@pytest.mark.parametrize(
    "request_", [["levels", 1, 0], ["levels", 1, 65], ["levels", 1, True], ["levels", 2, 3], ["waves", 1, 0],
                 ["waves", 1, 65], ["waves", 1, 2.0], ["waves", 2, 3], ["waves", 7, 3], ["levels", [], 3]],
)  # fmt: skip
def test_the_dealer_refuses_malformed_requests_before_it_draws(request_):
    import json

    script = parse(json.dumps([["open", 1, [4], 20, 20], ["open", 2, [4], 64, 64], request_]))
    with pytest.raises(AppraisalError, match="dealer: refused"):
        measured(script)
    with pytest.raises(AppraisalError, match="dealer: refused"):
        Dealer([new_key(), new_key()], lambda correction: None).run(script, lambda: None)


def test_what_levels_and_waves_ask_for_is_measured():
    script = parse('[["open", 1, [800], 20, 20], ["waves", 1, 8], ["levels", 1, 5]]')
    sent: list[torch.Tensor] = []
    Dealer([new_key(), new_key()], sent.append).run(script, lambda: None)
    planes = sum(t.numel() for t in sent[1:])
    assert sent[0].numel() == 16 * 800 * 7 and measured(script[:2]).largest == 16 * 800
    assert planes <= 8 * (measured(script).total - measured(script[:2]).total)
