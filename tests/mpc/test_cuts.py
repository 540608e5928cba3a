"""What an opening does with the bits that it cuts: which of two integers results, how often, and of which shares."""

from __future__ import annotations

import pytest
import torch
from three import private, run, sharing

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols import softmax
from mpc_appraisal.mpc.protocols.activations import MOST_CUT, RING
from mpc_appraisal.mpc.protocols.comparison import relu
from mpc_appraisal.mpc.protocols.gate_dealer import FACTOR_BITS
from mpc_appraisal.mpc.protocols.grid import lifted
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, scaled
from mpc_appraisal.mpc.protocols.tensors import Context, Secret

torch.set_num_threads(1)
HIGH = torch.randint(-(2**40), 2**40, (64, 64), generator=torch.Generator().manual_seed(5))


def of_shares(program, mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The sum of both owners' results of `program(engine, share)`, for given shares."""
    shares = mine, theirs
    done = run(
        lambda e: program(e, torch.empty(mine.shape, dtype=torch.int64, device="meta") if e.dry else shares[e.me])
    )
    return done.results[0] + done.results[1]


def opened(drop: int, bits: int, low: int):
    def program(engine, share):
        (x,) = open_all(engine, MaskedOpening(share, drop, bits, 64, low))
        evict(engine, x)
        return x.share(engine)

    return program


CUTS = {"opening": opened(6, 54, 1 << 52), "narrow shares": lambda e, share: lifted(e, share, 48, 6)}


@pytest.mark.parametrize("name", list(CUTS))
def test_a_cut_rounds_up_exactly_as_often_as_the_fraction_says(name):
    """Every fraction v of 64 with every low part r of a share: q + 1 comes v times of 64, and q else."""
    v, r = torch.arange(64)[:, None], torch.arange(64)[None, :]
    for sign in (1, -1):
        value, share = (1 << 20) * sign * 64 + v, HIGH * 64 + r
        up = of_shares(CUTS[name], share, value - share) - (1 << 20) * sign
        assert set(up.unique().tolist()) <= {0, 1} and up.sum(1).tolist() == list(range(64))


@pytest.mark.parametrize("name", list(CUTS))
def test_a_cut_of_what_is_whole_is_exact_whatever_the_shares_are(name):
    """Two zeros, a value and zero, a difference of equal shares, and random shares of multiples of 64."""
    whole, zero = HIGH * 64, torch.zeros_like(HIGH)
    for mine, theirs in ((zero, zero), (whole, zero), (zero, whole), (whole, -whole), (HIGH, whole - HIGH)):
        assert torch.equal(of_shares(CUTS[name], mine, theirs), (mine + theirs) >> 6)


def test_a_relu_of_two_zeros_is_zero():
    zero = torch.zeros(200, dtype=torch.int64)

    def program(engine, share):
        value, bit = relu(engine, share, 20)
        bit.forget(engine)
        return torch.cat([value, bit.share(engine)])

    assert not of_shares(program, zero, zero).any()


@pytest.mark.parametrize("function", [softmax.softmax, log_softmax])
@pytest.mark.parametrize("bound", [2.0, 16.0])
def test_one_owners_own_logits_are_cut_by_chance_as_shared_ones_are(monkeypatch, function, bound):
    """Equal rows that one owner knows, shared as themselves and zero: the bits that a softmax cuts differ by row."""
    z, cut, real = torch.tensor([[0.7, -0.3, -0.4]], dtype=torch.float64).expand(3000, 3), [], softmax.exponential

    def noted(engine, share, *arguments):
        if not engine.dry:
            cut.append(share & 0xFFF)
        return real(engine, share, *arguments)

    monkeypatch.setattr(softmax, "exponential", noted)
    run(lambda e: function(e, private(e, 1, z).secret(36).share, 36, bound))
    assert len(cut) == (2 if bound < 2.3 else 4) and all(len(low.unique()) > 2000 for low in cut)


@pytest.mark.parametrize("drop", [FACTOR_BITS, 40, 46, 50, MOST_CUT])
def test_a_public_multiple_is_within_its_bound_at_every_cut(drop):
    bits, low = RING - drop, 1 << (RING - 2 - drop)
    x = torch.randint(-low, low, (3000,), generator=torch.Generator().manual_seed(drop))
    for factor in (1, 40_503, (1 << FACTOR_BITS) - 1, 1 << FACTOR_BITS):

        def program(engine, share, factor=factor):
            (value,) = open_all(engine, MaskedOpening(share, 0, bits, bits, low))
            out = scaled(engine, value, factor, low)
            evict(engine, value)
            return out

        off = of_shares(program, x + 5, torch.full_like(x, -5)) * 2**FACTOR_BITS - x * factor
        assert off.abs().max() < (1 if low % 2**FACTOR_BITS == 0 else 2) * 2**FACTOR_BITS


def test_a_step_of_weights_is_within_three_units_at_any_rate():
    """The bound that docs/protocols/perceptron_bound.md counts with is twelve units of 18 bits."""
    gradient = torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 1000
    for rate in (2.0**-60, 3e-13, 1e-9, 1e-4, 0.3):

        def program(engine, rate=rate):
            at = Context(engine, 16.0)
            found = Secret(at, sharing(gradient, 36, 1)(engine), 36)
            zero = Secret(at, sharing(gradient * 0, 18, 2)(engine), 18)
            return ops.descended(zero, found, rate, 0.0, 18).share

        off = run(program).value(18) + rate * gradient
        assert off.abs().max() * 2**18 < 3.0 + rate * 1000 * 5 * 2.0**2
