"""Layers, gates and the softmax without a bound on shares, against torch's autograd and its softmax."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
import torch
from three import new_key, private, run, sharing

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.tensors import Context, Secret
from mpc_appraisal.mpc.ring.shape_tensor import shape_tensor

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(3)
X, W = torch.randn(40, 5, dtype=torch.float64, generator=GENERATOR), torch.randn(5, 4, generator=GENERATOR).double()
V, G = torch.randn(4, 3, generator=GENERATOR).double(), torch.randn(40, 3, generator=GENERATOR).double()
LOGITS = torch.cat([torch.randn(30, 7, generator=GENERATOR) * 3, torch.randn(5, 7, generator=GENERATOR) * 1e4]).double()


def secret(engine, values, bits, seed):
    return Secret(Context(engine, 16.0), sharing(values, bits, seed)(engine), bits)


def test_the_gradients_of_two_layers_are_autograds():
    def program(engine):
        z = private(engine, 1, X).matmul(private(engine, 0, W))
        a, positive = ops.rectified(z, 16)
        assert a.bits == 16 < z.bits
        out, backward = ops.layer(a, private(engine, 0, V))
        of_weights, of_a = backward(secret(engine, G, 16, 4))
        of_z = ops.gated(positive, of_a, 16)
        assert (out.bits, of_weights.bits, of_z.bits) == (32, 32, 16)
        return torch.cat([t.to_bits(16).share.reshape(-1) for t in (out, of_weights, of_z)])

    done = run(program)
    z = (X @ W).requires_grad_()
    v = V.clone().requires_grad_()
    out = z.relu() @ v
    out.backward(G)
    expected = torch.cat([t.detach().reshape(-1) for t in (out, v.grad, z.grad)])
    assert (done.value(16) - expected).abs().max() < 2e-3
    assert done.dry.channel.meter.bytes_sent == done.engines[0].channel.meter.bytes_sent
    assert done.dry.channel.meter.rounds == done.engines[0].channel.meter.rounds
    kept = measured(parse(json.dumps(done.dry.script)) + [["mark"]])
    assert kept.requests == len(done.dry.script) + 1
    opened = [r[1] for r in done.dry.script if r[0] in ("open", "bits")]
    dropped = [key for r in done.dry.script if r[0] == "forget" for key in r[1]]
    assert sorted(opened) == sorted(dropped)  # the dealer keeps no mask that nothing needs any more


def integers(engine, values, bits, seed):
    """Shares of ring elements."""
    mask = torch.randint(-(2**63), 2**63 - 1, values.shape, generator=torch.Generator().manual_seed(seed))
    share = shape_tensor(values.shape) if engine.dry else values - mask if engine.me == 0 else mask
    return Secret(Context(engine, 16.0), share, bits)


@pytest.mark.parametrize(
    ("rate", "decay"), [(4.6e-5, 6e-3), (0.3 / 110, 0.0), (1e-9, 1e-12), (0.5, 0.25), (1.0, 2.0), (93.7, 0.9)]
)
def test_a_step_of_descent_is_within_three_units_of_big_integers(rate, decay):
    bits, of_gradient = 18, 38
    shift = max(0, 16 - (of_gradient - math.frexp(rate)[1] - bits))  # so many bits a large factor takes from the ring
    edge = (1 << (62 - shift)) - 1
    own = torch.randint(-edge, edge, (200,), generator=GENERATOR)
    gradient = torch.cat([torch.tensor([edge, -edge, 0, 1, -1, 2**20, -(2**20) - 1]), own])
    weights = torch.randint(-(2**40), 2**40, gradient.shape, generator=GENERATOR)
    weights[:3] = torch.tensor([2**40, -(2**40), 0])

    def program(engine):
        secrets = integers(engine, weights, bits, 1), integers(engine, gradient, of_gradient, 2)
        return ops.descended(*secrets, rate, decay, bits).share

    done = run(program)
    found = (done.results[0] + done.results[1]).tolist()

    def rounded_factor(number):
        mantissa, exponent = math.frexp(number)
        return Fraction(round(mantissa * 2**16), 2**16) * Fraction(2) ** exponent

    for ours, w, g in zip(found, weights.tolist(), gradient.tolist(), strict=True):
        step = rounded_factor(rate) * Fraction(g, 2 ** (of_gradient - bits)) + rounded_factor(decay) * w
        assert abs(ours - w + step) <= 3  # no number of this test wraps in the ring
    assert done.dry.channel.meter.rounds == done.engines[0].channel.meter.rounds == 1
    assert done.dry.channel.meter.bytes_sent == done.engines[0].channel.meter.bytes_sent


@pytest.mark.parametrize("request_", [["scale", 1, 2**16 + 1], ["scale", 1, -1], ["scale", 1, True], ["scale", 2, 3]])
def test_a_dealer_refuses_factors_and_widths_that_no_owner_asks_for(request_):
    dealer = Dealer([new_key(), new_key()], lambda correction: None)
    opened = [["open", 1, [2], 48, 48], ["open", 2, [2], 49, 49]]
    dealer.run([*opened, ["scale", 1, 2**16]], lambda: None)
    with pytest.raises(AppraisalError, match="dealer: refused the number"):
        dealer.run([request_], lambda: None)


@pytest.mark.parametrize("bits", [16, 32])
def test_softmax_needs_no_bound_on_logits(bits):
    done = run(lambda e: ops.softmax(secret(e, LOGITS, bits, 5)).share)
    assert (done.value(16) - LOGITS.softmax(1)).abs().max() < 1e-3

    logarithms = run(lambda e: ops.log_softmax(secret(e, LOGITS, bits, 6)).to_bits(16).share)
    assert (logarithms.value(16) - LOGITS.log_softmax(1).clamp_min(-16)).abs().max() < 5e-3


@pytest.mark.parametrize(
    "script",
    [
        [["open", 1, [2, 3], 64, 64], ["matmul", 1, 1, 0, 0]],
        [["open", 1, [2, 2], 46, 64], ["matmul", 1, 1, 0, 0]],
        [["open", 1, [2], 64, 64], ["matmul", 1, 1, 0, 0]],
        [["matmul", 1, 1, 0, 0]],
        [["compare", 3]],
        [["open", 1, [2], 1, 1], ["compare", 1]],
        [["open", 1, [2], True, 64]],
        [["open", 1, [2], 0, 64]],
        [["bits", 1, [2]], ["bits", 1, [2]]],
        [["bits", 1, -2]],
    ],
)
def test_malformed_requests_are_refused_from_shapes(script):
    with pytest.raises(AppraisalError, match="dealer: refused"):
        measured(parse(json.dumps(script)))


def test_plain_tensors_have_the_same_operations():
    z = X @ W
    a, positive = ops.rectified(z, 16)
    out, backward = ops.layer(a, V)
    of_weights, of_a = backward(G)
    assert torch.equal(a, z.relu()) and torch.equal(ops.relu(z, 16), a) and torch.equal(out, a @ V)
    assert torch.equal(of_weights, a.T @ G) and torch.equal(ops.gated(positive, of_a, 16), (G @ V.T) * (z > 0))
    assert torch.allclose(ops.descended(V, V * 2, 0.3, 0.1, 18), V * 0.3, rtol=0, atol=1e-15)
    assert ops.shared(V, 18) is V and ops.shared(V) is V and torch.equal(ops.softmax(z), z.softmax(1))
    assert torch.equal(ops.log_softmax(z), z.log_softmax(1)) and DrySession.dry
