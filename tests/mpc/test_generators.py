"""A curious data owner recovers the other owner's weights on CrypTen as shipped, and not on the engine."""

from __future__ import annotations

import pytest
import torch
from three import new_key

from mpc_appraisal.attacks.mersenne_twister import predict
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.ring.fixed_point import decode, encode
from mpc_appraisal.mpc.ring.prg import Stream

SHAPE_X, SHAPE_W = (60, 20), (20, 4)


def curious(role, address, emit, folder, engine):
    """Be one of the parties, which multiply X of one owner by W of the other; the data owner keeps its messages."""
    from mpc_appraisal.mpc.backends.registry import deal, open_session
    from mpc_appraisal.mpc.net.rendezvous import Rendezvous

    rendezvous = Rendezvous(role, address, 60, hosted=True)
    rendezvous.announce()
    if role == DEALER:
        deal(engine, rendezvous, 60)
        rendezvous.exchange("done", {})
        return None
    session = open_session(engine, rendezvous, 60)
    x, w = torch.rand(SHAPE_X, dtype=torch.float64), torch.randn(SHAPE_W, dtype=torch.float64)
    state, messages = torch.get_rng_state(), []

    def program(s):
        a = s.input(DATA_OWNER, lambda: x, SHAPE_X, "x")
        b = s.input(MODEL_OWNER, lambda: w, SHAPE_W, "w")
        own = (a.share.clone(), b.share.clone()) if s is session and engine == "stock" else None
        return own, s.reveal(a.matmul(b).sum(), "sum", "test")

    session.prepare(program)
    if role == DATA_OWNER:
        _listen(session, engine, messages)
    own, _ = program(session)
    used_torch = not torch.equal(state, torch.get_rng_state())
    session.close()
    rendezvous.exchange("done", {})
    rendezvous.close(5)
    return {"x": x, "w": w, "own": own, "messages": messages, "used_torch": used_torch}


def _listen(session, engine, messages):
    if engine == "stock":
        plain = session.communicator.all_reduce

        def all_reduce(tensors, *args, **kwargs):
            total = plain(tensors, *args, **kwargs)
            pairs = zip(tensors, total, strict=True) if isinstance(tensors, list) else [(tensors, total)]
            messages.extend(whole - mine for mine, whole in pairs)
            return total

        session.communicator.all_reduce = all_reduce
    else:
        plain = session.channel._receive

        def receive(*args):
            message = plain(*args)
            messages.append(message.clone())
            return message

        session.channel._receive = receive


def run(engine):
    roles = (MODEL_OWNER, DATA_OWNER, DEALER)
    return launch(curious, {role: {"engine": engine} for role in roles}, lambda event: None)


def test_on_crypten_as_shipped_the_data_owner_reads_the_weights():
    parties = run("stock")
    mine = parties[DATA_OWNER]
    (x_share, w_share), (epsilon, delta) = mine["own"], mine["messages"][:2]
    theirs_of_x = encode(mine["x"], "x") - x_share  # the other owner's share of this owner's value
    mask = theirs_of_x - epsilon
    next_mask = predict(mask, delta.numel())
    assert next_mask is not None
    weights = decode(delta + next_mask.reshape(delta.shape) + w_share)
    assert torch.allclose(weights, parties[MODEL_OWNER]["w"], atol=2.0**-16)


def test_in_the_engine_no_message_continues_another_and_torchs_generator_is_not_touched():
    parties = run("fast")
    weights = encode(parties[MODEL_OWNER]["w"], "w")
    assert not parties[DATA_OWNER]["used_torch"] and not parties[MODEL_OWNER]["used_torch"]
    messages = [n for n in parties[DATA_OWNER]["messages"] if n.dtype == torch.int64]
    assert any(n.shape == weights.shape for n in messages)  # the masked weights are among them
    for message in messages:
        if message.shape == weights.shape:
            # Even with known weights, the mask is not an output of the Mersenne Twister.
            stream = torch.cat([(weights - message).reshape(-1)] * 6)
            assert predict(stream, 1) is None


@pytest.mark.parametrize("seed", [1, 2**31, 2**63 - 1])
def test_the_attack_predicts_torch_and_not_aes(seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-(2**63), 2**63 - 1, (1200,), generator=generator)
    expected = torch.randint(-(2**63), 2**63 - 1, (40,), generator=generator)
    assert torch.equal(predict(drawn, 40), expected)
    assert predict(Stream(new_key(), "mask").ring((1200,)), 40) is None
