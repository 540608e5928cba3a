"""Openings whose messages are affine in what the dealer deals: their values, sizes, and what a cut does on average."""

from __future__ import annotations

import pytest
import torch
from three import run

from mpc_appraisal.mpc.protocols import softmax, unbounded_softmax
from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product
from mpc_appraisal.mpc.protocols.orders import measured

torch.set_num_threads(1)
DRAW = torch.Generator().manual_seed(17)


def affine(program):
    """The same program on engines that are affine."""

    def wrapped(engine):
        engine.affine = True
        return program(engine)

    return wrapped


def halves(engine, v: torch.Tensor, seed: int = 3) -> torch.Tensor:
    """This owner's share of v, which both shares make random."""
    if engine.dry:
        return torch.empty(v.shape, dtype=torch.int64, device="meta")
    r = torch.randint(-(2**63), 2**63 - 1, v.shape, generator=torch.Generator().manual_seed(seed))
    return r if engine.me == 0 else v - r


@pytest.mark.parametrize(("drop", "bits", "ring"), [(0, 24, 64), (6, 54, 64), (8, 24, 24), (16, 24, 40), (40, 24, 64)])
def test_an_opening_gives_the_value_within_one_unit_at_every_width(drop, bits, ring):
    limit, low = 1 << (drop + bits - 2), 1 << (bits - 2)
    v = torch.randint(-limit, limit, (40, 50), generator=DRAW)
    v[0], v[1] = -limit, limit - 1

    def program(engine):
        (x,) = open_all(engine, MaskedOpening(halves(engine, v), drop, bits, ring, low))
        evict(engine, x)
        return x.share(engine)

    done = run(affine(program))
    total = done.results[0] + done.results[1]
    off = (total - (v >> drop)) & ((1 << ring) - 1 if ring < 64 else -1)
    assert set(off.unique().tolist()) <= ({0, 1} if drop else {0})


def test_a_cut_rounds_up_as_often_as_the_fraction_says_even_for_shares_of_zero():
    """2^17 cuts of v = 37 of 64 shared as v and zero: 37 of 64 round up, within 7 standard errors."""
    v, count = 37, 1 << 17

    def program(engine):
        share = torch.full((count,), v if engine.me == 0 else 0, device="meta" if engine.dry else None)
        (x,) = open_all(engine, MaskedOpening(share, 6, 54, 64, 1 << 52))
        evict(engine, x)
        return x.share(engine)

    done = run(affine(program))
    up = (done.results[0] + done.results[1]).double()
    assert set(up.unique().tolist()) == {0, 1}
    assert abs(up.mean() - v / 64) < 7 * (v / 64 * (1 - v / 64) / count) ** 0.5


def test_products_of_cut_values_are_exact():
    x, y = (torch.randint(0, 1 << 30, (300,), generator=DRAW) for _ in range(2))

    def program(engine):
        a, b = open_all(
            engine,
            MaskedOpening(halves(engine, x, 1), 8, 24, 64, 2),
            MaskedOpening(halves(engine, y, 2), 10, 24, 50, 2),
        )
        squares = product(engine, a, a)
        both = product(engine, a, b)
        evict(engine, a, b)
        return torch.stack([a.share(engine), b.share(engine), squares, both])

    done = run(affine(program))
    total = done.results[0] + done.results[1]
    a, b = total[0], total[1] & ((1 << 50) - 1)
    assert ((a - (x >> 8)).abs() <= 1).all() and ((b - (y >> 10)).abs() <= 1).all()
    assert torch.equal(total[2], a * a) and torch.equal((total[3] - a * b) & ((1 << 50) - 1), torch.zeros_like(a))


@pytest.mark.parametrize("bound", [2.0, 8.0, 30.0])
def test_softmax_is_as_accurate_as_with_cut_shares(bound):
    z = (torch.rand(200, 10, generator=DRAW, dtype=torch.float64) * 2 - 1) * bound / 2
    z = z - z.mean(1, keepdim=True)
    shared, sums = torch.round(z * 2**32).to(torch.int64), {}
    for name, program in {
        "bounded": lambda e: softmax.softmax(e, halves(e, shared), 32, bound),
        "unbounded": lambda e: unbounded_softmax.unbounded_softmax(e, halves(e, shared), 32, 2 * bound),
    }.items():
        done = run(affine(program))
        sums[name] = (done.results[0] + done.results[1]).double() / 2**16
        assert (sums[name] - z.softmax(1)).abs().max() < 1e-4, name


@pytest.mark.parametrize("drop", ["-1", "41", "1.5", '"8"', "true"])
def test_the_dealer_refuses_an_opening_that_cuts_more_than_the_ring_holds(drop):
    with pytest.raises(Exception, match="refused"):
        measured(parse(f'[["open", 1, [4], 24, 64, {drop}]]'))
