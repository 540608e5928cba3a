"""What enters affine engines: private matrices times shared ones, private values in sums, noise, and exact masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from affine_programs import OnEngine
from replays import off, run_and_replayed
from three import new_key, private, run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, private_product
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.tensors import Secret
from mpc_appraisal.mpc.ring.packing import unpack
from mpc_appraisal.mpc.ring.prg import Stream

torch.set_num_threads(1)
RANDOM = np.random.default_rng(23)


def uniform(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RANDOM.integers(-(2**63), 2**63, shape, dtype=np.int64))


def exact(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """The product in Python's integers."""
    return np.array(left.tolist(), dtype=object).dot(np.array(right.tolist(), dtype=object))


def known(engine, owner: int, values: torch.Tensor) -> torch.Tensor | None:
    """The values at their owner; in a dry run and in a replay, the shape alone."""
    if engine.me != owner:
        return None
    unknown = engine.dry or engine.replays
    return torch.empty(values.shape, dtype=values.dtype, device="meta") if unknown else values


def affine(program):
    """The same program on engines that are affine."""

    def wrapped(engine):
        engine.affine = True
        return program(engine)

    return wrapped


# ---- private matrices times shared ones


@pytest.mark.parametrize("bits", [32, 40, 48, 64])
@pytest.mark.parametrize("owner", [0, 1])
def test_products_with_shared_matrices_are_those_of_big_integers(bits, owner, way):
    x = torch.from_numpy(RANDOM.integers(0, 256, (23, 9), dtype=np.uint8))
    signed = torch.from_numpy(RANDOM.integers(-(2**16), 2**16, (23, 9), dtype=np.int32))
    r, w = uniform(23, 4), uniform(9, 4)
    halves = uniform(23, 4), uniform(9, 4)

    def program(engine):
        out = []
        for values in (x, signed):
            left = engine.mask(owner, known(engine, owner, values), x.shape, bits)
            for whole, half, transposed in ((r, halves[0], True), (w, halves[1], False)):
                share = half.to("meta") if engine.dry else half if engine.me == 0 else whole - half
                out.append(private_product(engine, left, share, transposed))
            engine.free(left)
        return out

    done = run(affine(program))
    wanted = [found for v in (x, signed) for found in (exact(v.t(), r), exact(v, w))]
    for a, b, right in zip(*done.results, wanted, strict=True):
        assert ((np.array((a + b).tolist(), dtype=object) - right) % 2**bits == 0).all()
    assert done.engines[0].channel.meter.rounds == done.dry.channel.meter.rounds
    assert done.engines[0].channel.meter.bytes_sent == done.dry.channel.meter.bytes_sent


def test_the_dealer_refuses_a_product_with_an_opened_mask_of_another_size():
    masks = '["mask", 1, 0, [3, 2]], ["open", 2, [3, 4], 64, 64]'
    assert measured(parse(f'[{masks}, ["product", 1, 2, 1]]')).total == 6 + 4 * 12 + 8
    for wrong in ('["product", 1, 2, 0]', '["product", 1, 3, 1]', '["product", 2, 2, 1]', '["product", 1, "2", 1]'):
        with pytest.raises(AppraisalError, match="refused"):
            measured(parse(f"[{masks}, {wrong}]"))


# ---- masks of exactly so many bits


@pytest.mark.parametrize(("size", "bits"), [(3, 20), (6, 44), (8, 63), (4, 32), (1, 2)])
def test_a_stream_gives_the_low_bits_of_the_numbers_that_it_draws(size, bits):
    key = new_key()
    whole, low = Stream(key, "triple"), Stream(key, "triple")
    numbers = whole.ring((50, 3), size)
    assert torch.equal(low.ring((50, 3), size, bits), numbers & ((1 << bits) - 1))
    assert torch.equal(low.ring((7,)), whole.ring((7,)))


def test_no_bit_beyond_a_mask_is_sent():
    """Shares are opened in 10 + 24 bits, which 5 bytes hold: the upper 6 bits of all numbers are 0, and no other."""
    v = torch.randint(-(1 << 30), 1 << 30, (500,), generator=torch.Generator().manual_seed(1))
    half = uniform(500)

    def program(engine):
        share = half.to("meta") if engine.dry else half if engine.me == 0 else v - half
        (x,) = open_all(engine, MaskedOpening(share, 10, 24, 64, 1 << 22))
        evict(engine, x)
        return x.share(engine)

    done = run(affine(program))
    assert (((done.results[0] + done.results[1]) - (v >> 10)).abs() <= 1).all()
    for seen in done.seen:
        *_, last = (message for message in seen if message.numel() == 5 * 500)  # before it come the dealer's shares
        sent = unpack(last, (500,), 5)
        assert (sent >> 34 == 0).all()
        assert all(200 < int((sent >> k & 1).sum()) < 300 for k in range(34))  # 4.4 standard deviations; keys are fixed


# ---- private values in sums, and noise


@pytest.mark.parametrize("owner", [0, 1])
def test_a_private_value_enters_sums_by_one_message_of_its_owner(owner):
    values = torch.tensor([[0.5, -3.0], [2.25, 1.0]], dtype=torch.float64)
    costs = []

    def program(engine):
        x = private(engine, owner, values)
        y = private(engine, 1 - owner, 2 * values)
        before = engine.channel.meter.bytes_sent
        first, second = x.secret(), x.secret()
        costs.append((engine.dry, engine.me, engine.channel.meter.bytes_sent - before))
        return engine.open(engine.blinded((y + first + second).share))[0]

    done = run(affine(program))
    assert torch.equal(done.results[0].double() / 2**16, 4 * values) and torch.equal(*done.results)
    assert sorted(costs)[:2] == [(False, 0, 32 * (owner == 0)), (False, 1, 32 * (owner == 1))]
    costs.clear()
    run(program)
    assert {sent for _, _, sent in costs} == {0}


def test_noise_of_both_owners_is_added_and_no_replay_draws_any():
    drawn = []

    def program(engine):
        session = OnEngine(engine, 8.0)
        value = private(engine, 1, torch.tensor([1.5], dtype=torch.float64)).secret()
        value = Secret(session.context, value.share, value.bits)

        def draw(bits: int) -> int:
            drawn.append(engine.me)
            return (engine.me + 1) << bits

        return session.reveal(session.perturb(value, draw), "value", "test")

    done, owners = run_and_replayed(program)
    assert [float(found) for found in done.results] == [4.5, 4.5] and sorted(drawn) == [0, 1]
    for owner in owners:
        (claim,) = owner.claims
        assert off(claim, owner.dealt) == [0]
    assert done.engines[0].channel.meter.bytes_sent == done.dry.channel.meter.bytes_sent
