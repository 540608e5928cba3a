"""Rows of private matrices, as batches of training take them, are forms of the mask of the whole matrix."""

from __future__ import annotations

import pytest
import torch
from replays import off, replayed

torch.set_num_threads(1)
X = torch.randint(-(2**12), 2**12, (7, 3), generator=torch.Generator().manual_seed(1))
W = torch.randint(-(2**12), 2**12, (3, 2), generator=torch.Generator().manual_seed(2))
BATCHES = ([4, 0, 6], [1, 1, 5])  # the second one has a row twice


@pytest.mark.parametrize("bits", [32, 40, 48, 64])
@pytest.mark.parametrize("owner", [0, 1])
def test_products_of_rows_are_forms_and_right(bits, owner):
    values = []

    def program(engine):
        device = "meta" if engine.dry else None
        x = engine.mask(owner, X.to(device) if engine.me == owner else None, X.shape, bits)
        w = engine.mask(1 - owner, W.to(device) if engine.me != owner else None, W.shape)
        found = [engine.product(engine.rows(x, torch.tensor(batch)), w) for batch in BATCHES]
        opened = engine.swap([engine.blinded(share) for share in found], [bits] * len(found))
        if not engine.dry and not engine.replays:
            values[:] = [mine + theirs for mine, theirs in opened]

    for claims, dealt in replayed(program):
        assert len(claims) == len(BATCHES)
        for claim in claims:
            assert not any(off(claim, dealt))
    for batch, found in zip(BATCHES, values, strict=True):
        assert not any(error % 2**bits for error in (found - X[batch] @ W).reshape(-1).tolist())
