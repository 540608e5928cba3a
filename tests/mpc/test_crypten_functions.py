"""The engine's functions behind CrypTen's names: values and gradients against torch, and CrypTen's own faults."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from crypten_threads import one_engine_a_thread
from processes import Process
from three import run, sharing

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.crypten_programs import functions
from mpc_appraisal.mpc.protocols import crypten_adapter as bridge
from mpc_appraisal.mpc.protocols.tensors import Context, Secret

torch.set_num_threads(1)
crypten = bridge.crypten
UNIT = 2.0**-16


def on_grid(values: torch.Tensor) -> torch.Tensor:
    return torch.round(values / UNIT) * UNIT


GENERATOR = torch.Generator().manual_seed(21)
X = on_grid(torch.randn(6, 12, dtype=torch.float64, generator=GENERATOR) * 3)
FEW = X[:, :4].contiguous()
P = X.abs() + 0.25
D = on_grid(torch.rand(6, 1, dtype=torch.float64, generator=GENERATOR) * 400 + 1)
LABELS = torch.nn.functional.one_hot(torch.arange(6) % 4, 4).double()

# For each: the program, which runs on torch and on CrypTen alike; what it is given; bounds on values and gradients.
CASES = {
    "exp": (lambda a, b: a.exp(), FEW, D, 1e-2, 1e-1),  # values to e^8, each within a part of 8e-6
    "log": (lambda a, b: a.log(), P, D, 2 * UNIT, 3e-4),
    "sqrt": (lambda a, b: a.sqrt(), P, D, 2 * UNIT, 2e-4),
    "reciprocal": (lambda a, b: a.reciprocal(), P, D, 2 * UNIT, 5e-4),
    "sigmoid": (lambda a, b: a.sigmoid(), X, D, 1e-4, 2e-4),
    "tanh": (lambda a, b: a.tanh(), X, D, 2e-4, 5e-4),
    "softmax": (lambda a, b: a.softmax(1), X, D, 2e-4, 5e-4),
    "softmax of columns": (lambda a, b: a.softmax(0), X, D, 2e-4, 5e-4),
    "log_softmax": (lambda a, b: a.log_softmax(1), X, D, 3e-4, 5e-4),
    "log_softmax of few": (lambda a, b: a.log_softmax(1), FEW, D, 1e-4, 5e-4),
    "a / [b]": (lambda a, b: a / b, X, D, 2 * UNIT, 5e-4),
    "[b] / a": (lambda a, b: b / a, P, D, 2e-5 + 2 * UNIT, 1e-2),
    "100 / a": (lambda a, b: 100 / a, P, D, 2 * UNIT, 1e-2),
    "norm": (lambda a, b: a.norm(), P, D, 1e-3, 1e-3),
    "power": (lambda a, b: a**0.5 if torch.is_tensor(a) else a.pos_pow(0.5), P, D, 1e-4, 5e-4),
}


@pytest.fixture(autouse=True)
def one_party_at_a_time(monkeypatch):
    one_engine_a_thread(monkeypatch)
    monkeypatch.setattr(crypten.cfg, "config", copy.deepcopy(crypten.cfg.config))
    functions.install(crypten)
    functions.install(crypten)  # A second call changes nothing.


def secret(engine, values: torch.Tensor, seed: int, bits: int = 16):
    return Secret(Context(engine, 16.0), sharing(values, bits, seed)(engine), bits).crypten()


def both(program, left: torch.Tensor, right: torch.Tensor):
    """Values and gradients of a program, on shares and by torch; the run."""
    a, b = left.clone().requires_grad_(), right.clone().requires_grad_()
    out = program(a, b)
    upstream = on_grid(torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    out.backward(upstream)

    def on_shares(engine):
        x, y = secret(engine, left, 1), secret(engine, right, 2)
        x.requires_grad, y.requires_grad = True, True
        found = program(x, y)
        value = found.share.clone()
        found.backward(secret(engine, upstream, 3))
        grads = [t.grad.share for t in (x, y) if t.grad is not None]
        return torch.cat([part.reshape(-1) for part in (value, *grads)])

    done = run(on_shares)
    exact = [t.grad.reshape(-1) for t in (a, b) if t.grad is not None]
    found, exact = done.value(16), torch.cat([out.detach().reshape(-1), *exact])
    return (found - exact).abs().split([out.numel(), len(exact) - out.numel()]), done


@pytest.mark.parametrize("name", list(CASES))
def test_values_and_gradients_are_those_of_torch(name):
    program, left, right, of_value, of_gradient = CASES[name]
    crypten.cfg.functions.approximations = "engine"
    (value, gradient), done = both(program, left, right)
    assert value.max() <= of_value and gradient.max() <= of_gradient
    real, dry = done.engines[0].channel.meter, done.dry.channel.meter
    assert (real.bytes_sent, real.rounds) == (dry.bytes_sent, dry.rounds)


def test_cross_entropy_is_that_of_torch_for_improbable_labels_too():
    crypten.cfg.functions.approximations = "engine"
    z = FEW * 4  # a label's probability is down to e^-30
    expected = torch.nn.functional.cross_entropy(z.clone(), LABELS.argmax(1))
    (value, gradient), _ = both(
        lambda a, b: (
            (-(a.log_softmax(1) * b.detach()).sum() / 6) if torch.is_tensor(a) else a.cross_entropy(b.detach())
        ),
        z,
        LABELS,
    )
    assert expected > 1 and value.max() < 5e-4 and len(gradient) == z.numel() and gradient.max() < 5e-4


def test_a_division_by_a_count_is_wrong_by_default_and_right_with_the_engines():
    """The fault that CrypTen's users report: 100 / [100] is 0.92, and 500 / [500] is far from 1."""
    counts = torch.tensor([100.0, 500.0], dtype=torch.float64)
    crypten.cfg.functions.reciprocal_all_pos = True

    def program(engine):
        return (secret(engine, counts, 1) / secret(engine, counts, 2)).share

    own = (run(program).value(16) - 1).abs()
    assert 0.02 < own[0] < 0.2 and own[1] > 0.5
    crypten.cfg.functions.approximations = "engine"
    assert (run(program).value(16) - 1).abs().max() <= 2 * UNIT


