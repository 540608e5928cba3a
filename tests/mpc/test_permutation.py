"""What the helper and the owners see: values in an order that is uniform and changes with every call."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from helper_runs import applied, normal, view, with_helper
from scipy import stats
from three import new_key, run

from mpc_appraisal.mpc.protocols.permutation import Shuffle, apply, order
from mpc_appraisal.mpc.ring.prg import Stream

torch.set_num_threads(1)
CHANCE = 1e-10  # significance of every test of a distribution


class Tied:
    """A stream whose first keys are not all different."""

    def __init__(self, *draws):
        self.draws = [torch.tensor(draw) for draw in draws]

    def ring(self, shape):
        return self.draws.pop(0).reshape(shape)


def test_orders_are_uniform_and_keys_all_different():
    assert order(Tied([5, 5, 1], [2, 3, 2], [7, -9, 8]), (3,)).tolist() == [1, 0, 2]
    assert order(Tied([[1, 2], [4, 4]], [[2, 1], [3, 4]]), (2, 2)).tolist() == [[1, 0], [0, 1]]
    found = Counter(map(tuple, order(Stream(new_key(), "pair"), (12_000, 3)).tolist()))
    assert set(found) == set(permutations(range(3))) and stats.chisquare(list(found.values())).pvalue > CHANCE
    places = np.zeros((5, 5))
    stream = Stream(new_key(), "pair")
    for _ in range(2000):
        places[np.arange(5), order(stream, (5,)).numpy()] += 1
    assert stats.chisquare(places.reshape(-1)).pvalue > CHANCE


@pytest.mark.parametrize("columns", [False, True])
def test_a_shuffle_is_undone(columns):
    values, stream = torch.arange(60).reshape(12, 5), Stream(new_key(), "pair")
    shuffle = Shuffle.drawn(stream, values.shape, columns)
    moved = shuffle.apply(values)
    assert not torch.equal(moved, values) and torch.equal(shuffle.undo(moved), values)


def test_the_helper_sees_the_values_in_an_order_that_changes():
    z = normal(300)
    first, second = view(applied(z, 16, "relu", times=2))
    encoded = torch.round(z * 65536).long()
    assert sorted(first.tolist()) == sorted(second.tolist()) == sorted(encoded.tolist())
    assert not any(torch.equal(a, b) for a, b in ((first, second), (first, encoded), (second, encoded)))


def test_the_helper_sees_rows_in_disorder_and_each_row_in_one_of_its_own():
    z = normal(400, 6)
    encoded = torch.round(z * 65536).long()
    (seen,) = view(applied(z, 16, "softmax"))
    assert sorted(map(sorted, seen.tolist())) == sorted(map(sorted, encoded.tolist()))
    known = {tuple(sorted(row)): k for k, row in enumerate(encoded.tolist())}
    rows = torch.tensor([known[tuple(sorted(row))] for row in seen.tolist()])
    assert (rows == torch.arange(400)).sum() < 12  # one is expected
    columns = torch.stack([(row[:, None] == encoded[k]).float().argmax(1) for row, k in zip(seen, rows, strict=True)])
    counts = torch.stack([torch.bincount(column, minlength=6) for column in columns.T])
    assert stats.chisquare(counts.numpy().reshape(-1)).pvalue > CHANCE


def test_every_order_of_three_is_as_likely_at_the_helper():
    z = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    elements = Counter(tuple(seen.tolist()) for seen in view(applied(z, 0, "relu", times=1200)))
    rows = Counter(map(tuple, view(applied(z.expand(6000, 3), 0, "softmax"))[0].tolist()))
    for found in (elements, rows):
        assert set(found) == set(permutations((1, 2, 3))) and stats.chisquare(list(found.values())).pvalue > CHANCE


@pytest.mark.parametrize("name", ["relu", "softmax"])
def test_no_message_and_no_share_says_anything_by_itself(name):
    """Of a constant that one owner holds: the messages to the helper and the shares of the result are uniform."""
    constant = torch.full((20_000, 3), 1 << 20)

    def calls(engine):
        if engine.dry:
            return apply(with_helper(engine), torch.empty(20_000, 3, dtype=torch.int64, device="meta"), 16, [name])
        return apply(with_helper(engine), constant * (1 - engine.me), 16, [name])[0][0]

    done = run(calls)
    assert len(done.shown) == 2 and [len(seen) for seen in done.seen] == [1, 0]
    for message in (*done.shown, *done.seen[0], *done.results):
        counts = np.bincount(message.numpy().reshape(-1).view(np.uint8), minlength=256)
        assert stats.chisquare(counts).pvalue > CHANCE
