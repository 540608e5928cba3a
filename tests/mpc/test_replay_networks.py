"""What training on shares is made of, as linear forms: relu, layers, logarithms, steps of descent, checks."""

from __future__ import annotations

import pytest
import torch
from replays import off, replayed, shares

from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.log_softmax import log_softmax
from mpc_appraisal.mpc.protocols.logit_bound import TrainedWeights, WeightLimit
from mpc_appraisal.mpc.protocols.tensors import Context, Secret
from mpc_appraisal.mpc.protocols.unbounded_softmax import unbounded_log_softmax

torch.set_num_threads(1)
ROWS = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
WEIGHTS = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def secret(engine, values: torch.Tensor, bits: int) -> Secret:
    return Secret(Context(engine, 16.0), shares(engine, torch.round(values * 2.0**bits).to(torch.int64), "v"), bits)


def log_softmax_within(bound: float):
    def program(engine):
        z = ROWS * bound / 4
        z = secret(engine, z - z.mean(1, keepdim=True), 24)
        share, bits = log_softmax(engine, z.share, 24, bound)
        return Secret(z.context, share, bits)

    return program, ((ROWS - ROWS.mean(1, keepdim=True)) * bound / 4).log_softmax(1)


def unbounded_log_softmax_of(floor: bool):
    def program(engine):
        z = secret(engine, ROWS * 3, 24)
        share, bits = unbounded_log_softmax(engine, z.share, 24, 50.0, floor)
        return Secret(z.context, share, bits)

    return program, (ROWS * 3).log_softmax(1)


def step_of_two_layers(engine):
    """One step of descent of the weights of a layer after a relu, as in `mlp_finetuning`."""
    z, w = secret(engine, ROWS, 20), secret(engine, WEIGHTS, 18)
    z.context = w.context
    a, positive = ops.rectified(z, 18)
    found, backward = ops.layer(a, w)
    of_weights, of_a = backward(found)
    g = ops.gated(positive, of_a, 18)
    return ops.descended(w, of_weights, 0.1, 0.01, 18), g


def step_in_the_clear() -> tuple[torch.Tensor, torch.Tensor]:
    a = ROWS.clamp(min=0)
    g = a @ WEIGHTS
    return WEIGHTS * (1 - 0.01) - 0.1 * a.t() @ g, (ROWS > 0) * (g @ WEIGHTS.t())


def check_of_weights(norm: float):
    def program(engine):
        w = secret(engine, WEIGHTS, 18)
        trained = TrainedWeights(engine, WeightLimit("a method", 16.0, 4.0, norm, 100.0, 16))
        for _ in range(2):
            trained.record(w.share, w.bits)
        return Secret(w.context, trained.verdict(), 0)

    largest = (WEIGHTS - WEIGHTS.mean(1, keepdim=True)).norm(dim=0).max()
    return program, (largest <= norm).to(torch.float64).reshape(1)


def whole(program, values: list[torch.Tensor]):
    """The program with its results opened; what an owner has opened is kept in `values`."""

    def opened(engine):
        found = program(engine)
        found = found if isinstance(found, tuple) else (found,)
        results = engine.open(*(engine.blinded(each.share) for each in found))
        if not engine.dry and not engine.replays:
            values[:] = [ring.double() / 2.0**each.bits for ring, each in zip(results, found, strict=True)]
        return results

    return opened


@pytest.mark.parametrize(
    ("program", "expected", "error"),
    [
        (*log_softmax_within(2.0), 1e-4),
        (*log_softmax_within(30.0), 1e-3),
        (*unbounded_log_softmax_of(False), 1e-4),
        (*unbounded_log_softmax_of(True), 1e-4),
        (step_of_two_layers, step_in_the_clear(), 1e-4),
        (*check_of_weights(10.0), 0.0),
        (*check_of_weights(0.1), 0.0),
    ],
)
def test_every_message_is_a_form_and_the_value_is_right(program, expected, error):
    values: list[torch.Tensor] = []
    for claims, dealt in replayed(whole(program, values)):
        assert len(claims) >= 2
        for claim in claims:
            assert not any(off(claim, dealt))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for found, right in zip(values, expected, strict=True):
        assert (found - right).abs().max() <= error