def test_the_option_is_read_at_each_call_and_its_default_is_cryptens_own():
    def rounds() -> int:
        return run(lambda e: secret(e, P, 1).log().share).dry.channel.meter.rounds

    own = rounds()
    with crypten.cfg.temp_override({"functions.approximations": "engine"}):
        assert rounds() == 6 < own
    assert rounds() == own
    crypten.cfg.functions.approximations = "crypten"
    assert rounds() == own


def test_a_wrong_option_is_refused_before_anything_is_sent(monkeypatch):
    crypten.cfg.functions.approximations = "exact"
    with pytest.raises(InputError, match="crypten.cfg.functions.approximations.*exact.*crypten or engine"):
        run(lambda e: secret(e, P, 1).exp())
    crypten.cfg.functions.approximations = "engine"
    monkeypatch.setattr(bridge, "_bridged", lambda: None)  # as in a session of CrypTen as it is
    with pytest.raises(InputError, match="where CrypTen computes by itself"):
        crypten.mpc.MPCTensor.from_shares(torch.zeros(3, dtype=torch.int64)).exp()


@pytest.mark.parametrize("bits", [0, 12, 20])
def test_other_numbers_of_fractional_bits_are_converted(bits):
    crypten.cfg.functions.approximations = "engine"
    counts = torch.tensor([1.0, 2.0, 3.0, 900.0, 70000.0])

    def program(engine):
        bridge.use(engine)
        tensor = crypten.mpc.MPCTensor.from_shares(sharing(counts, bits, 1)(engine), precision=bits)
        found = tensor.reciprocal()
        engine.out_bits = int(found.encoder.scale).bit_length() - 1
        return found.share

    done = run(program)
    assert done.engines[0].out_bits == (bits or 16)
    assert (done.value(bits or 16) - 1 / counts).abs().max() <= 2 * UNIT + 2.0 ** -(bits or 16)


def test_a_softmax_of_many_classes_is_right():
    crypten.cfg.functions.approximations = "engine"
    z = on_grid(torch.randn(3, 300, dtype=torch.float64, generator=GENERATOR) * 5)
    z[0] -= 1e5
    done = run(lambda e: torch.cat([secret(e, z, 1).softmax(1).share, secret(e, z, 1).log_softmax(1).share]))
    exact = torch.cat([z.softmax(1), z.log_softmax(1)])
    assert (done.value(16) - exact).abs().max() < 2e-3


PROGRAM = """
import torch
import mpc_appraisal.crypten as crypten

crypten.cfg.functions.approximations = "engine"

@crypten.mpc.run_multiprocess(world_size=2)
def functions():
    a = crypten.cryptensor(torch.tensor([500.0, 1.0, -3.0]), src=0)
    n = crypten.cryptensor(torch.tensor([500.0, 0.0001, 7.0]), src=1)
    n.requires_grad = True
    found = a / n
    found.sum().backward()
    parts = [found, n.grad, n.log(), n.sqrt(), a.exp(), a.unsqueeze(0).softmax(1), 2 / n]
    if float(n.sum().get_plain_text()) > 100:  # What follows depends on an opened value.
        parts.append(n.reciprocal())
    return [part.get_plain_text().double().reshape(-1) for part in parts]

if __name__ == "__main__":
    both = functions()
    assert all(torch.equal(x, y) for x, y in zip(*both))
    a, n = (torch.tensor(v).double() for v in ([500.0, 1.0, -3.0], [500.0, 0.0001, 7.0]))
    n = (n * 2**16).round() / 2**16
    exact = [a / n, -a / n**2, n.log(), n.sqrt(), a.exp().clamp(max=2.0**29), a.softmax(0), 2 / n, 1 / n]
    assert len(both[0]) == len(exact)
    for found, right in zip(both[0], exact):
        off = (found - right).abs() / right.abs().clamp(min=1)
        assert off.max() < 1e-4, (found, right)
    print("done")
"""


def test_a_program_that_depends_on_opened_values_uses_them_between_real_processes(tmp_path):
    (path := tmp_path / "program.py").write_text(PROGRAM)
    ended = Process([sys.executable, str(path)], tmp_path / "run").wait(120)
    assert ended.code == 0 and ended.out.endswith("done\n"), ended.err
