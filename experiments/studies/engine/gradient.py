"""One gradient by every engine, in turns: the case of `parties.py`.

X is (5940 x 784) and W (784 x 10), rows of MNIST if a folder of it is named. Each engine runs in new processes, the
engines in turn; seconds, and ratios turn by turn, are medians over the turns.

    single   a gradient from nothing: input, masks, script, products, softmax, opening; one was done before
    kept     a later gradient of the same X with other weights: what each of LATER more costs, dealer's work included
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch

from experiments.harness.parties import launch_parties
from experiments.harness.records import Row
from experiments.rivals.spu_rival import Spu
from experiments.studies.engine.parties import Case, Own, Shapes, party
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.data import Mnist
from mpc_appraisal.models.training import fit

LATER = 8
Cost = tuple[float, float, float]  # seconds, bytes of all parties, rounds


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


def turn(cases: list[Case], own: Own, shapes: Shapes) -> list[dict[str, dict]]:
    """Launch three processes once, and return what each party measured in each case."""
    held = {MODEL_OWNER: {"w": own["w"]}, DATA_OWNER: {"x": own["x"], "y": own["y"]}, DEALER: {}}
    found = launch_parties(party, {role: {"own": mine} for role, mine in held.items()}, shapes=shapes, cases=cases)
    return [{role: found[role][k] for role in found} for k in range(len(cases))]


def total(measured: dict[str, dict], at: int) -> Cost:
    """Return the cost up to the gradient `at`."""
    owners = [measured[MODEL_OWNER], measured[DATA_OWNER]]
    sent = sum(each["bytes"][at] for each in measured.values())
    return measured[MODEL_OWNER]["seconds"][at], sent, max(each["rounds"][at] for each in owners)


def each_of(parts: int, more: Cost, less: Cost) -> Cost:
    return tuple((a - b) / parts for a, b in zip(more, less, strict=True))


class Turns:
    """The costs by engine and work, turn after turn, and the largest error of each engine."""

    def __init__(self, own: Own, shapes: Shapes):
        self.own, self.shapes = own, shapes
        self.found: dict[tuple[str, str], list[Cost]] = {}
        self.errors = {"plaintext": error(reference(own, torch.float32).double(), own)}

    def add(self, engine: str, work: str, cost: Cost) -> None:
        self.found.setdefault((engine, work), []).append(cost)

    def fast(self) -> None:
        cases = [Case("fast"), Case("fast"), Case("fast", later=LATER), Case("fast", gradient=True)]
        _, single, later, opened = turn(cases, self.own, self.shapes)
        one = total(single, 0)
        self.add("fast", "single", one)
        self.add("fast", "kept", each_of(LATER, total(later, LATER), one))
        self.errors["fast"] = error(opened[MODEL_OWNER]["gradient"], self.own)

    def stock(self) -> None:
        (result,) = turn([Case("stock", later=1, gradient=True)], self.own, self.shapes)
        one = total(result, 0)
        self.add("stock", "single", one)
        self.add("stock", "kept", each_of(1, total(result, 1), one))
        self.errors["stock"] = error(result[MODEL_OWNER]["gradient"], self.own)

    def rows(self) -> list[Row]:
        """Return a row for each engine and work: medians over the turns."""
        rows = []
        for (engine, work), runs in self.found.items():
            seconds, sent, rounds = (median(column) for column in zip(*runs, strict=True))
            one = row(engine, f"gradient, {work}", (seconds, sent, rounds), None, self.errors[engine], len(runs))
            if stock := self.found.get(("stock", work)):  # turn by turn, because the machine's load changes
                one["ratio_to_stock"] = median(theirs[0] / ours[0] for theirs, ours in zip(stock, runs, strict=True))
            rows.append(one)
        return rows


def row(engine: str, work: str, cost: Sequence[float], stock: float | None, off: float | None, runs: int) -> Row:
    """Return one record. `stock` are the seconds of stock CrypTen for the same work."""
    seconds, sent, rounds = cost
    return {"engine": engine, "work": work, "seconds": seconds, "ratio_to_stock": stock / seconds if stock else None,
            "mb": sent / 1e6, "rounds": round(rounds), "error": off, "repeat": runs}  # fmt: skip


def measure(own: Own, shapes: Shapes, args: Namespace, count: int) -> list[Row]:
    """Measure `count` turns of the engines that are asked for."""
    turns = Turns(own, shapes)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rival = _spu(own, args, Path(folder))
        for k in range(count):
            for engine in args.engines:
                if engine != "spu":
                    getattr(turns, engine)()
            if rival:
                turns.add("spu", "kept", rival.run())
            turns.add("plaintext", "kept", (plaintext(own), 0, 0))
            print(f"gradient: turn {k + 1} of {count} done", file=sys.stderr, flush=True)
        if rival:
            g = rival.close()
            turns.errors["spu"] = None if g is None else error(torch.from_numpy(g.astype(np.float64)), own)
    return turns.rows()


def _spu(own: Own, args: Namespace, folder: Path) -> Spu | None:
    if "spu" not in args.engines:
        return None
    np.savez(folder / "inputs.npz", **{key: value.numpy() for key, value in own.items()})
    try:
        return Spu(args.spu_python, folder)
    except (ImportError, OSError) as reason:
        print(f"spu is left out: not installed for {Path(args.spu_python).name} ({reason})", flush=True)
        return None
