"""CrypTen's tensors on the engine: CrypTen's protocols, with the engine's messages, dealer and randomness."""

from __future__ import annotations

import pytest
import torch
from crypten_threads import one_engine_a_thread
from three import run, sharing

from mpc_appraisal.mpc.protocols import crypten_adapter as bridge
from mpc_appraisal.mpc.protocols.tensors import Context, Secret

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(11)
X = torch.randn(6, 5, dtype=torch.float64, generator=GENERATOR) * 2
Y = torch.randn(6, 5, dtype=torch.float64, generator=GENERATOR)
IMAGE = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=GENERATOR)
KERNEL = torch.randn(3, 1, 3, 3, dtype=torch.float64, generator=GENERATOR)
LARGE = torch.rand(128, 128, dtype=torch.float64, generator=GENERATOR) * 2048 + 2048  # CrypTen's truncation fails here

CASES = {
    "mul": (lambda a, b: a * b, lambda a, b: a * b, X, Y, 1e-3),
    "matmul": (lambda a, b: a.matmul(b.t()), lambda a, b: a @ b.T, X, Y, 1e-3),
    "large": (lambda a, b: a * b, lambda a, b: a * b, LARGE, LARGE.t(), 0.1),
    "square": (lambda a, b: a.square(), lambda a, b: a * a, X, Y, 1e-3),
    "relu": (lambda a, b: a.relu(), lambda a, b: a.relu(), X, Y, 1e-3),
    "less": (lambda a, b: a < b, lambda a, b: (a < b).double(), X, Y, 1e-6),
    "max": (lambda a, b: a.max(1)[0], lambda a, b: a.max(1)[0], X, Y, 1e-3),
    "exp": (lambda a, b: b.exp(), lambda a, b: b.exp(), X, Y, 0.2),
    "conv2d": (
        lambda a, b: a.conv2d(b, stride=2, padding=1),
        lambda a, b: torch.conv2d(a, b, stride=2, padding=1),
        IMAGE,
        KERNEL,
        1e-3,
    ),
}


@pytest.fixture(autouse=True)
def one_party_at_a_time(monkeypatch):
    one_engine_a_thread(monkeypatch)


@pytest.mark.parametrize("name", list(CASES))
def test_an_operation_agrees_with_plaintext(name):
    secret, plain, left, right, tolerance = CASES[name]
    a, b = sharing(left, 16, 1), sharing(right, 16, 2)

    def program(engine):
        x, y = (Secret(Context(engine, 16.0), share(engine), 16) for share in (a, b))
        out = x.from_crypten(secret(x.crypten(), y.crypten()))
        engine.out_bits = out.bits
        return out.share

    done = run(program)
    assert (done.value(done.engines[0].out_bits) - plain(left, right)).abs().max() < tolerance


def test_sigmoid_without_comparisons():
    share = sharing(X * 3, 16)
    done = run(lambda e: Secret(Context(e, 16.0), share(e), 16).sigmoid().share)
    assert (done.value(16) - (X * 3).sigmoid()).abs().max() < 1e-3


def test_signs_are_those_of_cryptens_own_circuit():
    near = [sign * (1 << k) + step for k in range(0, 63, 3) for sign in (1, -1) for step in (-1, 0, 1)]
    ring = torch.tensor([*near, 2**63 - 1, -(2**63)], dtype=torch.int64)

    def program(engine):
        bridge.use(engine)
        share = ring if engine.me == 0 else torch.zeros_like(ring)
        share = share + engine.pair.ring(ring.shape) * (1 - 2 * engine.me)
        tensor = bridge.crypten.mpc.MPCTensor.from_shares(share, precision=0)
        return torch.stack([tensor._ltz().share, bridge._crypten_ltz(tensor).share])

    ours, cryptens = run(program).value(0)
    assert torch.equal(ours, cryptens) and torch.equal(ours, (ring < 0).double())


@pytest.mark.parametrize("helper", [False, True])
def test_cryptens_autograd_takes_the_engines_relu_and_its_bits(helper):
    a, g = sharing(X, 16, 1), sharing(Y, 16, 2)

    def program(engine):
        engine.helper = helper
        x, gradient = (Secret(Context(engine, 16.0), share(engine), 16).crypten() for share in (a, g))
        x.requires_grad = True
        z = x.relu()
        z.backward(gradient)
        assert not any(request[0] in ("conjunction", "bilinear") for request in engine.script) or helper
        return torch.cat([z.share, x.grad.share])

    done = run(program)
    plain = X.clone().requires_grad_()
    plain.relu().backward(Y)
    assert (done.value(16) - torch.cat([X.relu(), plain.grad])).abs().max() < 1e-3
    if not helper:
        assert done.engines[0].channel.meter.rounds == 3 + 1  # the comparison, and the gradient's opening
        assert done.dry.channel.meter.bytes_sent == done.engines[0].channel.meter.bytes_sent
