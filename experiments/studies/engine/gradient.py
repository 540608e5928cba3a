"""One softmax-regression gradient by every engine, in turns, timed in the model owner's process.

X (n, d) and one-hot Y are the data owner's, W (d, C) is the model owner's; what is opened is the norm of
G = X'(softmax(XW) - Y) / n. X is (5940 x 784) and W (784 x 10), rows of MNIST if a folder of it is named. Each engine
runs in new processes, the engines in turn; seconds, and ratios turn by turn, are medians over the turns.

    single   a gradient from nothing: input, masks, script, products, softmax, opening; one was done before
    kept     a later gradient of the same X with other weights: what each of LATER more costs, dealer's work included

The clock starts at a moment that both owners share, before the script is made and while the dealer is still idle, so no
work is done ahead of it.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist

from experiments.harness.parties import TIMEOUT, launch_parties, meeting, start_together
from experiments.harness.records import Row
from experiments.rivals.earlier_build import EarlierBuild
from experiments.rivals.spu_rival import Spu
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.data import Mnist
from mpc_appraisal.methods import Facts, GradientNorm
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.registry import deal, open_session
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.session import Session

METHOD = GradientNorm()
Own = dict[str, torch.Tensor]
LATER = 8
GradientCost = tuple[float, float, float]  # seconds, bytes of all parties, rounds


# -- the parties ---------------------------------------------------------------------------------------------------
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
        session.evict(w)
    g = None
    if asked.opens:
        w = session.input(MODEL_OWNER, lambda: weights(own, 0), (d, classes), "w")
        summed = (x.matmul(w).softmax(1) - y).t().matmul(x).t()
        g = session.reveal(summed, "gradient", "benchmark") / n
        session.evict(w)
    session.evict(x, y)
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
            rendezvous.post_contact()  # the others find this party under that name too
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


# -- the turns -----------------------------------------------------------------------------------------------------
def inputs(rows: int, features: int, mnist: bool) -> tuple[Own, float, str]:
    """Return x, y and w, a bound on centred logits, and what they are: MNIST's, or random ones.

    The bound follows from norms, as a session derives it.
    """
    if mnist:
        train, _ = Mnist().load()
        model = fit(train.subset(range(600)), 1e-2)
        data = train.subset(range(600, 600 + rows))
        x, y, w = data.x, data.one_hot(), model.theta[:-1]
        centred = (w - w.mean(1, keepdim=True)).norm(dim=0).max()
        bound = float(x.to(torch.float64).norm(dim=1).max() * centred)
        return {"x": x, "y": y, "w": w}, bound, "MNIST"
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, features, generator=generator) * (torch.rand(rows, features, generator=generator) < 0.2)
    y = torch.eye(10, dtype=torch.float64)[torch.randint(10, (rows,), generator=generator)]
    w = torch.randn(features, 10, generator=generator, dtype=torch.float64)
    w -= w.mean(1, keepdim=True)
    w *= 10.0 / (x.to(torch.float64) @ w).abs().max()
    return {"x": x, "y": y, "w": w}, 10.5, "random"


def reference(own: Own, dtype: torch.dtype) -> torch.Tensor:
    """Compute G in the clear."""
    x, y, w = (own[key].to(dtype) for key in "xyw")
    return ((x @ w).softmax(1) - y).t().matmul(x).t() / len(x)


def plaintext(own: Own) -> float:
    """Return the seconds of the gradient in float32 in this process; inputs are converted beforehand."""
    ready = {key: value.to(torch.float32) for key, value in own.items()}
    reference(ready, torch.float32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        reference(ready, torch.float32).norm()
        times.append(time.perf_counter() - start)
    return median(times)


def error(g: torch.Tensor | None, own: Own) -> float | None:
    """Return the largest error of an entry of G."""
    return None if g is None else float((g - reference(own, torch.float64)).abs().max())


def turn(sessions: list[Gradients], own: Own, shapes: Shapes) -> list[dict[str, dict]]:
    """Launch three processes once, and return what each party measured in each session."""
    held = {MODEL_OWNER: {"w": own["w"]}, DATA_OWNER: {"x": own["x"], "y": own["y"]}, DEALER: {}}
    found = launch_parties(
        party, {role: {"own": mine} for role, mine in held.items()}, shapes=shapes, sessions=sessions
    )
    return [{role: found[role][k] for role in found} for k in range(len(sessions))]


def total(measured: dict[str, dict], at: int) -> GradientCost:
    """Return the cost up to the gradient `at`."""
    owners = [measured[MODEL_OWNER], measured[DATA_OWNER]]
    sent = sum(each["bytes"][at] for each in measured.values())
    return measured[MODEL_OWNER]["seconds"][at], sent, max(each["rounds"][at] for each in owners)


def each_of(parts: int, more: GradientCost, less: GradientCost) -> GradientCost:
    return tuple((a - b) / parts for a, b in zip(more, less, strict=True))


def fast(own: Own, shapes: Shapes) -> tuple[dict[str, GradientCost], float | None]:
    """Return the costs by work, and the largest error."""
    sessions = [Gradients("fast"), Gradients("fast"), Gradients("fast", later=LATER), Gradients("fast", opens=True)]
    _, single, later, opened = turn(sessions, own, shapes)
    one = total(single, 0)
    costs = {"single": one, "kept": each_of(LATER, total(later, LATER), one)}
    return costs, error(opened[MODEL_OWNER]["gradient"], own)


def stock(own: Own, shapes: Shapes) -> tuple[dict[str, GradientCost], float | None]:
    (result,) = turn([Gradients("stock", later=1, opens=True)], own, shapes)
    one = total(result, 0)
    return {"single": one, "kept": each_of(1, total(result, 1), one)}, error(result[MODEL_OWNER]["gradient"], own)


def row(
    engine: str,
    work: str,
    cost: Sequence[float],
    stock: float | None,
    off: float | None,
    runs: int,
    earlier: float | None = None,
) -> Row:
    """Return one record. `stock` and `earlier` are the seconds of stock CrypTen and of the earlier build for the work.

    `ratio_to_stock` is how many times as fast as stock the engine is; `ratio_to_baseline` is its seconds over those of
    the earlier build.
    """
    seconds, sent, rounds = cost
    return {"engine": engine, "work": work, "seconds": seconds, "ratio_to_stock": stock / seconds if stock else None,
            "ratio_to_baseline": seconds / earlier if earlier else None,
            "mb": sent / 1e6, "rounds": round(rounds), "error": off, "repeat": runs}  # fmt: skip


def medians(costs: Sequence[Row], errors: dict[str, float | None]) -> list[Row]:
    """Return a record for each engine and work: medians over the turns, of ratios to others too, turn by turn.

    They are taken turn by turn because the machine's load changes.
    """
    found = pd.DataFrame(costs)
    for other in ("stock", "baseline"):
        theirs = found[found.engine == other][["work", "turn", "seconds"]]
        found = found.merge(theirs, how="left", on=["work", "turn"], suffixes=("", f"_of_{other}"))
    found["to_stock"] = found.seconds_of_stock / found.seconds
    found["to_baseline"] = found.seconds / found.seconds_of_baseline
    by = found.groupby(["engine", "work"], sort=False)
    rows, turns = [], costs[-1]["turn"]
    columns = ["seconds", "sent", "rounds", "to_stock", "to_baseline"]
    for (engine, work), (*cost, speed, share) in by[columns].median().iterrows():
        one = row(engine, f"gradient, {work}", cost, None, errors[engine], turns)
        ratios = {"ratio_to_stock": speed, "ratio_to_baseline": share}
        rows.append(one | {key: None if math.isnan(ratio) else ratio for key, ratio in ratios.items()})
    return rows


def measure(own: Own, shapes: Shapes, args: Namespace, count: int) -> list[Row]:
    """Measure `count` turns of the engines that are asked for."""
    costs, errors = [], {"plaintext": error(reference(own, torch.float32).double(), own)}

    def add(engine: str, turn: int, by_work: dict[str, GradientCost]) -> None:
        for work, cost in by_work.items():
            named = dict(zip(("seconds", "sent", "rounds"), cost, strict=True))
            costs.append({"engine": engine, "work": work, "turn": turn} | named)

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rival, earlier = _spu(own, args, Path(folder)), earlier_build(args, Path(folder))
        for k in range(1, count + 1):
            for engine, measured in (("fast", fast), ("stock", stock)):
                if engine in args.engines:
                    by_work, errors[engine] = measured(own, shapes)
                    add(engine, k, by_work)
            if earlier:
                by_work, errors["baseline"] = earlier.gradient(shapes.rows, shapes.features, shapes.bound)
                add("baseline", k, by_work)
            if rival:
                add("spu", k, {"kept": rival.run()})
            add("plaintext", k, {"kept": (plaintext(own), 0, 0)})
            print(f"gradient: turn {k} of {count} done", file=sys.stderr, flush=True)
        if rival:
            g = rival.close()
            errors["spu"] = None if g is None else error(torch.from_numpy(g.astype(np.float64)), own)
    return medians(costs, errors)


def earlier_build(args: Namespace, folder: Path) -> EarlierBuild | None:
    """Return the earlier build in `folder`; None if it is not asked for, or not in the history of this checkout."""
    if "baseline" not in args.engines:
        return None
    try:
        return EarlierBuild(folder)
    except ImportError as reason:
        print(f"the earlier build is left out: {reason}", flush=True)
        return None


def _spu(own: Own, args: Namespace, folder: Path) -> Spu | None:
    if "spu" not in args.engines:
        return None
    np.savez(folder / "inputs.npz", **{key: value.numpy() for key, value in own.items()})
    try:
        return Spu(args.spu_python, folder)
    except (ImportError, OSError) as reason:
        print(f"spu is left out: not installed for {Path(args.spu_python).name} ({reason})", flush=True)
        return None
