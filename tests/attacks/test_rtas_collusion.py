"""The helper or the dealer together with one owner: what both know, and what each knows alone."""

from __future__ import annotations

import pytest
import torch

from mpc_appraisal.attacks.rtas import collusion
from mpc_appraisal.attacks.rtas.view import seen
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, encode
from mpc_appraisal.mpc.ring.prg import Stream

ULP = 2.0**-PRECISION_BITS
KEY = bytes(range(32))


@pytest.mark.parametrize("hidden", ["rows", "entries"])
def test_helper_and_owner_together_have_every_value(models, private, hidden):
    z = models[0].logits(private.x)
    z = z if hidden == "rows" else z.reshape(-1)
    view = seen(models[0].logits(private.x), hidden, 0)
    assert collusion.exact_share(collusion.undo(view, view.order), z, ULP) == 1
    assert collusion.exact_share(view.values, z, ULP) < 0.02  # the helper alone
    guess = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    assert collusion.exact_share(collusion.undo(view, guess), z, ULP) < 0.02


def test_dealer_and_owner_together_have_the_data(private):
    x = encode(private.x, "x")
    mask = Stream(KEY, "mask").ring(x.shape)
    assert torch.equal(collusion.unmask(x - mask, mask), x)
    other = Stream(KEY, "another").ring(x.shape)
    assert collusion.exact_share(collusion.unmask(x - mask, other), x) == 0 == collusion.exact_share(x - mask, x)


def test_collusion_needs_a_permutation_and_ring_elements(models, private):
    view = seen(models[0].logits(private.x), "rows", 0)
    for wrong in (
        lambda: collusion.undo(view, view.order[:-1]),
        lambda: collusion.undo(view, torch.zeros_like(view.order)),
        lambda: collusion.unmask(view.values, view.values),
    ):
        with pytest.raises(InputError):
            wrong()
