"""The passive attack on generators that are not cryptographic, on CrypTen as shipped and on the engine.

Two honest parties multiply X of the data owner by W of the model owner; the data owner, who knows X, writes down what
it receives and looks for a Mersenne Twister in it: `attacks.twister`. What it recovers: the share of W within a unit of
fixed point. On the engine every message of at least as many ring elements is tried, W known to tell.
"""

from __future__ import annotations

import torch

from mpc_appraisal.attacks.mersenne_twister import predict
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.launch import launch
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.ring.fixed_point import decode, encode

SHAPE_X, SHAPE_W = (60, 20), (20, 40)
LEAST = 400  # ring elements that are needed to find a twister
UNIT = 2.0**-16


def recovered(engine: str) -> float:
    """Share of W that the data owner recovers, in [0, 1]."""
    roles = (MODEL_OWNER, DATA_OWNER, DEALER)
    found = launch(_honest, {role: {"engine": engine} for role in roles}, lambda event: None)
    weights, mine = found[MODEL_OWNER]["w"], found[DATA_OWNER]
    guesses = _of_stock(mine) if mine["own"] is not None else _of_engine(mine, encode(weights, "w"))
    return max((float(((guess - weights).abs() <= UNIT).to(torch.float64).mean()) for guess in guesses), default=0.0)


def _of_stock(mine: dict) -> list[torch.Tensor]:
    (x_share, w_share), (epsilon, delta) = mine["own"], mine["notes"][:2]
    mask = predict(encode(mine["x"], "x") - x_share - epsilon, delta.numel())
    return [] if mask is None else [decode(delta + mask.reshape(delta.shape) + w_share)]


def _of_engine(mine: dict, weights: torch.Tensor) -> list[torch.Tensor]:
    """Even with W known: whether what masked a message continues as a twister's output."""
    notes = [n for n in mine["notes"] if n.dtype == torch.int64 and n.numel() >= LEAST]
    streams = [weights - n if n.shape == weights.shape else n for n in notes]
    return [decode(weights) for stream in streams if predict(stream, 1) is not None]


def _honest(role, address, emit, folder, engine):
    rendezvous = Rendezvous(role, address, 60, hosted=True)
    rendezvous.announce()
    if role == DEALER:
        deal(engine, rendezvous, 60)
        rendezvous.exchange("done", {})
        return None
    session = open_session(engine, rendezvous, 60)
    x, w = torch.rand(SHAPE_X, dtype=torch.float64), torch.randn(SHAPE_W, dtype=torch.float64)
    notes: list[torch.Tensor] = []

    def program(s):
        a = s.input(DATA_OWNER, lambda: x, SHAPE_X, "x")
        b = s.input(MODEL_OWNER, lambda: w, SHAPE_W, "w")
        own = (a.share.clone(), b.share.clone()) if s is session and engine == "stock" else None
        s.reveal(a.matmul(b).sum(), "sum", "the attack on generators")
        return own

    session.prepare(program)
    if role == DATA_OWNER:
        _listen(session, engine, notes)
    own = program(session)
    session.close()
    rendezvous.exchange("done", {})
    rendezvous.close(5)
    return {"x": x, "w": w, "own": own, "notes": notes}


def _listen(session, engine: str, notes: list[torch.Tensor]) -> None:
    """Write down what comes in; nothing is sent otherwise than by the protocol."""
    if engine == "stock":
        plain = session.communicator.all_reduce

        def all_reduce(tensors, *args, **kwargs):
            total = plain(tensors, *args, **kwargs)
            pairs = zip(tensors, total, strict=True) if isinstance(tensors, list) else [(tensors, total)]
            notes.extend(whole - mine for mine, whole in pairs)
            return total

        session.communicator.all_reduce = all_reduce
        return
    receive = session.channel._receive

    def heard(*args):
        message = receive(*args)
        notes.append(message.clone())
        return message

    session.channel._receive = heard
