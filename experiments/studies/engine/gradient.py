"""One softmax-regression gradient, and one influence, by every engine, in turns, timed in the model owner's process.

X (n, d) and one-hot Y are the data owner's; W (d, C) and the direction V (d, C) are the model owner's. What is opened
is the norm of G = X'(softmax(XW) - Y) / n, or the influence, the sum of n G V. X is (5940 x 784) and W (784 x 10), rows
of MNIST if a folder of it is named. Each engine runs in new processes, the engines in turn; seconds, and ratios turn by
turn, are medians over the turns.

    single   a result from nothing: input, masks, script, products, softmax, opening; one was done before
    kept     a later result of the same X with other weights: what each of LATER more costs, dealer's work included

The clock starts at a moment that both owners share, before the script is made and while the dealer is still idle, so no
work is done ahead of it. `rivals.any_build` has the parties.
"""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from experiments.harness.records import Row
from experiments.rivals.earlier_build import Builds
from experiments.rivals.spu_rival import Spu
from experiments.studies.engine.costs import Measured, cost_of, in_turns, records
from mpc_appraisal.data import Mnist
from mpc_appraisal.models.training import fit

PART = "gradient"
METHODS = {"gradient": "GradientNorm", "influence": "Influence"}
Own = dict[str, torch.Tensor]


def inputs(rows: int, features: int, mnist: bool) -> tuple[Own, float, str]:
    """Return x, y, w and v, a bound on centred logits, and what they are: MNIST's, or random ones.

    The bound follows from norms, as a session derives it.
    """
    if mnist:
        train, _ = Mnist().load()
        model = fit(train.subset(range(600)), 1e-2)
        data = train.subset(range(600, 600 + rows))
        x, y, w = data.x, data.one_hot(), model.theta[:-1]
        centred = (w - w.mean(1, keepdim=True)).norm(dim=0).max()
        bound = float(x.to(torch.float64).norm(dim=1).max() * centred)
        return {"x": x, "y": y, "w": w, "v": direction(features)}, bound, "MNIST"
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(rows, features, generator=generator) * (torch.rand(rows, features, generator=generator) < 0.2)
    x = (255 * x).round() / 255  # eight bits, as pixels have
    y = torch.eye(10, dtype=torch.float64)[torch.randint(10, (rows,), generator=generator)]
    w = torch.randn(features, 10, generator=generator, dtype=torch.float64)
    w -= w.mean(1, keepdim=True)
    w *= 10.0 / (x.to(torch.float64) @ w).abs().max()
    return {"x": x, "y": y, "w": w, "v": direction(features)}, 10.5, "random"


def direction(features: int) -> torch.Tensor:
    """Return V (d, C), random numbers of deviation 0.1."""
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(features, 10, generator=generator, dtype=torch.float64)


def reference(own: Own, dtype: torch.dtype) -> torch.Tensor:
    """Compute G in the clear."""
    x, y, w = (own[key].to(dtype) for key in "xyw")
    return ((x @ w).softmax(1) - y).t().matmul(x).t() / len(x)


def plaintext(own: Own) -> tuple[float, float]:
    """Return seconds and CPU seconds of the gradient in float32 in this process; inputs are converted beforehand."""
    ready = {key: value.to(torch.float32) for key, value in own.items()}
    reference(ready, torch.float32)
    times = []
    for _ in range(5):
        start, used = time.perf_counter(), time.process_time()
        reference(ready, torch.float32).norm()
        times.append((time.perf_counter() - start, time.process_time() - used))
    return tuple(median(column) for column in zip(*times, strict=True))


def error(g: torch.Tensor | None, own: Own) -> float | None:
    """Return the largest error of an entry of G."""
    return None if g is None else float((g - reference(own, torch.float64)).abs().max())


def influence(own: Own) -> float:
    """Return the influence in the clear, in float64: the sum over rows of the loss's gradient times V."""
    return len(own["x"]) * float((reference(own, torch.float64) * own["v"]).sum())


def measure(own: Own, bound: float, args: Namespace, builds: Builds, folder: Path, count: int) -> list[Row]:
    """Measure `count` turns of the engines that are asked for."""
    file = folder / "own.npz"
    named = {"x": "x", "y": "y", "weights": "w", "direction": "v"}
    np.savez(file, **{name: own[key].numpy() for name, key in named.items()})
    rival = _spu(own, args, folder)

    def turn(k: int) -> list[Measured]:
        found = []
        for work, method in METHODS.items():
            left_out = ("stock",) if args.small and work == "influence" else ()
            for engine in [each for each in builds.engines if each not in left_out][:: (-1) ** k]:
                done = builds.do(engine, "single", inputs=str(file), method=method, bound=bound)
                off = _error(done, work, own)
                found += [Measured(engine, f"{work}, {kind}", k, done[kind], off) for kind in ("single", "kept")]
        found += _of_spu(rival, k)
        seconds, cpu = plaintext(own)
        off = error(reference(own, torch.float32).double(), own)
        found.append(Measured("plaintext", "gradient, kept", k, cost_of(seconds, {"everybody": cpu}), off))
        print(f"gradient: turn {k} of {count} done", file=sys.stderr, flush=True)
        return found

    rows = records(PART, in_turns(count, turn))
    if rival:
        g = rival.close()
        off = None if g is None else error(torch.from_numpy(g.astype(np.float64)), own)
        rows = [row | {"error": off} if row["engine"] == "spu" else row for row in rows]
    return rows


def _error(done: Row, work: str, own: Own) -> float:
    """Return the largest error of an entry of G, or of the influence a row."""
    if work == "gradient":
        return error(torch.tensor(done["opened"], dtype=torch.float64), own)
    return abs(done["score"] - influence(own)) / len(own["x"])


def _spu(own: Own, args: Namespace, folder: Path) -> Spu | None:
    if "spu" not in args.engines:
        return None
    np.savez(folder / "inputs.npz", **{key: value.numpy() for key, value in own.items()})
    try:
        return Spu(args.spu_python, folder)
    except (ImportError, OSError, subprocess.SubprocessError) as reason:
        print(f"spu is left out: not installed for {Path(args.spu_python).name} ({reason})", flush=True)
        return None


def _of_spu(rival: Spu | None, turn: int) -> list[Measured]:
    """Return what SPU measured in a turn. If it fails, the turn of the other engines stands."""
    if rival is None:
        return []
    try:
        return [Measured("spu", "gradient, kept", turn, rival.run())]
    except Exception as reason:
        print(f"turn {turn} has no spu: {reason}", file=sys.stderr, flush=True)
        return []
