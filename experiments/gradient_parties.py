"""One softmax-regression gradient between three processes, timed in the model owner's.

X (n, d) and one-hot Y at the data owner, W (d, C) at the model owner; opened: the norm of G = X'(softmax(XW) - Y) / n.
A case is one session: a gradient from nothing (inputs, masks, the dealer's script, products, softmax, opening) and
`later` more of the same X with other weights. Its clock starts at a moment common to both owners, before the script is
made and with the dealer still idle, so no work is done ahead of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from bench_common import together

from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.methods import Facts, GradientNorm
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import Session

TIMEOUT = 300.0
METHOD = GradientNorm()

Own = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sizes:
    """Public: n, d, C and the bound on the logits."""

    rows: int
    features: int
    classes: int
    bound: float


@dataclass(frozen=True)
class Case:
    """One session. gradient: open G itself too, after the last timed moment."""

    engine: str
    later: int = 0
    gradient: bool = False


def weights(own: Own, k: int) -> torch.Tensor:
    """The k-th gradient's weights: other ones each time."""
    return own["w"] * (1.0 - 0.01 * k)


def gradients(session: Session, own: Own, sizes: Sizes, case: Case, opened: Callable[[], None]) -> torch.Tensor | None:
    """The joint computation; `opened` is called after each opening. Returns G where the case wants it."""
    n, d, classes = sizes.rows, sizes.features, sizes.classes
    facts = Facts(d - 1, classes, 0, 0, n, 0.0)
    session.bound_logits(sizes.bound)
    session.mark()
    x = session.input(DATA_OWNER, lambda: own["x"][:n], (n, d), "x")
    y = session.input(DATA_OWNER, lambda: own["y"][:n], (n, classes), "y")
    for k in range(case.later + 1):
        w = session.input(MODEL_OWNER, lambda k=k: weights(own, k), (d, classes), "w")
        session.reveal(METHOD.score({"weights": w}, x, y, facts), METHOD.opens, "benchmark")
        opened()
        session.mark()
        session.forget(w)
    g = None
    if case.gradient:
        w = session.input(MODEL_OWNER, lambda: weights(own, 0), (d, classes), "w")
        summed = (x.matmul(w).softmax(1) - y).t().matmul(x).t()
        g = session.reveal(summed, "gradient", "benchmark") / n
        session.forget(w)
    session.forget(x, y)
    return g


def party(role: str, address: str, emit: Any, folder: Path, own: Own, sizes: Sizes, cases: list[Case]) -> list[dict]:
    """All cases one after the other in this process. Returns for each what `_case` measured."""
    rendezvous = Rendezvous(role, address, 60.0, hosted=True)
    rendezvous.announce()
    notes, results = rendezvous.store, []
    for k, case in enumerate(cases):
        rendezvous.store = dist.PrefixStore(f"case/{k}", notes)  # each session meets under a name of its own
        rendezvous._topics.clear()
        rendezvous.post()  # under that name too, how the others reach this party
        results.append(_case(rendezvous, own, sizes, case))
    rendezvous.exchange("done", {})
    rendezvous.close()
    return results


def _case(rendezvous: Rendezvous, own: Own, sizes: Sizes, case: Case) -> dict[str, Any]:
    """By gradient: seconds since the start, bytes sent and rounds until then; G. The dealer's: bytes alone."""
    if rendezvous.role == DEALER:
        marks = deal(case.engine, rendezvous, TIMEOUT)
        return {"bytes": [mark - marks[-case.later - 2] for mark in marks[-case.later - 1 :]]}
    session, events = _open(rendezvous, case), []
    if case.engine == "stock":  # CrypTen has one session a process, so it warms up in it
        gradients(session, own, sizes, Case("stock"), lambda: None)
    together(rendezvous, "start")
    start, before = time.perf_counter(), session.meter.cost()
    session.prepare(lambda dry: gradients(dry, {}, sizes, case, lambda: None))
    g = gradients(session, own, sizes, case, lambda: events.append((time.perf_counter(), session.meter.cost())))
    session.close()
    return {
        "seconds": [moment - start for moment, _ in events],
        "bytes": [cost.bytes_sent - before.bytes_sent for _, cost in events],
        "rounds": [cost.rounds - before.rounds for _, cost in events],
        "gradient": g,
    }


def _open(rendezvous: Rendezvous, case: Case) -> Session:
    if case.engine == "stock":
        return open_session("stock", rendezvous, TIMEOUT)
    from mpc_appraisal.mpc.backends.fast import FastSession

    return FastSession(rendezvous, TIMEOUT)
