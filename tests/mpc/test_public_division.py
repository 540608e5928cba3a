"""Division of shared numbers by a public whole number, against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from three import new_key, run, sharing

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc.protocols.public_division import divide
from mpc_appraisal.mpc.ring.prg import Stream
from mpc_appraisal.mpc.ring.quotients import unsigned_quotient

DIVISORS = (2, 3, 7, 10, 200, 65_535, 65_536, 10**9 + 7, 2**40 - 87, 2**61)


def shared(ring: list[int], seed: int):
    """Return a function of the engine that gives its share of these ring elements."""
    r, v = sharing(torch.zeros(len(ring)), 0, seed), torch.tensor(ring, dtype=torch.int64)
    return lambda engine: r(engine) if engine.dry or engine.me else r(engine) + v


@pytest.mark.parametrize("divisor", DIVISORS)
def test_a_quotient_is_the_floor_or_one_more_and_exact_where_it_divides(divisor):
    rng = np.random.default_rng(divisor % 1000)
    largest = 2**62 - divisor - 1
    drawn = [int(x) for size in (20, 40, 61) for x in rng.integers(-(2**size), 2**size, 1000)]
    ring = [n for n in drawn if abs(n) <= largest] + [0, 1, -1, largest, -largest]
    multiples = [n // divisor * divisor for n in ring if abs(n // divisor * divisor) <= largest]
    share = shared(ring + multiples, 3)
    found = run(lambda engine: divide(engine, share(engine), divisor))
    got = (found.results[0] + found.results[1]).tolist()
    assert {q - n // divisor for q, n in zip(got, ring, strict=False)} <= {0, 1}
    assert got[len(ring) :] == [n // divisor for n in multiples]
    assert found.dry.script == [["divide", [len(got)], divisor]]
    assert found.engines[0].channel.meter.rounds == found.engines[1].channel.meter.rounds == 1


def test_what_an_owner_receives_is_uniform():
    share = shared([123_456] * 100_000, 5)
    found = run(lambda engine: divide(engine, share(engine), 37))
    for received in found.seen:
        data = torch.cat([t.reshape(-1) for t in received]).numpy().view(np.uint8)
        assert stats.chisquare(np.bincount(data, minlength=256)).pvalue > 1e-10


@pytest.mark.parametrize("bad", [0, 1, -3, 2**61 + 1, 2.0, True])
def test_a_divisor_that_the_dealer_would_refuse_is_refused_at_the_owner(bad):
    share = shared([1], 1)
    with pytest.raises(AppraisalError, match="refused to divide by"):
        run(lambda engine: divide(engine, share(engine), bad))


def test_quotients_are_of_unsigned_numbers():
    x = Stream(new_key(), "x").ring((1000,))
    found = unsigned_quotient(x, 12_345).tolist()
    assert found == [(n % 2**64) // 12_345 for n in x.tolist()]
