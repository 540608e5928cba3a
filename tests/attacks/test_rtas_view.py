"""What the helper of RTAS sees, as the attacks take it and as a real helper receives it."""

from __future__ import annotations

import pytest
import torch
from three import run, sharing

from mpc_appraisal.attacks.rtas import histogram, membership
from mpc_appraisal.attacks.rtas.view import HIDDEN, View, seen
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.protocols.permutation import apply
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS

ULP = 2.0**-PRECISION_BITS


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_view_has_all_values_and_not_their_order(models, private, hidden):
    z = models[0].logits(private.x)
    view = seen(z, hidden, 0)
    truth, values = (z.reshape(-1), view.values) if hidden == "entries" else (z, view.values)
    moved = truth[view.order]
    if hidden == "columns":
        assert ((values - moved).abs() > 1e-3).double().mean() > 0.8  # about one entry of ten stays where it was
        moved, values = moved.sort(dim=1).values, values.sort(dim=1).values
    assert float((values - moved).abs().max()) <= ULP
    assert torch.equal(values * 2**PRECISION_BITS, (values * 2**PRECISION_BITS).round())
    assert not torch.equal(view.order, torch.arange(len(truth)))


def test_a_view_of_another_kind_is_refused(models, private):
    z = models[0].logits(private.x)
    for wrong in (lambda: seen(z[0], "rows", 0), lambda: seen(z, "nothing", 0), lambda: seen(z, "entries", 0).rows):
        with pytest.raises(InputError):
            wrong()


@pytest.mark.parametrize(("function", "hidden"), [("softmax", "columns"), ("sigmoid", "entries")])
def test_a_real_helper_sees_what_the_attacks_take(models, private, function, hidden):
    """Shares through the protocol; the helper adds what both owners sent it."""
    inside, outside = (models[0].logits(private.x[rows]) for rows in (slice(0, 200), slice(200, 400)))
    share = sharing(inside, PRECISION_BITS)

    def program(engine):
        engine.helper = True
        return apply(engine, share(engine), PRECISION_BITS, [function])

    shown = run(program).shown
    values = (shown[0] + shown[1]).double() * ULP
    view = View(values, torch.arange(len(values)), hidden)
    told = membership.accuracy(*(membership.members(view, z) for z in (inside, outside)))
    assert told > (0.99 if hidden == "entries" else 1 - 1e-12)
    if hidden == "columns":
        assert torch.allclose(histogram.features(view), histogram.features(seen(inside, hidden, 0)), atol=2 * ULP)
