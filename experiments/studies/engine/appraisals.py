"""Whole appraisals by the fast engine, an earlier build of it, and stock CrypTen, without the model's fit.

Stock CrypTen appraises one candidate. For more candidates its private phase is multiplied, while its sharing, of which
a part happens once, is counted once.
"""

from __future__ import annotations

import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from experiments.harness.records import Row
from experiments.studies.engine.gradient import earlier_build, row
from mpc_appraisal import Spawn, appraise
from mpc_appraisal.appraisal.plan import Plan
from mpc_appraisal.appraisal.program import program
from mpc_appraisal.common.roles import MODEL_OWNER
from mpc_appraisal.data import Dataset, Digits, Mnist
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Appraiser, Facts, Finetuning, GradientNorm, Influence
from mpc_appraisal.mpc.backends.cost_model import rehearse

METHODS: dict[str, Appraiser] = {
    "influence": Influence(),
    "gradient_norm": GradientNorm(),
    "finetuning": Finetuning(steps=16, lr=0.3),
}
Datasets = tuple[Dataset, Dataset, list[Dataset]]  # train, test, candidates


def datasets_of(args: Namespace, mnist: bool) -> Datasets:
    size = args.size or (500 if args.small else None)
    source = Mnist() if mnist else Digits()
    train_size = min(600, 2 * size if size else 600) if mnist else 150
    test_size = size if args.small or args.size else None
    scenario = LabelNoise(train_size=train_size, candidates=2 if args.small else 10, size=size, test_size=test_size)
    built = scenario.build(*source.load(), 0)
    return built.train, built.test, [c.data.renamed(c.name) for c in built.candidates]


def run(datasets: Datasets, method: str, engine: str, count: int | None = None) -> list[float]:
    """Return the seconds of sharing and of computing, the bytes, the rounds of one, and the worst difference."""
    train, test, candidates = datasets
    result = appraise(candidates[:count], train=train, test=test, method=METHODS[method], session=Spawn(engine=engine))
    phases = [sum(r.seconds.get(phase, 0.0) for r in result) for phase in ("share", "private")]
    sent, worst = sum(sum(r.bytes_sent.values()) for r in result), max(abs(r.difference) for r in result)
    return [*phases, sent, max(r.rounds for r in result), worst]


def script_seconds(datasets: Datasets, method: str) -> float:
    """Return the seconds of the dry run that makes the dealer's script, which no phase of a record holds."""
    train, test, candidates = datasets
    plan = Plan((METHODS[method],), 1e-2, 0, "", fit=None)
    facts = {c.name: Facts(c.features, c.classes, train.rows, test.rows, c.rows, plan.l2) for c in candidates}
    start = time.perf_counter()
    rehearse(lambda dry: [r.cost for r in program(dry, plan, {}, {}, facts, 16.0, lambda e: None)], MODEL_OWNER)
    return time.perf_counter() - start


def measure(methods: Sequence[str], args: Namespace, mnist: bool, turns: int) -> list[Row]:
    """Measure each method by the engines that are asked for; the fast one before and after the others."""
    datasets, rows = datasets_of(args, mnist), []
    times = len(datasets[2])
    name = f"{times} candidates of {datasets[2][0].rows} rows of {'MNIST' if mnist else 'digits'}"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        build = earlier_build(args, Path(folder)) if methods else None
        for method in methods:
            work, runs, stock, earlier = f"{method}, {name}", [], None, None
            if "fast" in args.engines:
                runs.append(run(datasets, method, "fast"))
            if "stock" in args.engines:
                share, private, sent, rounds, worst = run(datasets, method, "stock", 1)
                stock = share + times * private
                label = f"{work}: x{times} extrapolated from one"
                rows.append(row("stock", label, (stock, times * sent, rounds), stock, worst, 1))
            if build:
                cost, worst = build.appraisal(method, args.small, args.size)
                earlier = cost[0]
                rows.append(row("baseline", work, cost, stock, worst, 1, earlier))
            if "fast" in args.engines:
                runs += [run(datasets, method, "fast")] if turns > 1 else []
                share, private, sent, rounds, worst = (median(column) for column in zip(*runs, strict=True))
                seconds = script_seconds(datasets, method) + share + private
                rows.append(row("fast", work, (seconds, sent, rounds), stock, worst, len(runs), earlier))
            print(f"{method}: done", file=sys.stderr, flush=True)
    return rows
