"""All engines side by side: one gradient, then whole appraisals.

    python experiments/bench_engine.py --out DIR [--small] [--repeat 3] [--engines fast,stock,spu]

The gradient is that of `gradient_parties`: X (5940 x 784), W (784 x 10), rows of MNIST where MPC_APPRAISAL_DATA names
its folder. Each engine runs in three new processes (SPU: two), engines in turn; seconds, and ratios turn by turn, are
medians over `--repeat` turns.

    single   a gradient from nothing: input, masks, script, products, softmax, opening; one was done before
    kept     a later gradient of the same X with other weights: what each of LATER more costs, dealer's work included

Whole appraisals count what the parties do together (the dealer's script, sharing and computing), not the model's fit.
Stock CrypTen appraises one candidate; for more, its private phase is multiplied, while its sharing, of which a part
happens once, is counted once. Writes DIR/engine.jsonl, and from it alone DIR/engine.md, engine.html and figures;
`--render-only` measures nothing and writes these again.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from bench_common import about, write_lines
from bench_page import Row, show
from engine_page import render
from gradient_parties import Case, Sizes, party
from spu_rival import Spu

from mpc_appraisal import Spawn, appraise
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER
from mpc_appraisal.data import Dataset, Digits, Mnist
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Appraiser, Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.backends.cost_model import rehearse
from mpc_appraisal.mpc.net.launch import launch

LATER = 8
METHODS: dict[str, Appraiser] = {
    "influence": Influence(),
    "gradient_norm": GradientNorm(),
    "finetuning": Finetuning(steps=16, lr=0.3),
}


def inputs(rows: int, features: int, mnist: bool) -> tuple[dict[str, torch.Tensor], float, str]:
    """x, y, w and a bound on centred logits, from norms as a session derives it; MNIST's, or random ones."""
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


