"""Methods that are written with CrypTen: tensors in the clear against torch, refusals, and the page's method."""

from __future__ import annotations

import re
import types

import pytest
import torch
from crypten_threads import one_engine_a_thread
from processes import ROOT
from three import private, run, sharing

from mpc_appraisal.appraisal.conformance import OK, SmallSets, dry_line, formula_lines, stated_lines
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.mpc.backends.fast import DrySession
from mpc_appraisal.mpc.crypten_methods import crypten, from_crypten, to_crypten, with_parameters
from mpc_appraisal.mpc.protocols import crypten_adapter as bridge
from mpc_appraisal.mpc.protocols.tensors import Context, Secret

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(4)
X = torch.randn(7, 5, dtype=torch.float64, generator=GENERATOR)
LABELS = torch.nn.functional.one_hot(torch.arange(7) % 3, 3).double()


def network() -> crypten.nn.Module:
    linear = crypten.nn.Linear
    return crypten.nn.Sequential(linear(5, 4), crypten.nn.ReLU(), linear(4, 3))


WEIGHTS = {
    name: torch.randn(tuple(own.size()), dtype=torch.float64, generator=GENERATOR) * 0.5
    for name, own in network().named_parameters()
}


def by_torch(steps: int, lr: float) -> torch.Tensor:
    """The loss after some steps of torch's own SGD."""
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3)).double()
    net.load_state_dict(WEIGHTS)
    optimiser = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(X), LABELS.argmax(1)).backward()
        optimiser.step()
    return torch.nn.functional.cross_entropy(net(X), LABELS.argmax(1)).detach()


def by_crypten(x, labels, weights, steps: int, lr: float):
    net = with_parameters(network(), {name: to_crypten(value) for name, value in weights.items()})
    optimiser, criterion = crypten.optim.SGD(net.parameters(), lr=lr), crypten.nn.CrossEntropyLoss()
    rows, of_rows = to_crypten(x), to_crypten(labels)
    for _ in range(steps):
        optimiser.zero_grad()
        criterion(net(rows), of_rows).backward()
        optimiser.step()
    with crypten.no_grad():
        return from_crypten(x, criterion(net(rows), of_rows))


def test_in_the_clear_a_program_is_torchs():
    before = {name: value.clone() for name, value in WEIGHTS.items()}
    found = by_crypten(X, LABELS, WEIGHTS, 5, 0.7)
    assert found.dtype == torch.float64 and (found - by_torch(5, 0.7)).abs() < 1e-12
    assert by_torch(5, 0.7) < by_torch(0, 0.7) - 0.1  # the steps change something
    assert all(torch.equal(value, before[name]) for name, value in WEIGHTS.items())  # CrypTen's tensors are copies


def test_on_shares_the_same_program_is_torchs_within_fixed_point(monkeypatch):
    one_engine_a_thread(monkeypatch)

    def program(engine):
        x = private(engine, 1, X)
        labels = private(engine, 1, LABELS)
        weights = {name: private(engine, 0, value) for name, value in WEIGHTS.items()}
        found = by_crypten(x, labels, weights, 2, 0.7)
        assert isinstance(found, Secret)
        engine.out_bits = found.bits
        return found.share

    done = run(program)
    assert (done.value(done.engines[0].out_bits) - by_torch(2, 0.7)).abs() < 1e-3
    real, dry = done.engines[0].channel.meter, done.dry.channel.meter
    assert (real.bytes_sent, real.rounds) == (dry.bytes_sent, dry.rounds)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("products", lambda a, b: (a * b).sum() + a.matmul(b.t()).square().sum()),
        ("functions", lambda a, b: (a.exp() + b.sigmoid() + a.tanh()).sum()),
        ("quotients", lambda a, b: (a / (b.square() + 1)).sum()),
        ("softmax", lambda a, b: (a.softmax(1) * b + a.log_softmax(1)).sum()),
        ("logarithms", lambda a, b: ((a.square() + 1).log() + (b.square() + 1).sqrt()).sum()),
        ("reductions", lambda a, b: a.relu().sum() + a.mean() * b.sum(1).sum()),
    ],
)
def test_functions_in_the_clear_have_torchs_values_and_gradients(name, function):
    left, right = X.clone().requires_grad_(), X.flip(0).clone().requires_grad_()
    expected = function(left, right)
    expected.backward()
    a, b = to_crypten(X), to_crypten(X.flip(0))
    a.requires_grad, b.requires_grad = True, True
    found = function(a, b)
    found.backward()
    assert (from_crypten(X, found) - expected).abs() < 1e-9
    for secret, plain in ((a, left), (b, right)):
        if plain.grad is not None:
            assert (secret.grad._tensor - plain.grad).abs().max() < 1e-9


def test_convolutions_and_comparisons_in_the_clear():
    image, kernel = torch.randn(2, 1, 6, 6, dtype=torch.float64, generator=GENERATOR), torch.ones(3, 1, 3, 3).double()
    found = to_crypten(image).conv2d(to_crypten(kernel), padding=1)
    assert (found._tensor - torch.conv2d(image, kernel, padding=1)).abs().max() < 1e-12
    assert torch.equal((to_crypten(X) > 0)._tensor, (X > 0).double())
    assert torch.equal(to_crypten(X).max(1)[0]._tensor, X.max(1).values)


def test_parameters_are_checked():
    given = {name: to_crypten(value) for name, value in WEIGHTS.items()}
    with pytest.raises(InputError, match=r"0\.bias, 0\.weight, 2\.bias, 2\.weight"):
        with_parameters(network(), {name: given[name] for name in list(given)[:2]})
    with pytest.raises(InputError, match=r"2\.bias.*shape \(4,\).*shape \(3,\)"):
        with_parameters(network(), given | {"2.bias": to_crypten(torch.zeros(4))})


def test_a_method_opens_nothing(monkeypatch):
    with pytest.raises(TypeError, match="the run opens it"):
        to_crypten(X).get_plain_text()
    one_engine_a_thread(monkeypatch)
    for name in ("get_plain_text", "reveal"):
        monkeypatch.setattr(bridge.crypten.mpc.MPCTensor, name, getattr(bridge.crypten.mpc.MPCTensor, name))
        with pytest.raises(TypeError, match=f"{name}: a method opens nothing"):
            run(lambda e, n=name: getattr(to_crypten(Secret(Context(e, 16.0), sharing(X, 16)(e), 16)), n)())


def test_functions_are_the_engines_unless_the_method_says_otherwise():
    def rounds() -> int:
        session = DrySession()
        to_crypten(session.input("data_owner", lambda: X, X.shape, "x")).exp()
        return session.meter.rounds

    assert rounds() == 6
    with crypten.cfg.temp_override({"functions.approximations": "crypten"}):
        assert rounds() > 6


def test_the_pages_method_keeps_what_is_asked_of_a_method(monkeypatch):
    text = (ROOT / "docs" / "tutorials" / "crypten_method.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"cat > network_fit\.py <<'END'\n(.*?)\nEND\n", text, re.DOTALL)
    module = types.ModuleType("network_fit")
    monkeypatch.setitem(__import__("sys").modules, "network_fit", module)
    exec(compile(source, "network_fit.py", "exec"), vars(module))
    method, sets = module.NetworkFit(steps=2), SmallSets()
    lines = [*stated_lines(method), *formula_lines(method, sets), dry_line(method, sets)]
    assert len(lines) >= 5 and all(line.status == OK for line in lines)
