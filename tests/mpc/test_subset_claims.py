"""Claims by random subsets, by both ways, against Python's integers; errors of every kind are found."""

from __future__ import annotations

import queue
import threading

import numpy as np
import pytest
import torch
from three import QueueChannel

from mpc_appraisal.common.errors import IntegrityError
from mpc_appraisal.mpc.integrity.subset_claims import SubsetClaims, deal_seed, receive_seed

SEED = bytes(range(32))
P = 2147483629
BITS = np.array([64, 33, 64, 17, 1, 64, 33] * 11)


def messages(seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(-(2**63), 2**63, len(BITS), dtype=np.int64)
    drawn[:3] = [-1, 2**63 - 1, -(2**63)]
    return drawn


def test_sums_and_weights_are_those_of_the_matrix(way):
    claims = SubsetClaims(SEED, "x", BITS)
    u, m = claims.matrix(), messages()
    assert claims.moduli == (1,) * 48 + (17,) * 48 + (33,) * 48 + (64,) * 48 and u.shape == (192, len(BITS))
    expected = []
    for row, b in zip(u, claims.moduli, strict=True):
        assert not row[b != BITS].any()
        expected.append(sum(int(v) for v, chosen in zip(m, row, strict=True) if chosen) % (1 << b))
    assert claims.sums(m) == expected == claims.sums(m.view(np.uint64))
    gammas = np.random.default_rng(1).integers(0, P, len(claims.moduli)).astype(np.uint32)
    gammas[:3] = P - 1
    weights = [sum(int(g) for g, c in zip(gammas, column, strict=True) if c) % P for column in u.T]
    assert claims.cotangents(gammas, P).tolist() == weights
    one = SubsetClaims(SEED, "x", np.full(9, 64))
    assert one.sums(m[:9]) == [sum(int(v) * int(c) for v, c in zip(m, r, strict=False)) % 2**64 for r in one.matrix()]


def test_subsets_are_fair_and_differ_by_purpose():
    u = SubsetClaims(SEED, "x", np.full(20000, 64)).matrix()
    assert abs(u.mean(1) - 0.5).max() < 7 * 0.5 / np.sqrt(20000)
    assert abs(np.corrcoef(u) - np.eye(len(u))).max() < 7 / np.sqrt(20000)
    assert (u != SubsetClaims(SEED, "y", np.full(20000, 64)).matrix()).mean() > 0.49


@pytest.mark.parametrize("error", [1, -1, 1 << 40, -(1 << 63), 12345678901234567])
def test_every_error_but_0_of_the_ring_is_found(error):
    claims = SubsetClaims(SEED, "x", BITS)
    m = messages()
    right = claims.sums(m)
    with np.errstate(over="ignore"):
        for k, b in enumerate(BITS):
            wrong = m.copy()
            wrong[k] += error
            assert (claims.sums(wrong) != right) == (error % (1 << int(b)) != 0)


def test_top_bits_and_errors_that_cancel_are_found():
    """A pair of errors survives a subset with a probability of 1 / 2, and 48 of them with 2^-48."""
    for k in range(200):
        claims = SubsetClaims(k.to_bytes(32, "big"), "x", BITS)
        m, error = messages(k), np.int64(-(2**63)) >> np.int64(k % 2)
        right, (i, j) = claims.sums(m), np.random.default_rng(k).choice(np.flatnonzero(BITS == 64), 2, replace=False)
        with np.errstate(over="ignore"):
            m[i], m[j] = m[i] + error, m[j] - error
        assert claims.sums(m) != right
        swapped = messages(k)
        swapped[[i, j]] = swapped[[j, i]]
        assert claims.sums(swapped) != right


@pytest.mark.parametrize("bits", [[0], [65], [[64]]])
def test_wrong_bits_and_shapes_are_refused(bits):
    with pytest.raises(ValueError, match="expected integers from 1 to 64"):
        SubsetClaims(SEED, "x", np.array(bits))
    claims = SubsetClaims(SEED, "x", BITS)
    with pytest.raises(ValueError, match="messages"):
        claims.sums(messages()[:-1])
    with pytest.raises(ValueError, match="gammas"):
        claims.cotangents(np.zeros(40), P)


def test_the_dealer_sends_the_seed_once_both_owners_have_said_that_all_is_received():
    queues = {(i, j): queue.Queue() for i in range(3) for j in range(3)}
    channels = [QueueChannel(rank, queues, [], 60) for rank in range(3)]
    found = {}
    work = [lambda: receive_seed(channels[0]), lambda: receive_seed(channels[1]), lambda: deal_seed(channels[2])]
    dealer = threading.Thread(target=lambda: found.__setitem__(2, work[2]()))
    dealer.start()
    first = threading.Thread(target=lambda: found.__setitem__(0, work[0]()))
    first.start()
    first.join(0.2)
    assert first.is_alive() and not found
    found[1] = work[1]()
    for thread in (first, dealer):
        thread.join(60)
    assert found[0] == found[1] == found[2] and len(found[0]) == 32
    queues[0, 2].put(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(IntegrityError, match="model_owner"):
        deal_seed(channels[2])