def reference(own: dict[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    x, y, w = (own[key].to(dtype) for key in "xyw")
    return ((x @ w).softmax(1) - y).t().matmul(x).t() / len(x)


def plaintext(own: dict[str, torch.Tensor]) -> float:
    """Seconds of the gradient in float32 in this process; inputs are converted beforehand."""
    ready = {key: value.to(torch.float32) for key, value in own.items()}
    reference(ready, torch.float32)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        reference(ready, torch.float32).norm()
        times.append(time.perf_counter() - start)
    return median(times)


def turn(cases: list[Case], own: dict[str, torch.Tensor], sizes: Sizes) -> list[dict[str, dict]]:
    """One launch of three processes; what each party measured, for each case."""
    held = {MODEL_OWNER: {"w": own["w"]}, DATA_OWNER: {"x": own["x"], "y": own["y"]}, DEALER: {}}
    jobs = {role: {"own": mine, "sizes": sizes, "cases": cases} for role, mine in held.items()}
    found = launch(party, jobs, lambda event: None)
    return [{role: found[role][k] for role in found} for k in range(len(cases))]


def totals(measured: dict[str, dict], at: int) -> tuple[float, int, int]:
    """Seconds, bytes of all parties and rounds up to the gradient `at`."""
    owners = [measured[MODEL_OWNER], measured[DATA_OWNER]]
    sent = sum(each["bytes"][at] for each in measured.values())
    return measured[MODEL_OWNER]["seconds"][at], sent, max(each["rounds"][at] for each in owners)


def difference(more: tuple, less: tuple, parts: int) -> tuple:
    return tuple((a - b) / parts for a, b in zip(more, less, strict=True))


def fast_turn(own: dict[str, torch.Tensor], sizes: Sizes, found: dict, worst: dict) -> None:
    cases = [Case("fast"), Case("fast"), Case("fast", later=LATER), Case("fast", gradient=True)]
    _, single, later, opened = turn(cases, own, sizes)
    one = totals(single, 0)
    found.setdefault(("fast", "single"), []).append(one)
    found.setdefault(("fast", "kept"), []).append(difference(totals(later, LATER), one, LATER))
    worst["fast"] = error(opened[MODEL_OWNER]["gradient"], own)


def stock_turn(own: dict[str, torch.Tensor], sizes: Sizes, found: dict, worst: dict) -> None:
    (result,) = turn([Case("stock", later=1, gradient=True)], own, sizes)
    one = totals(result, 0)
    found.setdefault(("stock", "single"), []).append(one)
    found.setdefault(("stock", "kept"), []).append(difference(totals(result, 1), one, 1))
    worst["stock"] = error(result[MODEL_OWNER]["gradient"], own)


def error(g: torch.Tensor | None, own: dict[str, torch.Tensor]) -> float | None:
    return None if g is None else float((g - reference(own, torch.float64)).abs().max())


def gradient_rows(own: dict[str, torch.Tensor], sizes: Sizes, args: argparse.Namespace, folder: Path) -> list[Row]:
    found: dict[tuple[str, str], list[tuple]] = {}
    worst: dict[str, float | None] = {"plaintext": error(reference(own, torch.float32).double(), own)}
    rival = _spu(own, args, folder)
    turns = {"fast": fast_turn, "stock": stock_turn}
    for k in range(args.repeat):
        for engine in (e for e in args.engines if e in turns):
            turns[engine](own, sizes, found, worst)
        if rival:
            found.setdefault(("spu", "kept"), []).append(rival.run())
        found.setdefault(("plaintext", "kept"), []).append((plaintext(own), 0, 0))
        print(f"gradient: turn {k + 1} of {args.repeat} done", file=sys.stderr, flush=True)
    if rival:
        g = rival.close()
        worst["spu"] = None if g is None else error(torch.from_numpy(g.astype(np.float64)), own)
    rows = []
    for (engine, work), runs in found.items():
        seconds, sent, rounds = (median(column) for column in zip(*runs, strict=True))
        one = row(engine, f"gradient, {work}", seconds, None, sent, rounds, worst[engine], len(runs))
        if stock := found.get(("stock", work)):  # turn by turn: what else the machine does changes from turn to turn
            one["ratio_to_stock"] = median(theirs[0] / ours[0] for theirs, ours in zip(stock, runs, strict=True))
        rows.append(one)
    return rows


def row(engine: str, work: str, seconds: float, stock: float | None, sent: float, rounds: float, off, runs: int) -> Row:
    ratio = stock / seconds if stock else None
    return {"engine": engine, "work": work, "seconds": seconds, "ratio_to_stock": ratio, "mb": sent / 1e6,
            "rounds": round(rounds), "error": off, "repeat": runs}  # fmt: skip


def _spu(own: dict[str, torch.Tensor], args: argparse.Namespace, folder: Path) -> Spu | None:
    if "spu" not in args.engines:
        return None
    np.savez(folder / "inputs.npz", **{key: value.numpy() for key, value in own.items()})
    try:
        return Spu(args.spu_python, folder)
    except (ImportError, OSError) as reason:
        print(f"spu is left out: not installed for {Path(args.spu_python).name} ({reason})", flush=True)
        return None


def market(args: argparse.Namespace, mnist: bool) -> tuple[Dataset, Dataset, list[Dataset]]:
    size = args.size or (500 if args.small else None)
    source = Mnist() if mnist else Digits()
    count = 2 if args.small else 10
    train_size = min(600, 2 * size if size else 600) if mnist else 150
    test_size = size if args.small or args.size else None
    built = LabelNoise(train_size=train_size, candidates=count, size=size, test_size=test_size).build(*source.load(), 0)
    return built.train, built.test, [c.data.renamed(c.name) for c in built.candidates]


def appraisal_rows(args: argparse.Namespace, mnist: bool) -> list[Row]:
    train, test, candidates = market(args, mnist)
    name = f"{len(candidates)} candidates of {candidates[0].rows} rows of {'MNIST' if mnist else 'digits'}"

    def run(engine: str, sets: list[Dataset]) -> list[float]:
        """Seconds of sharing and of computing, bytes, rounds of one, worst difference from plaintext."""
        result = appraise(sets, train=train, test=test, method=METHODS[method], session=Spawn(engine=engine))
        phases = [sum(r.seconds.get(phase, 0.0) for r in result) for phase in ("share", "private")]
        sent, worst = sum(sum(r.bytes_sent.values()) for r in result), max(abs(r.difference) for r in result)
        return [*phases, sent, max(r.rounds for r in result), worst]

    def script() -> float:
        """Seconds of the dry run that makes the dealer's script; no phase of a record holds it."""
        plan = Plan((METHODS[method],), 1e-2, 0, "", fit=None)
        facts = {c.name: Facts(c.features, c.classes, train.rows, test.rows, c.rows, plan.l2) for c in candidates}
        start = time.perf_counter()
        rehearse(lambda dry: [r.cost for r in program(dry, plan, {}, {}, facts, 16.0, lambda e: None)], MODEL_OWNER)
        return time.perf_counter() - start

    rows = []
    for method in args.appraisals:
        work, runs, stock = f"{method}, {name}", [], None
        if "fast" in args.engines:
            runs.append(run("fast", candidates))
        if "stock" in args.engines:
            share, private, sent, rounds, worst = run("stock", candidates[:1])
            times = len(candidates)
            stock = share + times * private
            label = f"{work}: x{times} extrapolated from one"
            rows.append(row("stock", label, stock, stock, times * sent, rounds, worst, 1))
        if "fast" in args.engines:
            runs += [run("fast", candidates)] if args.repeat > 1 else []  # before and after the other
            share, private, sent, rounds, worst = (median(column) for column in zip(*runs, strict=True))
            rows.append(row("fast", work, script() + share + private, stock, sent, rounds, worst, len(runs)))
        print(f"{method}: done", file=sys.stderr, flush=True)
    return rows


def arguments(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for engine.jsonl and the report")
    parser.add_argument("--render-only", action="store_true", help="the report of an earlier run's engine.jsonl")
    parser.add_argument("--small", action="store_true", help="two candidates of 500 rows in the whole appraisals")
    parser.add_argument("--repeat", type=int, default=3, help="turns of the gradient; medians are over these")
    parser.add_argument("--engines", default="fast,stock,spu", help="some of fast, stock, spu")
    parser.add_argument("--spu-python", default=sys.executable, help="the interpreter that has spu, if another one")
    parser.add_argument("--appraisals", default=",".join(METHODS), help="some of the methods, or nothing")
    parser.add_argument("--bound", type=float, help="on centred logits, stated; default: from norms")
    parser.add_argument("--rows", type=int, default=5940, help="of X in the gradient")
    parser.add_argument("--features", type=int, default=784, help="of X where it is random")
    parser.add_argument("--size", type=int, help="rows of a candidate in the whole appraisals")
    args = parser.parse_args(argv)
    args.engines = [name for name in args.engines.split(",") if name]
    args.appraisals = [name for name in args.appraisals.split(",") if name]
    for name, given, known in (
        ("--engines", args.engines, ("fast", "stock", "spu")),
        ("--appraisals", args.appraisals, tuple(METHODS)),
    ):
        if strange := [each for each in given if each not in known]:
            parser.error(f"{name}: got {', '.join(strange)}; expected some of {', '.join(known)}")
    if args.repeat < 1:
        parser.error(f"--repeat: got {args.repeat}; expected 1 or more")
    return parser, args


def measure(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[Row]:
    """All that is asked for; each record says where, how and of which input."""
    torch.set_num_threads(1)
    mnist = bool(os.environ.get("MPC_APPRAISAL_DATA"))
    own, bound, kind = inputs(args.rows, args.features, mnist and args.features == 784)
    sizes = Sizes(*own["x"].shape, own["w"].shape[1], args.bound or math.ceil(bound * 4) / 4)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        rows = gradient_rows(own, sizes, args, Path(folder))
    rows += appraisal_rows(args, mnist)
    logits = own["x"].double() @ own["w"]
    given = {
        "data": kind,
        "rows": sizes.rows,
        "features": sizes.features,
        "classes": sizes.classes,
        "bound": sizes.bound,
        "largest_logit": float((logits - logits.mean(1, keepdim=True)).abs().max()),
        "largest_gradient": float(reference(own, torch.float64).abs().max()),
    }
    made = {"input": given, **about("bench_engine.py", parser, args, mnist)}
    return [each | made for each in rows]


def main(argv: Sequence[str] | None = None) -> None:
    parser, args = arguments(argv)
    if not args.render_only:
        write_lines(args.out / "engine.jsonl", measure(parser, args))
    page = render(args.out)
    show([*page.main, *page.details])


if __name__ == "__main__":
    main()
