"""Quotients, exponentials, logarithms and roots of shared numbers over the whole fixed-point range, against float64."""

from __future__ import annotations

import json
import math

import pytest
import torch
from three import run, sharing

from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.magnitude import LARGEST, LEVELS, ONE, POSITIVE, SIGNED, fit_of, of_level, placed
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.real_functions import exponential_of, inverse_root, logarithm, root
from mpc_appraisal.mpc.protocols.secret_division import quotient

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(19)
UNIT = 2.0**-16
TOP = 2**LARGEST - 1  # the largest number, in units


def wide(count: int, negative: bool = False) -> torch.Tensor:
    """Numbers of every size that 16 fractional bits have, in float64: at random, and about all powers of two."""
    powers = [2**k + step for k in range(LARGEST + 1) for step in (-1, 0, 1) if 0 < 2**k + step <= TOP]
    random = 2.0 ** (torch.rand(count, dtype=torch.float64, generator=GENERATOR) * LARGEST)
    found = torch.cat([torch.tensor(powers, dtype=torch.float64), torch.round(random).clamp(1, TOP)])
    found = found[torch.randperm(len(found), generator=GENERATOR)] * UNIT
    if negative:
        found = found * (torch.randint(0, 2, found.shape, generator=GENERATOR) * 2 - 1)
    return found


def checked(done) -> torch.Tensor:
    """The value of a run, after checks that the dry run was the same and that the dealer keeps nothing."""
    real, dry = done.engines[0].channel.meter, done.dry.channel.meter
    assert (real.bytes_sent, real.rounds) == (dry.bytes_sent, dry.rounds)
    script = parse(json.dumps(done.dry.script))
    assert measured(script).requests == len(script)
    kept = [r[1] for r in script if r[0] in ("open", "bits", "difference")]
    assert sorted(kept) == sorted(key for r in script if r[0] == "forget" for key in r[1])
    assert done.engines[0].failure == 0.0
    return done.value(16)


def test_numbers_are_placed_exactly_at_every_threshold():
    edges = [s * (4**k + step) for k in range(LEVELS) for step in (-1, 0, 1) for s in (1, -1)] + [TOP, -TOP]
    units = torch.tensor([v for v in edges if abs(v) <= TOP], dtype=torch.float64)
    levels = of_level(list(range(1, LEVELS + 1)), signed=True)
    done = run(lambda e: placed(e, sharing(units, 0)(e), SIGNED).step(e, levels))
    exact = [math.copysign(1 + max(k for k in range(LEVELS) if 4**k <= abs(v)), v) if v else 0 for v in units.tolist()]
    assert done.value(0).tolist() == exact
    positive = run(lambda e: placed(e, sharing(units, 0)(e), POSITIVE).step(e, of_level([7] * LEVELS, otherwise=3)))
    assert positive.value(0).tolist() == [7 if v > 0 else 3 for v in units.tolist()]


