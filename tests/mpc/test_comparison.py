"""Comparisons by digits of a mask: exact at every boundary of the ring, as the dry run says, and uniform to owners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from three import run

from mpc_appraisal.mpc.protocols import borrow_chain, comparison
from mpc_appraisal.mpc.protocols.maximum import maximum
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.ring import bit_planes

torch.set_num_threads(1)
GENERATOR = np.random.default_rng(5)


def signed(value: int, bits: int = 64) -> int:
    """A whole number of any size, wrapped to a signed number of `bits` bits."""
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def boundaries(bits: int) -> list[int]:
    """Zero, powers of two and their neighbours of both signs, the ends of the range, and random numbers."""
    near = [sign * (1 << k) + step for k in range(bits) for sign in (1, -1) for step in (-1, 0, 1)]
    drawn = [int.from_bytes(GENERATOR.bytes(8), "little") >> int(k) for k in GENERATOR.integers(0, 64, 200)]
    return sorted({signed(v, bits) for v in [0, *near, *drawn, *(-v for v in drawn)]})


def shared(values: list[int] | torch.Tensor, seed: int = 0):
    """Uniform shares of ring elements, as a function of the engine."""
    ring = values if isinstance(values, torch.Tensor) else torch.tensor(values, dtype=torch.int64)
    r = torch.from_numpy(np.random.default_rng(seed).integers(-(2**63), 2**63, tuple(ring.shape), dtype=np.int64))
    if ring.numel():
        r.view(-1)[:4] = torch.tensor([0, -1, 1 << 62, -(1 << 63)])[: ring.numel()]

    def share(engine):
        if engine.dry:
            return torch.empty(ring.shape, dtype=torch.int64, device="meta")
        return r if engine.me == 0 else ring - r

    return share


def repeated(values: list[int], count: int) -> list[int]:
    return (values * (-(-count // len(values))))[: max(count, len(values))]


def as_announced(done) -> None:
    """The dry run has counted the bytes and rounds of the model owner, and the dealer's messages, exactly."""
    engine, dry = done.engines[0], done.dry
    assert engine.channel.meter.bytes_sent == dry.channel.meter.bytes_sent
    assert engine.channel.meter.rounds == dry.channel.meter.rounds
    assert measured(dry.script).requests == len(dry.script)


@pytest.mark.parametrize("bits", [2, 3, 9, 16, 46, 64])
@pytest.mark.parametrize("count", [1, borrow_chain.MANY])
def test_signs_are_exact_at_every_boundary(bits, count):
    values = repeated(boundaries(bits), count)
    share = shared(values)
    done = run(lambda e: comparison.negative(e, share(e), bits))
    assert (done.results[0] + done.results[1]).tolist() == [int(v < 0) for v in values]
    as_announced(done)


@pytest.mark.parametrize("count", [1, borrow_chain.MANY])
@pytest.mark.parametrize("cut", [0, 16, 18])
def test_relu_and_its_derivative_are_exact(cut, count):
    values = [v for v in boundaries(64 if cut == 0 else 62) if v != -(1 << 63)]
    values = repeated(values, count)
    share = shared(values, 1)

    def program(engine):
        value, bit = comparison.relu(engine, share(engine), cut)
        later = comparison.gated(engine, bit, share(engine))
        bit.forget(engine)
        return torch.stack([value, bit.share(engine), later])

    done = run(program)
    found, bits, later = (done.results[0] + done.results[1]).tolist()
    for v, value, bit, gated in zip(values, found, bits, later, strict=True):
        near = {v} if cut == 0 else {v >> cut, (v >> cut) + 1, -(-v >> cut) - 1}  # within one unit
        assert (value, bit) in {(max(w, 0), int(w > 0)) for w in near}, v
        assert gated == bit * v
    as_announced(done)


def test_the_sum_of_the_bits_decides_whether_any_element_is_negative():
    for values, expected in (
        ([5], 1), ([-(2**63)], 0), ([0, 2**63 - 1, 1], 1), ([0, -1, 1], 0), ([-1] * 255, 0), ([3] * 256 + [-7], 0),
    ):  # fmt: skip
        share = shared(values, 2)
        done = run(lambda e, share=share: comparison.none_negative(e, share(e)))
        assert (done.results[0] + done.results[1]).tolist() == [expected]


@pytest.mark.parametrize("columns", [1, 2, 3, 10, 11])
def test_maxima_of_rows(columns):
    rows = torch.from_numpy(GENERATOR.integers(-(2**61), 2**61, (130, columns), dtype=np.int64))
    rows[:20] = rows[:20, :1]  # equal elements
    share = shared(rows, 3)
    done = run(lambda e: maximum(e, share(e)))
    assert torch.equal(done.results[0] + done.results[1], rows.max(1, keepdim=True).values)


def test_no_elements_take_the_same_messages():
    share = shared(torch.zeros(0, 3, dtype=torch.int64))
    done = run(lambda e: comparison.negative(e, share(e)))
    assert done.results[0].shape == (0, 3)
    as_announced(done)


def test_plans_deal_what_the_table_says():
    few, many = (borrow_chain.borrow_plan(64, count) for count in (borrow_chain.MANY - 1, borrow_chain.MANY))
    assert (few.dealt, [level.opened for level in few.levels]) == (2280, [14])
    assert (many.dealt, [level.opened for level in many.levels]) == (336, [28, 6])
    assert borrow_chain.borrow_plan(9, 1).levels == ()


def test_planes_hold_the_bits_and_a_byte_of_padding():
    for count in (0, 1, 7, 8, 9, 64, 1000):
        values = torch.from_numpy(GENERATOR.integers(-(2**63), 2**63, count, dtype=np.int64))
        for bits in (1, 8, 45, 64):
            planes = bit_planes.planes_of(values, bits)
            assert planes.shape == (bits, -(-count // 8))
            for k in range(bits):
                assert bit_planes.bits_of(planes[k], (count,)).tolist() == [(v >> k) & 1 for v in values.tolist()]
