"""What each party receives in a run whose messages are checked does not depend on the secrets, over many runs.

The secrets are two pairs of matrices that differ wildly and have the same result.
Bits are compared by Hoeffding's bound, so that a false alarm is rarer than CHANCE.
"""

from __future__ import annotations

import numpy as np
import torch
from checked import run

from mpc_appraisal.mpc.protocols.masked import MaskedOpening, evict, open_all, product
from mpc_appraisal.mpc.ring.prg import Stream

torch.set_num_threads(1)
RUNS, FEW = 60, 40  # runs of each pair of matrices, and where they must differ
CHANCE = 1e-10
BIG = (1 << 20) - 3
# x (2, 2) of the data owner and w (2, 2) of the model owner: both products are zeros.
SECRETS = (
    (torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)),
    (torch.tensor([[BIG, -BIG], [-BIG, BIG]]), torch.tensor([[BIG, -7], [BIG, -7]])),
)


def program(secret):
    """Products of the owners' matrices, what gates make of them, and one opening to both and one to the data owner."""

    def on(tensor, engine, owner):
        return None if engine.me != owner else tensor.to("meta") if engine.dry else tensor

    def both(engine, opened):
        x = engine.mask(1, on(secret[0], engine, 1), (2, 2))
        w = engine.mask(0, on(secret[1], engine, 0), (2, 2))
        share = engine.product(x, w)
        (a,) = open_all(engine, MaskedOpening(share, 4, 24, 64, 1 << 20))
        opened(product(engine, a, a).sum().reshape(1))
        evict(engine, a)
        opened(engine.multiply(engine.product(x, w), engine.product(x, w)).sum().reshape(1), (1,))

    return both


def octets(tensors: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([each.contiguous().numpy().reshape(-1).view(np.uint8) for each in tensors])


def view(secret) -> list[np.ndarray]:
    """The bits that each party received in one run, and those of its own message with the other's at the same time."""
    sent: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    def noting(me):
        return lambda number, tensor: (sent[me].append(tensor), tensor)[1]

    done = run(program(secret), {me: noting(me) for me in (0, 1)})
    assert not done.errors, done.errors
    assert [int(each) for each in done.results[1]] == [0, 0] and done.results[0][1] is None
    found = []
    for rank in range(3):
        left, opened = list(done.seen[rank]), []
        for mine in sent.get(rank, ()):
            theirs = next((t for t in left if t.shape == mine.shape and t.dtype == mine.dtype), None)
            if theirs is not None:
                left = [t for t in left if t is not theirs]
                opened += [mine ^ theirs, mine + theirs]
        found.append(np.unpackbits(octets([*done.seen[rank], *opened])).astype(int))
    return found


def differences(runs: int) -> list[float]:
    """For each party, by how much the counts of a bit differ at most, in parts of what chance explains."""
    counts = [[0, 0, 0], [0, 0, 0]]
    for k in range(2 * runs):
        for rank, bits in enumerate(view(SECRETS[k % 2])):
            counts[k % 2][rank] = counts[k % 2][rank] + bits
    most = [np.sqrt(runs * np.log(2 * len(a) / CHANCE)) for a in counts[0]]
    return [np.abs(a - b).max() / limit for a, b, limit in zip(*counts, most, strict=True)]


def test_no_party_sees_which_matrices_went_in():
    assert max(differences(RUNS)) < 1.0


def test_the_test_sees_runs_without_masks(monkeypatch):
    """With zeros as the masks of private matrices and gates, each owner sees what the other one brought in."""
    real = Stream.ring

    def bare(self, shape, *size):
        return torch.zeros_like(real(self, shape, *size))

    monkeypatch.setattr(Stream, "ring", bare)
    found = differences(FEW)
    assert found[0] > 1.0 and found[1] > 1.0
