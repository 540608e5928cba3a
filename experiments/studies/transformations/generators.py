"""The passive attack on generators that are not cryptographic, on CrypTen as shipped and on the engine.

Two honest parties multiply X of the data owner by W of the model owner. The data owner, who knows X, writes down what
it receives and looks for a Mersenne Twister in it (`attacks.mersenne_twister`). What it recovers is the share of W
within a unit of fixed point. On the engine it tries every message of at least as many ring elements, with W known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from experiments.harness.parties import launch_parties, meeting
from experiments.harness.records import Row
from mpc_appraisal.attacks.mersenne_twister import predict
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.ring.fixed_point import decode, encode

SHAPE_X, SHAPE_W = (60, 20), (20, 40)
LEAST = 400  # ring elements that are needed to find a twister
UNIT = 2.0**-16


def measure() -> list[Row]:
    """Return what a data owner that follows the protocol recovers of the model owner's matrix, by engine."""
    meaning = "share of the model owner's matrix that the data owner recovers from masks"
    row = {"part": "protocol", "kind": "generator", "seconds": None, "mb": None, "attack": "its generators",
           "setting": "both owners honest", "chance": 0.0, "meaning": meaning}  # fmt: skip
    return [row | {"protocol": engine, "recovered": recovered(engine)} for engine in ("fast", "stock")]


def recovered(engine: str) -> float:
    """Return the share of W that the data owner recovers, in [0, 1]."""
    found = launch_parties(_honest, engine=engine)
    weights, mine = found[MODEL_OWNER]["w"], found[DATA_OWNER]
    guesses = _of_stock(mine) if mine["own"] is not None else _of_engine(mine, encode(weights, "w"))
    return max((float(((guess - weights).abs() <= UNIT).to(torch.float64).mean()) for guess in guesses), default=0.0)


def _of_stock(mine: dict) -> list[torch.Tensor]:
    (x_share, w_share), (epsilon, delta) = mine["own"], mine["messages"][:2]
    mask = predict(encode(mine["x"], "x") - x_share - epsilon, delta.numel())
    return [] if mask is None else [decode(delta + mask.reshape(delta.shape) + w_share)]


def _of_engine(mine: dict, weights: torch.Tensor) -> list[torch.Tensor]:
    """Try, even with W known, whether what masked a message continues as a twister's output."""
    messages = [m for m in mine["messages"] if m.dtype == torch.int64 and m.numel() >= LEAST]
    streams = [weights - m if m.shape == weights.shape else m for m in messages]
    return [decode(weights) for stream in streams if predict(stream, 1) is not None]


def _honest(role: str, address: str, emit: Any, folder: Path, engine: str) -> dict[str, Any] | None:
    with meeting(role, address, 60) as rendezvous:
        if role == DEALER:
            deal(engine, rendezvous, 60)
            return None
        session = open_session(engine, rendezvous, 60)
        x, w = torch.rand(SHAPE_X, dtype=torch.float64), torch.randn(SHAPE_W, dtype=torch.float64)
        messages: list[torch.Tensor] = []

        def program(s: Any) -> tuple | None:
            a = s.input(DATA_OWNER, lambda: x, SHAPE_X, "x")
            b = s.input(MODEL_OWNER, lambda: w, SHAPE_W, "w")
            own = (a.share.clone(), b.share.clone()) if s is session and engine == "stock" else None
            s.reveal(a.matmul(b).sum(), "sum", "the attack on generators")
            return own

        session.prepare(program)
        if role == DATA_OWNER:
            _listen(session, engine, messages)
        own = program(session)
        session.close()
        return {"x": x, "w": w, "own": own, "messages": messages}


def _listen(session: Any, engine: str, messages: list[torch.Tensor]) -> None:
    """Write down what comes in; nothing is sent otherwise than by the protocol."""
    if engine == "stock":
        plain = session.communicator.all_reduce

        def all_reduce(tensors, *args, **kwargs):
            total = plain(tensors, *args, **kwargs)
            pairs = zip(tensors, total, strict=True) if isinstance(tensors, list) else [(tensors, total)]
            messages.extend(whole - mine for mine, whole in pairs)
            return total

        session.communicator.all_reduce = all_reduce
        return
    receive = session.channel._receive

    def heard(*args):
        message = receive(*args)
        messages.append(message.clone())
        return message

    session.channel._receive = heard
