"""Maxima of rows by comparisons of pairs in groups: exact at every boundary, in the groups that the rule chooses."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from three import run

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.group_maximum import LARGEST_GROUP, grouping, level_bytes
from mpc_appraisal.mpc.protocols.maximum import maximum
from mpc_appraisal.mpc.protocols.orders import measured

torch.set_num_threads(1)
GENERATOR = np.random.default_rng(8)


def rows_of(columns: int, bits: int, count: int) -> torch.Tensor:
    """Rows whose differences just have `bits` bits: at random, equal, with ties, and at both ends of the range."""
    half = 1 << (bits - 2)
    rows = GENERATOR.integers(-half, half, (count, columns), dtype=np.int64)
    rows[: count // 4] = rows[: count // 4, :1]
    rows[count // 4 : count // 2] = np.where(
        GENERATOR.random((count // 2 - count // 4, columns)) < 0.5, -half, half - 1
    )
    rows[-5:] = rows[-5:, :1] + GENERATOR.integers(-1, 2, (5, columns))
    return torch.from_numpy(rows.clip(-half, half - 1))


def shares(values: torch.Tensor):
    r = torch.from_numpy(GENERATOR.integers(-(2**63), 2**63, tuple(values.shape), dtype=np.int64))

    def share(engine):
        if engine.dry:
            return torch.empty(values.shape, dtype=torch.int64, device="meta")
        return r if engine.me == 0 else values - r

    return share


def equal_rings(found: torch.Tensor, expected: torch.Tensor, bits: int) -> bool:
    ones = (1 << bits) - 1 if bits < 64 else -1
    return torch.equal(found & ones, expected & ones)


@pytest.mark.parametrize(("bits", "count"), [(64, 24), (24, 400), (12, 40)])
def test_maxima_are_exact_for_2_to_256_columns(bits, count):
    for columns in (2, 3, 4, 5, 10, 16, 17, 64, 256):
        rows = rows_of(columns, bits, count if columns < 64 else 20)
        share = shares(rows)
        done = run(lambda e, share=share: maximum(e, share(e), bits))
        assert equal_rings(done.results[0] + done.results[1], rows.max(1, keepdim=True).values, bits), columns
        real, dry = done.engines[0].channel.meter, done.dry.channel.meter
        assert (real.bytes_sent, real.rounds) == (dry.bytes_sent, dry.rounds)
        assert measured(parse(json.dumps(done.dry.script))).requests == len(done.dry.script)
        opened = [r[1] for r in done.dry.script if r[0] in ("open", "difference")]
        assert sorted(opened) == sorted(key for r in done.dry.script if r[0] == "forget" for key in r[1])


def test_every_order_of_a_group_has_its_winner():
    for size in range(2, LARGEST_GROUP + 1):
        rows = torch.tensor(list(itertools.product(range(size), repeat=size)))  # all orders, with all ties
        share = shares(rows)
        done = run(lambda e, share=share: maximum(e, share(e), 8))
        assert equal_rings(done.results[0] + done.results[1], rows.max(1, keepdim=True).values, 8)


def ways(elements: int, levels: int):
    """All ways to come to one winner in so many levels, by brute force."""
    if elements == 1:
        yield ()
    elif levels:
        for groups in range(1, elements):
            for sizes in itertools.combinations_with_replacement(range(1, LARGEST_GROUP + 1), groups):
                if sum(sizes) == elements:
                    yield from ((sizes, *rest) for rest in ways(groups, levels - 1))


@pytest.mark.parametrize("elements", [2, 3, 4, 5, 7, 10])
def test_the_rule_takes_the_fewest_levels_and_then_the_fewest_bytes(elements):
    found = grouping(elements, 24)
    fewest = next(levels for levels in range(9) if any(True for _ in ways(elements, levels)))
    assert len(found) == fewest == {2: 1, 3: 1, 4: 1, 5: 2, 7: 2, 10: 2}[elements]
    least = min(sum(level_bytes(sizes, 24) for sizes in way) for way in ways(elements, fewest))
    assert sum(level_bytes(sizes, 24) for sizes in found) == least


def test_ten_columns_take_six_rounds_and_the_bytes_that_are_stated():
    rows = rows_of(10, 24, 800)
    share = shares(rows)
    done = run(lambda e: maximum(e, share(e), 24))
    meter = done.engines[0].channel.meter
    assert grouping(10, 24) == ((2, 2, 3, 3), (4,)) and meter.rounds == 6
    # 14 openings of 3 bytes, and for each of 14 pairs 10 planes of the comparison and one bit
    assert meter.bytes_sent == 800 * (14 * 3 + 14 * 11 / 8)
    assert done.dry.channel.dealt == 800 * (14 * 166 / 8 + (2 * 2 + 2 * 12 + 42) * 3)


@pytest.mark.parametrize(
    "request_",
    [
        ["wins", 1, [2, 2]], ["wins", 1, [5]], ["wins", 1, "3"], ["wins", 9, [3]],
        ["difference", 2, 1, 1, [0], [3]], ["difference", 2, 1, 1, [0], [0, 1]], ["difference", 1, 1, 1, [0], [1]],
        ["difference", 2, 1, 9, [0], [1]], ["gated_power", 9, 5, 5],
    ],
)  # fmt: skip
def test_malformed_requests_are_refused_from_shapes(request_):
    with pytest.raises(AppraisalError, match="dealer: refused"):
        measured([["open", 1, [3, 7], 24, 24], request_])
