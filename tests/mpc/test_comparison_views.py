"""What each party sees of a comparison does not depend on the secrets: two inputs that differ wildly, many runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from three import run

from mpc_appraisal.mpc.protocols import borrow_chain, comparison
from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, matrix_product, open_all
from mpc_appraisal.mpc.protocols.maximum import maximum
from mpc_appraisal.mpc.protocols.real_functions import exponential_of, logarithm, root
from mpc_appraisal.mpc.protocols.secret_division import quotient
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_log_softmax, unbounded_softmax
from mpc_appraisal.mpc.ring.prg import Stream

torch.set_num_threads(1)
RUNS = 100  # of each secret
CHANCE = 1e-10  # significance of every test, after the correction for their number
TELLING = 0.4  # seven standard deviations of what a classifier that knows nothing reaches, see `advantage`
SECRETS = (torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[-(1 << 60), 7, 1 << 58], [1, -1, -(1 << 33)]]))


def bits_then_gate(engine, share):
    value, bit = comparison.relu(engine, share, 18)
    later = comparison.gated(engine, bit, share)
    bit.forget(engine)
    return value + later


def matrix_by_matrix(engine, share):
    x, y = open_all(engine, *(MaskedOpening(t, 0, 64, 64, 0) for t in (share, share.t())))
    product = matrix_product(engine, x, y)
    evict(engine, x, y)
    return product


GATES = {
    "matrix product": (matrix_by_matrix, 1),
    "many": (lambda e, s: comparison.negative(e, s), 1),
    "few": (lambda e, s: comparison.negative(e, s, 16), 1 << 30),
    "relu and its derivative": (bits_then_gate, 1),
    "maximum": (lambda e, s: maximum(e, s), 1),
    "softmax without a bound": (lambda e, s: unbounded_softmax(e, s, 36, 2.0**30), 1 << 30),
    "logarithm with a floor": (lambda e, s: unbounded_log_softmax(e, s, 36, 2.0**30, floor=True)[0], 1),
    "quotient": (lambda e, s: quotient(e, s, s.flip(1)), 1 << 30),
    "exponential of any number": (lambda e, s: exponential_of(e, s), 1 << 30),
    "logarithm of any number": (lambda e, s: logarithm(e, s), 1 << 30),
    "root of any number": (lambda e, s: root(e, s), 1 << 30),
    "none negative": (lambda e, s: comparison.none_negative(e, s.reshape(-1)), 1 << 30),
}


def octets(tensors: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([t.contiguous().numpy().reshape(-1).view(np.uint8) for t in tensors])


def views(gate, secrets=SECRETS) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[torch.Tensor]]:
    """For each owner, the bytes that it sees in each run, (2 RUNS, bytes), and the bytes of the secret's share it had.

    What it sees is what it receives, and the exclusive or and the sum of this and what it has sent at the same time.
    Runs of the two secrets alternate. Last comes what the dealer received.
    """
    found: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    drawn = np.random.default_rng(3).integers(-(2**63), 2**63, (2 * RUNS, 2, 3), dtype=np.int64)

    def program(engine):
        if not engine.dry:
            sent, send = [], engine.channel.send
            engine.channel.send = lambda tensor, to: (sent.append(tensor), send(tensor, to))
        for k in range(2 * RUNS):
            if engine.dry:
                out = gate(engine, torch.empty((2, 3), dtype=torch.int64, device="meta"))
                continue
            seen, mask = engine.channel.seen, torch.from_numpy(drawn[k])
            share = mask if engine.me == 0 else secrets[k % 2] - mask
            seen.clear(), sent.clear()
            out = gate(engine, share)
            left, opened = list(seen), []
            for mine in sent:  # the other's share of an opening is the next message of this size
                theirs = next(t for t in left if t.shape == mine.shape and t.dtype == mine.dtype)
                left = [t for t in left if t is not theirs]
                opened += [mine ^ theirs, mine + theirs]
            found[engine.me].append((octets([*seen, *opened]), octets([share])))
        return out

    done = run(program)
    return [tuple(np.stack(part) for part in zip(*each, strict=True)) for each in found], done.shown


def suspicion(seen: np.ndarray) -> float:
    """The least p-value, corrected for their number, of tests for uniform bytes and the same ones for both secrets."""
    uniform = stats.chisquare(np.bincount(seen.reshape(-1), minlength=256)).pvalue
    parts = np.concatenate([seen >> 4, seen & 15], axis=1)
    first, second = (np.stack([(parts[k::2] == j).sum(0) for j in range(16)]) for k in (0, 1))
    expected = (first + second) / 2
    terms = np.divide((first - second) ** 2 / 2, expected, out=np.zeros(expected.shape), where=expected > 0)
    found = stats.chi2.sf(terms.sum(0), np.maximum((expected > 0).sum(0) - 1, 1))
    return min(uniform, found.min() * len(found))


def advantage(seen: np.ndarray, known: np.ndarray) -> float:
    """How far from chance a classifier tells the secrets apart in runs that it was not trained on, at most 0.5.

    One that knows nothing is off by 0.058 (a standard deviation of Mann and Whitney's statistic for 50 and 50 runs).
    """
    bits, secret = np.unpackbits(np.concatenate([seen, known], axis=1), axis=1), np.arange(len(seen)) % 2
    bits = bits[:, np.random.default_rng(1).permutation(bits.shape[1])[:2500]]
    model = LogisticRegression(C=0.01, solver="liblinear").fit(bits[:RUNS], secret[:RUNS])
    return abs(roc_auc_score(secret[RUNS:], model.decision_function(bits[RUNS:])) - 0.5)


@pytest.mark.parametrize("name", list(GATES))
def test_no_party_sees_which_secret_was_compared(name, monkeypatch):
    gate, many = GATES[name]
    monkeypatch.setattr(borrow_chain, "MANY", many)
    owners, dealer = views(gate)
    assert dealer == []
    for seen, known in owners:
        assert suspicion(seen) > CHANCE and advantage(seen, known) < TELLING


def test_the_tests_see_a_gate_whose_bits_are_opened_without_masks(monkeypatch):
    monkeypatch.setattr(borrow_chain, "MANY", 1)
    monkeypatch.setattr(Stream, "octets", lambda self, shape, real=Stream.octets: real(self, shape) * (len(shape) == 1))
    owners, _ = views(GATES["many"][0])
    assert all(suspicion(seen) < CHANCE for seen, _ in owners)
