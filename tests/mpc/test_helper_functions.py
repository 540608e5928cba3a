"""Functions by permutation at a helper: against float64, what they cost, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helper_runs import ORACLES, applied, normal, opened, view, with_helper
from processes import MODEL_OWNER
from three import new_key, run, sharing

from mpc_appraisal.common.errors import AppraisalError, BoundError, InputError
from mpc_appraisal.mpc.backends.registry import dry_session
from mpc_appraisal.mpc.protocols.dealer import Dealer, parse
from mpc_appraisal.mpc.protocols.helper_functions import FUNCTIONS, ROOM, check_functions, computed, result_bits
from mpc_appraisal.mpc.protocols.permutation import apply
from mpc_appraisal.mpc.protocols.tensors import Context, Secret

torch.set_num_threads(1)


def test_every_function_has_an_oracle():
    assert set(ORACLES) == set(FUNCTIONS)


@pytest.mark.parametrize("bits", [0, 12, 36, 50])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_a_function_is_that_of_the_encoded_value_rounded_once(name, bits):
    rows = FUNCTIONS[name].rows
    z = torch.cat([normal(40, 7) * 5, torch.zeros(1, 7)])
    z = z if rows else z.reshape(41, 7, 1)
    exact = np.round(z.numpy() * 2.0**bits) / 2.0**bits
    out = result_bits(name, bits)
    got = opened(applied(z, bits, name)).double() / 2.0**out
    expected = ORACLES[name](exact)
    assert got.shape == z.shape
    assert np.abs(got.numpy() - expected).max() <= 2.0 ** -(out + 1) + 1e-12 * np.abs(expected).max()
    if name == "step":
        assert torch.equal(got, torch.from_numpy(expected))


def test_logits_need_no_bound():
    z = torch.tensor([[3e4, -3e4, 0.0], [-3e4, -3e4, -3e4 + 1]], dtype=torch.float64)
    for name in ("softmax", "log_softmax"):
        got = opened(applied(z, 36, name)).double() / 2.0 ** FUNCTIONS[name].bits
        assert np.abs(got.numpy() - ORACLES[name](z.numpy())).max() <= 2.0**-16


def test_a_value_and_its_derivative_take_one_exchange():
    done = applied(normal(50), 16, "relu", "step")
    assert len(view(done)) == 1 and torch.equal(opened(done, 0, 1), (opened(done, 0, 0) > 0).long())


def test_secrets_of_such_an_engine_go_to_the_helper():
    z = normal(30, 4) * 3
    share, bits = sharing(z, 36), {"relu": 18, "sigmoid": 16, "softmax": 16, "log_softmax": 18}

    def calls(engine):
        secret = Secret(Context(with_helper(engine), 1e-3), share(engine), 36)  # a bound that none of them keeps
        found = [secret.relu(), secret.sigmoid(), secret.softmax(1), secret.log_softmax(1)]
        assert [each.bits for each in found] == list(bits.values())
        found.append((secret * 2.0**40).relu())  # fewer than no fractional bits
        return [[each.share for each in found]]

    done = run(calls)
    assert len(view(done)) == 5
    for place, (name, out) in enumerate(bits.items()):
        assert np.abs(opened(done, 0, place).numpy() / 2.0**out - ORACLES[name](z.numpy())).max() <= 2.0**-16
    assert torch.allclose(opened(done, 0, 4).double(), z.clamp_min(0) * 2.0**40, rtol=0, atol=2.0**4)


def test_a_product_is_no_function_of_the_helper():
    z = normal(20, 3)
    share = sharing(z, 16)
    done = run(lambda engine: Secret(Context(with_helper(engine), 1.0), share(engine), 16).square().share)
    assert not done.shown and torch.allclose(done.value(32), z * z, atol=1e-4)


def test_the_cost_is_foretold():
    done = applied(normal(60, 10), 36, "softmax")
    sent = [engine.channel.meter.bytes_sent for engine in done.engines]
    assert sent == [4800, 4800] == [done.dry.channel.meter.bytes_sent] * 2
    assert done.dry.channel.dealt == 4800
    rounds = [engine.channel.meter.rounds for engine in done.engines]
    assert rounds == [2, 0] and done.dry.channel.meter.rounds == 2  # the data owner is told nothing


def refused(request: list, match: str, shown: list[torch.Tensor] | None = None) -> None:
    messages = iter(shown or [])
    dealer = Dealer([new_key(), new_key()], lambda correction: None, lambda shape, rank: next(messages))
    with pytest.raises(AppraisalError, match=match):
        dealer.run(parse(json.dumps([request])), lambda: None)


@pytest.mark.parametrize(
    ("request_", "match"),
    [
        (["apply", ["inverse"], [4], 16], "functions: got 'inverse'; expected some of relu"),
        (["apply", [], [4], 16], "functions: got none"),
        (["apply", ["relu"] * 8, [4], 16], "functions"),
        (["apply", ["relu", "softmax"], [4], 16], "functions of elements alone, or of rows alone"),
        (["apply", "relu", [4], 16], "refused 'relu'"),
        (["apply", [["relu"]], [4], 16], "refused apply"),
        (["apply", ["relu"], [2, 2], 16], "expected \\(n\\)"),
        (["apply", ["softmax"], [4], 16], "rows \\(n, C\\)"),
        (["apply", ["softmax"], [4, 0], 16], "rows \\(n, C\\)"),
        (["apply", ["relu"], [-4], 16], "refused the shape"),
        (["apply", ["relu"], [2**40], 16], "refused the shape"),
        (["apply", ["relu"], [4], 129], "refused the number 129"),
        (["apply", ["relu"], [4], "16"], "refused the number"),
        (["apply", ["relu"], [4]], "refused apply"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_shown(request_, match):
    refused(request_, match)


def test_a_dealer_that_is_no_helper_is_shown_nothing():
    dealer = Dealer([new_key(), new_key()], lambda correction: None)
    with pytest.raises(AppraisalError, match="refused to receive values; expected a session of engine rtas"):
        dealer.run([["apply", ["relu"], [4], 16]], lambda: None)


def test_an_owner_without_a_helper_shows_nothing():
    share = sharing(normal(4), 16)
    with pytest.raises(AppraisalError, match="expected session.engine=rtas"):
        run(lambda engine: apply(engine, share(engine), 16, ["relu"]))
    with pytest.raises(InputError, match="session.engine: got 'fast'|session.engine: got fast"):
        dry_session("fast", MODEL_OWNER).apply(torch.ones(2), "relu")


def test_what_fixed_point_cannot_have_meant_is_refused():
    for wild in (ROOM, -ROOM - 1):
        zero = torch.zeros(4, dtype=torch.int64)
        refused(["apply", ["relu"], [4], 16], "a value that is not plausible", [zero + wild, zero])
    assert computed("relu", torch.tensor([ROOM - 1, -ROOM]), 55).tolist() == [1 << 18, 0]
    with pytest.raises(AppraisalError, match="exp: a result beyond fixed point"):
        computed("exp", torch.tensor([40]), 0)
    with pytest.raises(InputError, match="functions"):
        check_functions(["relu", "softmax"])


def test_losses_whose_sum_would_wrap_are_refused():
    """A comparison of that sum would be wrong without a word."""
    z = torch.zeros(64, 2, dtype=torch.int64)
    z[:, 0] = 1 << 54  # at 36 bits 2^18: each row's loss is as large, 2^36 with 18 bits, and 64 of them 2^42
    assert computed("log_softmax", z, 36).abs().max() == 1 << 36
    with pytest.raises(BoundError, match="log_softmax: a result beyond fixed point"):
        computed("log_softmax", z.repeat(8, 1), 36)
