"""The check of a matrix's norms on shares, against big integers, for any ring elements that a matrix may hold."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from test_crypten_adapter import one_party_at_a_time  # noqa: F401  both owners in one process, though CrypTen has globals
from three import run

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.norm_check import (
    DIRECTION_CAP,
    LOGIT_ROOM,
    WEIGHT_ROOM,
    all_hold,
    direction_within,
    norm_passes,
    weights_within,
)
from mpc_appraisal.mpc.protocols.tensors import Context
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor as Matrix

torch.set_num_threads(1)
D, C = 6, 3
RING = 2**64


def held(ring: torch.Tensor, check, bits: int) -> bool:
    """What `check` says of a matrix of these ring elements, whatever they are, at the model owner."""

    def program(engine):
        value = torch.empty(ring.shape, dtype=torch.float64, device="meta") if engine.dry else torch.zeros(ring.shape)
        matrix = Matrix(Context(engine, 16.0), 0, value if engine.me == 0 else None, ring.shape, "matrix")
        assert bits in (16, matrix.bits)
        if not engine.dry:
            matrix._rings = {bits: ring.clone()}
        return all_hold(engine, [check(matrix)])

    done = run(program)
    verdict = (done.results[0] + done.results[1]).tolist()
    assert verdict in ([0], [1]) and done.engines[0].failure == 0.0
    return verdict == [1]


def signed(number: int) -> int:
    return (number + RING // 2) % RING - RING // 2


def columns_of(ring: torch.Tensor) -> list[list[int]]:
    return [[int(v) for v in column] for column in ring.t()]


def squared(column: list[int]) -> int:
    return sum(v * v for v in column)


def longest_weights(ring: torch.Tensor) -> int:
    """The largest squared norm of C w_c - sum of w, entries modulo 2^64, their squares in whole numbers."""
    rows = [[int(v) for v in row] for row in ring]
    return max(sum(signed(len(row) * row[c] - sum(row)) ** 2 for row in rows) for c in range(ring.shape[1]))


def longest_direction(ring: torch.Tensor) -> int:
    """The largest squared norm of a column, or squared distance of two."""
    columns = columns_of(ring)
    apart = [squared([a - b for a, b in zip(v, w, strict=True)]) for v, w in itertools.combinations(columns, 2)]
    return max([*map(squared, columns), *apart])


def random_ring(shape: tuple[int, int], size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-size, size + 1, shape, generator=torch.Generator().manual_seed(seed))


def test_matrices_at_the_limit_pass_and_one_unit_beyond_it_fail():
    for shape, seed in (((5, 2), 0), ((9, 3), 1), ((785, 10), 2)):
        ring = random_ring(shape, 1 << 16, seed)
        true = longest_direction(ring)
        at = (
            math.isqrt(true) / 2.0**16
        )  # the largest whole number of units that the matrix does not keep, or just keeps
        assert held(ring, lambda m, at=at: direction_within(m, at + 2.0**-16), 16)
        assert held(ring, lambda m, at=at: direction_within(m, at), 16) == (math.isqrt(true) ** 2 == true)
        true, unit = longest_weights(ring), shape[1] * 2.0**20
        at = math.isqrt(true) / unit
        assert held(ring, lambda m, at=at, unit=unit: weights_within(m, at + 1 / unit, 0.0), 20)
        assert not held(ring, lambda m, at=at, unit=unit: weights_within(m, at - 1 / unit, 0.0), 20)


def test_a_single_column_is_measured_as_it_is():
    """Of a model without a softmax: nothing is taken off, and there is no other column to be apart from."""
    ring = random_ring((785, 1), 1 << 16, 1)
    true = math.isqrt(squared(columns_of(ring)[0]))
    for check, bits in ((direction_within, 16), (lambda m, most: weights_within(m, most, 0.0), 20)):
        for steps, holds in ((1, True), (-1, False)):
            most = (true + steps) / 2.0**bits
            assert held(ring, lambda m, most=most, check=check: check(m, most), bits) == holds
    for entry in (2**32, 2**62):  # whose squares are 0 modulo 2^64
        ring = torch.full((9, 1), entry)
        assert not held(ring, lambda m: direction_within(m, 100.0), 16)
        assert not held(ring, lambda m: weights_within(m, 100.0, 0.0), 20)


def test_the_distance_of_two_columns_counts_and_not_their_lengths_alone():
    column = random_ring((9, 1), 1000).double()
    ring = torch.cat([column, -column, 0 * column], 1).to(torch.int64)
    norm = float(column.norm()) / 2.0**16
    assert not held(ring, lambda m: direction_within(m, 1.999 * norm), 16)
    assert held(ring, lambda m: direction_within(m, 2.001 * norm), 16)
    # Columns that are equal and long have no spread, and yet errors of probabilities would be multiplied by them.
    assert not held(torch.cat([column] * 3, 1).to(torch.int64), lambda m: direction_within(m, 0.999 * norm), 16)


HUGE = [2**63 - 1, -(2**63), 2**62, 2**62 - 1, -(2**62) - 1, 3 * 2**61, 2**40, 2**32, -(2**32)]


@pytest.mark.parametrize("entry", HUGE)
def test_entries_whose_squares_wrap_to_nothing_are_seen(entry):
    """2^32 and its multiples have a square of 0 modulo 2^64; others are beyond what is truncated rightly."""
    for places in ([(0, 0)], [(0, 0), (1, 0)], [(k, 1) for k in range(8)]):
        ring = torch.zeros(9, 3, dtype=torch.int64)
        for place in places:
            ring[place] = entry
        assert longest_direction(ring) > (100 * 2**16) ** 2
        assert not held(ring, lambda m: direction_within(m, 100.0), 16)
        # Weights are centred modulo 2^64 before, which may leave nothing of a multiple of 2^64 / C: not with 3 classes.
        assert longest_weights(ring) > (3 * 100 * 2**20) ** 2
        assert not held(ring, lambda m: weights_within(m, 100.0, 0.0), 20)


def test_squares_that_sum_to_a_multiple_of_the_ring_are_seen():
    """Four entries of 2^31 have squares that sum to 2^64: modulo it they are as short as nothing."""
    ring = torch.zeros(9, 3, dtype=torch.int64)
    ring[:4, 0] = 2**31
    assert squared(columns_of(ring)[0]) == RING
    assert not held(ring, lambda m: direction_within(m, 1.0), 16)
    for seed in range(6):  # and whatever is drawn from the whole ring
        ring = random_ring((9, 3), 2**62, seed) * 2
        assert not held(ring, lambda m: direction_within(m, 1000.0), 16)
        assert not held(ring, lambda m: weights_within(m, 50.0, 0.0), 20)


def test_a_common_column_is_no_weight_however_large():
    """Softmax does not see what all classes have in common: X (C w - sum of w) is the same modulo 2^64."""
    ring = random_ring((9, 3), 1000)
    common = random_ring((9, 1), 2**62, 5)
    limit = math.isqrt(longest_weights(ring)) / (3 * 2.0**20) + 2.0**-20
    assert longest_weights(ring + common) == longest_weights(ring)
    assert held(ring + common, lambda m: weights_within(m, limit, 0.0), 20)


def test_weights_too_long_for_whole_squares_are_cut_within_the_stated_allowance():
    shape, limit = (40, 64), 250.0  # C times the limit has 2^34 units
    allowance = WEIGHT_ROOM - LOGIT_ROOM
    ring = random_ring(shape, 1 << 24, 3)
    norm = math.sqrt(longest_weights(ring)) / (64 * 2.0**20)

    def scaled_to(target: float) -> torch.Tensor:
        return torch.round(ring.double() * (target / norm)).to(torch.int64)

    passes, fails = scaled_to(limit - allowance), scaled_to(limit + 1e-6)
    assert norm_passes(40 * 64, 2.0**37).last > 0, "nothing would be cut"
    assert held(passes, lambda m: weights_within(m, limit, allowance), 20)
    assert not held(fails, lambda m: weights_within(m, limit, allowance), 20)


def test_what_passes_every_look_cannot_wrap_in_the_next():
    for entries in (4, 27, 7850, 2**17, 2**24):
        for cap in (1.0, 2.0**26, DIRECTION_CAP, 2.0**34):
            root, reach = math.sqrt(entries), None
            plan = norm_passes(entries, cap)
            for shift, most in plan.coarse:
                u = 3.0 * 2.0 ** (62 - shift) + 1 if reach is None else (reach / 2.0**shift + root) / root
                assert entries * u**2 < 2.0**63 and 0 < most < 2**63
                assert (cap / 2.0**shift + root) ** 2 <= most, "a matrix within the cap would fail"
                reach = 2.0**shift * (math.sqrt(most) + root)
            assert (reach / 2.0**plan.last + root) ** 2 < 2.0**63 and reach <= plan.reach


def test_a_norm_that_shares_cannot_be_held_to_is_refused_by_name():
    def refused(check, match):
        with pytest.raises(InputError, match=match):
            held(torch.zeros(9, 3, dtype=torch.int64), check, 16)

    for bad in (0.0, -1.0, 1e6):
        refused(lambda m, bad=bad: direction_within(m, bad), r"spread of the influence direction")
    with pytest.raises(InputError, match="norm of the model's weights"):
        held(torch.zeros(9, 3, dtype=torch.int64), lambda m: weights_within(m, 1e5, 1e-9), 20)
