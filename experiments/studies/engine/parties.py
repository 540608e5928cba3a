"""One softmax-regression gradient between three processes, timed in the model owner's.

X (n, d) and one-hot Y are the data owner's, W (d, C) is the model owner's; what is opened is the norm of
G = X'(softmax(XW) - Y) / n. One session is a gradient from nothing (inputs, masks, the dealer's script,
products, softmax, opening) and `later` more gradients of the same X with other weights. The clock starts at a moment
that both owners share, before the script is made and while the dealer is still idle, so no work is done ahead of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from experiments.harness.parties import TIMEOUT, meeting, start_together
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.methods import Facts, GradientNorm
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import Session

METHOD = GradientNorm()
Own = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Shapes:
    """The public facts: n, d, C and the bound on the logits."""

    rows: int
    features: int
    classes: int
    bound: float


@dataclass(frozen=True)
class Gradients:
    """One session. If it `opens` G, then it does so after the last timed moment."""

    engine: str
    later: int = 0
    opens: bool = False


def weights(own: Own, k: int) -> torch.Tensor:
    """Return the weights of the k-th gradient, which differ each time."""
    return own["w"] * (1.0 - 0.01 * k)


def compute(
    session: Session, own: Own, shapes: Shapes, asked: Gradients, opened: Callable[[], None]
) -> torch.Tensor | None:
    """Compute jointly, and call `opened` after each opening. Return G if it is asked for."""
    n, d, classes = shapes.rows, shapes.features, shapes.classes
    facts = Facts(d - 1, classes, 0, 0, n, 0.0)
    session.bound_logits(shapes.bound)
    session.mark()
    x = session.input(DATA_OWNER, lambda: own["x"][:n], (n, d), "x")
    y = session.input(DATA_OWNER, lambda: own["y"][:n], (n, classes), "y")
    for k in range(asked.later + 1):
        w = session.input(MODEL_OWNER, lambda k=k: weights(own, k), (d, classes), "w")
        session.reveal(METHOD.score({"weights": w}, x, y, facts), METHOD.opens, "benchmark")
        opened()
        session.mark()
        session.forget(w)
    g = None
    if asked.opens:
        w = session.input(MODEL_OWNER, lambda: weights(own, 0), (d, classes), "w")
        summed = (x.matmul(w).softmax(1) - y).t().matmul(x).t()
        g = session.reveal(summed, "gradient", "benchmark") / n
        session.forget(w)
    session.forget(x, y)
    return g


def party(
    role: str, address: str, emit: Any, folder: Path, own: Own, shapes: Shapes, sessions: list[Gradients]
) -> list[dict]:
    """Run all sessions one after the other in this process, and return what `_measured` found of each."""
    results = []
    with meeting(role, address) as rendezvous:
        notes = rendezvous.store
        for k, asked in enumerate(sessions):
            rendezvous.store = dist.PrefixStore(f"case/{k}", notes)  # each session meets under a name of its own
            rendezvous._topics.clear()
            rendezvous.post()  # the others find this party under that name too
            results.append(_measured(rendezvous, own, shapes, asked))
    return results


def _measured(rendezvous: Rendezvous, own: Own, shapes: Shapes, asked: Gradients) -> dict[str, Any]:
    """Return, for each gradient, seconds since the start, bytes and rounds; the dealer knows bytes alone."""
    if rendezvous.role == DEALER:
        marks = deal(asked.engine, rendezvous, TIMEOUT)
        return {"bytes": [mark - marks[-asked.later - 2] for mark in marks[-asked.later - 1 :]]}
    session, events = open_session(asked.engine, rendezvous, TIMEOUT), []
    if asked.engine == "stock":  # CrypTen has one session a process, so it warms up in it
        compute(session, own, shapes, Gradients("stock"), lambda: None)
    start_together(rendezvous, "start")
    start, before = time.perf_counter(), session.meter.cost()
    session.prepare(lambda dry: compute(dry, {}, shapes, asked, lambda: None))
    g = compute(session, own, shapes, asked, lambda: events.append((time.perf_counter(), session.meter.cost())))
    session.close()
    return {
        "seconds": [moment - start for moment, _ in events],
        "bytes": [cost.bytes_sent - before.bytes_sent for _, cost in events],
        "rounds": [cost.rounds - before.rounds for _, cost in events],
        "gradient": g,
    }
