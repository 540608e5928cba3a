"""Layers, gates and the softmax without a bound on shares, against torch's autograd and its softmax."""

from __future__ import annotations

import json

import pytest
import torch
from three import private, run, sharing

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.protocols.dealer import parse
from mpc_appraisal.mpc.protocols.orders import measured
from mpc_appraisal.mpc.protocols.tensors import Context, Secret

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
    assert ops.shared(V) is V and torch.equal(ops.softmax(z), z.softmax(1))
    assert torch.equal(ops.log_softmax(z), z.log_softmax(1)) and DrySession.dry