def test_harmonics_hold_the_stated_errors():
    found = {name: fit_of(name) for name in ("reciprocal", "logarithm", "root", "inverse root")}
    assert all(fit.error() < 2e-6 and fit.shift == 0 for fit in found.values())
    s = torch.linspace(ONE // 4, ONE, 9, dtype=torch.float64).numpy()
    assert abs(found["root"].exact(s) ** 2 - s / ONE).max() < 1e-12


@pytest.mark.parametrize("signed", [True, False])
def test_quotients_are_within_two_units_for_every_size(signed):
    a, b = wide(3000, negative=True), wide(3000, negative=signed)
    small = (a / b).abs() < 2.0**29
    a = torch.where(small, a, torch.round(b / b.abs() / UNIT * b.abs().sqrt()) * UNIT)
    assert small.double().mean() > 0.8
    done = run(lambda e: quotient(e, sharing(a, 16, 1)(e), sharing(b, 16, 2)(e), signed))
    error = (checked(done) - a / b).abs()
    assert (error <= 2 * UNIT + 2.0**-34 * (a / b).abs()).all()
    assert error[(a / b).abs() < 2**14].max() > UNIT / 4  # a quotient is not compared with itself
    assert done.dry.channel.meter.rounds == 10


def test_counts_divide_as_a_user_expects():
    a = torch.tensor([100.0, 500.0, 1.0, 200.0, 7.0, 0.0, -3.0, 1.0])
    b = torch.tensor([100.0, 500.0, 100.0, 200.0, 2.0**20, 9.0, 3.0, UNIT])
    q = checked(run(lambda e: quotient(e, sharing(a, 16, 1)(e), sharing(b, 16, 2)(e))))
    assert ((q - a / b).abs() <= 2 * UNIT).all()


def test_a_quotient_is_broadcast_and_one_by_zero_stays_small():
    a = torch.randn(5, 4, dtype=torch.float64, generator=GENERATOR).mul(1e4 / UNIT).round() * UNIT
    b = torch.tensor([[0.0], [3.0], [-70.0], [UNIT], [9e8]], dtype=torch.float64)
    q = checked(run(lambda e: quotient(e, sharing(a, 16, 1)(e), sharing(b, 16, 2)(e))))
    assert q[0].abs().max() <= 2
    assert ((q[1:] - a[1:] / b[1:]).abs() <= 2 * UNIT + 2.0**-34 * (a[1:] / b[1:]).abs()).all()


def test_exponentials_are_right_for_every_exponent():
    edges = [math.log(4.0) * (j - 8.5) + step * UNIT for j in range(24) for step in (-1, 0, 1)]
    random = torch.rand(3000, dtype=torch.float64, generator=GENERATOR) * 34 - 13
    x = torch.cat([torch.tensor([0.0, 1.0, -1e9, 1e9, 30.0, -12.0], dtype=torch.float64), torch.tensor(edges), random])
    x = torch.round(x / UNIT) * UNIT
    done = run(lambda e: exponential_of(e, sharing(x, 16, 3)(e)))
    exact = torch.where(x < 29 * math.log(2.0), x.exp(), torch.tensor(2.0**29, dtype=torch.float64))
    assert ((checked(done) - exact).abs() <= 1.5 * UNIT + 8e-6 * exact).all()
    assert done.value(16)[2] == 0 and done.value(16)[3] == 2.0**29 and done.dry.channel.meter.rounds == 6


def test_logarithms_are_right_for_every_size_and_of_the_least_number_for_what_has_none():
    x = torch.cat([wide(3000), torch.tensor([0.0, -UNIT, -1e9])])
    done = run(lambda e: logarithm(e, sharing(x, 16, 4)(e)))
    assert ((checked(done) - x.clamp_min(UNIT).log()).abs() <= 2 * UNIT).all()
    assert done.dry.channel.meter.rounds == 6


@pytest.mark.parametrize("inverse", [False, True])
def test_roots_are_right_for_every_size_and_zero_for_what_has_none(inverse):
    x = torch.cat([wide(3000), torch.tensor([0.0, -UNIT, -1e9])])
    done = run(lambda e: (inverse_root if inverse else root)(e, sharing(x, 16, 5)(e)))
    exact = torch.where(x > 0, x.clamp_min(UNIT) ** (-0.5 if inverse else 0.5), torch.zeros_like(x))
    assert ((checked(done) - exact).abs() <= 1.5 * UNIT + 2e-6 * exact).all()
    assert done.dry.channel.meter.rounds == 7


def test_errors_have_no_direction():
    """Rounding is right on average, so that sums over many rows are. The keys of a test are always the same."""
    x = torch.full((4000,), 0.7 / UNIT).round() * UNIT
    for function, exact in ((exponential_of, x.exp()), (logarithm, x.log()), (root, x.sqrt())):
        error = run(lambda e, f=function: f(e, sharing(x, 16, 6)(e))).value(16) - exact
        assert error.mean().abs() < 0.6 * UNIT + 7 * error.std() / len(x) ** 0.5


def test_shares_that_hide_nothing_are_blinded_before_they_are_cut():
    """One owner's own numbers, whose shares are not random, are divided within the same bound."""
    a = torch.arange(-64, 64, dtype=torch.float64).reshape(16, 8)

    def program(engine):
        ring = torch.round(a / UNIT).to(torch.int64)
        share = torch.empty(a.shape, dtype=torch.int64, device="meta") if engine.dry else ring * (1 - engine.me)
        return quotient(engine, share, share + engine.public_share(torch.full_like(share, 100 << 16)))

    assert ((checked(run(program)) - a / (a + 100)).abs() <= 2 * UNIT).all()
