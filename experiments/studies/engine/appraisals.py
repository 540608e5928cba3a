"""Whole appraisals by the fast engine, an earlier build of it, and stock CrypTen, without the model's fit.

    appraisals   all candidates by each of the three methods, beside stock CrypTen
    tuning       one candidate by fine-tuning, and by fine-tuning of a perceptron, which trains on the most rows
    million      one candidate of a million rows by influence, read from a file block by block

The engines take turns. Seconds are those of the dry run and of the joint computation at the model owner. Stock CrypTen
appraises one candidate, once; for more candidates its computing is multiplied, while its sharing, of which a part
happens once, is counted once.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.records import Row
from experiments.rivals.earlier_build import BASELINE, Builds
from experiments.studies.engine.costs import Cost, Measured, in_turns, records
from experiments.studies.engine.rows import KNOWN, blocks_of, write_candidate
from mpc_appraisal.data import Dataset, Digits, Mnist
from mpc_appraisal.data.scenarios import LabelNoise

METHODS = {
    "influence": {"of": "Influence"},
    "gradient_norm": {"of": "GradientNorm"},
    "finetuning": {"of": "Finetuning", "steps": 16, "lr": 0.3},
}
TUNING = {
    "finetuning": {"of": "Finetuning", "steps": 16, "lr": 0.1},
    "mlp_finetuning": {"of": "MlpFinetuning", "steps": 4},
}
SMALL_STEPS = 2
L2, TUNING_L2 = 1e-2, 3e-3
MILLION, SMALL_MILLION = 1_000_000, 33_000  # more rows than are held at once, so that they stream
Datasets = tuple[Dataset, Dataset, list[Dataset]]  # train, test, candidates


@dataclass(frozen=True)
class Market:
    """Label-noised candidates: the settings of LabelNoise, and how many candidates are appraised."""

    mnist: bool
    settings: dict[str, Any]
    count: int

    @property
    def stated(self) -> dict[str, Any]:
        """Return what `any_build.appraisal` takes."""
        return {"data": "Mnist" if self.mnist else "Digits", **self.settings}

    def build(self) -> Datasets:
        """Return the data sets."""
        source = Mnist() if self.mnist else Digits()
        built = LabelNoise(**self.settings).build(*source.load(), 0)
        return built.train, built.test, [c.data.renamed(c.name) for c in built.candidates[: self.count]]

    def words(self) -> str:
        """Return, in words, what is appraised."""
        rows = self.build()[2][0].rows
        return f"{self.count} candidate{'s' * (self.count > 1)} of {rows} rows of {'MNIST' if self.mnist else 'digits'}"


def market_of(args: Namespace, mnist: bool) -> Market:
    size = args.size or (500 if args.small else None)
    train_size = min(600, 2 * size if size else 600) if mnist else 150
    test_size = size if args.small or args.size else None
    count = 2 if args.small else 10
    settings = {"train_size": train_size, "candidates": count, "size": size, "test_size": test_size}
    return Market(mnist, settings, count)


def tuning_market(args: Namespace, mnist: bool) -> Market:
    """Return the market of the paper's study with one candidate: 2,000 test rows, and all rows of a candidate."""
    market = market_of(args, mnist)
    return replace(market, count=1) if args.small or args.size else Market(
        mnist, {"train_size": 600 if mnist else 150, "candidates": 10, "test_size": 2000 if mnist else None}, 1
    )  # fmt: skip


def datasets_of(args: Namespace, mnist: bool) -> Datasets:
    return market_of(args, mnist).build()


def measure(args: Namespace, mnist: bool, builds: Builds, turns: int) -> list[Row]:
    """Measure each method that is asked for, on all candidates."""
    market, rows = market_of(args, mnist), []
    of = market.words()
    for method in args.methods or (("influence",) if args.small else METHODS):
        work = f"{method}, {of}"

        def turn(k: int, method: str = method, work: str = work) -> list[Measured]:
            found = []
            for engine in [each for each in builds.engines if k == 1 or each != "stock"][:: (-1) ** k]:
                count = 1 if engine == "stock" else market.count
                given = {"method": METHODS[method], "market": market.stated, "count": count, "l2": L2}
                done = builds.do(engine, "appraisal", **given)
                cost = extrapolated(done, market.count) if engine == "stock" else done
                found.append(Measured(engine, work, k, cost, done["difference"]))
            print(f"{method}: turn {k} of {turns} done", file=sys.stderr, flush=True)
            return found

        found = in_turns(turns, turn)
        label = f"{work}: x{market.count} extrapolated from one"
        rows += [row | {"work": label} if row["engine"] == "stock" else row for row in records("appraisals", found)]
    return rows


def extrapolated(one: Cost, times: int) -> Cost:
    """Return the cost of so many candidates, from that of one: computing is multiplied, sharing counted once."""
    cpu = {party: times * seconds for party, seconds in one["cpu_seconds"].items()}
    seconds = one["phases"]["share"] + times * one["phases"]["private"]
    return dict(one) | {"seconds": seconds, "bytes": times * one["bytes"], "cpu_seconds": cpu}


def own_engines(builds: Builds) -> list[str]:
    """Return today's engine and the earlier build's; the others are not measured in the longer works."""
    return [engine for engine in builds.engines if engine in ("fast", BASELINE)]


def measure_tuning(args: Namespace, mnist: bool, builds: Builds, turns: int) -> list[Row]:
    """Measure one candidate by each of TUNING."""
    market = tuning_market(args, mnist)
    of = market.words()

    def turn(k: int) -> list[Measured]:
        found = []
        for name, method in TUNING.items():
            for engine in own_engines(builds)[:: (-1) ** k]:
                settings = method | ({"steps": SMALL_STEPS} if args.small else {})
                given = {"method": settings, "market": market.stated, "count": 1, "l2": TUNING_L2}
                done = builds.do(engine, "appraisal", **given)
                work = f"{name}, {settings['steps']} steps, {of}"
                found.append(Measured(engine, work, k, done, done["difference"]))
        print(f"tuning: turn {k} of {turns} done", file=sys.stderr, flush=True)
        return found

    return records("tuning", in_turns(turns, turn))


def measure_million(args: Namespace, builds: Builds, folder: Path, turns: int) -> list[Row]:
    """Measure one candidate of a million rows, which each build reads from the same file. The error is unknown."""
    count = SMALL_MILLION if args.small else MILLION
    file, known = folder / "candidate.npz", folder / "known.npz"
    write_candidate(file, (count, args.features, args.classes))
    parts = {"train": 1, "test": 2}
    own = {name: next(blocks_of((KNOWN, args.features, args.classes), seed)) for name, seed in parts.items()}
    np.savez(known, **{f"{name}_{key}": own[name][k].numpy() for name in own for k, key in enumerate("xy")})

    def turn(k: int) -> list[Measured]:
        found = []
        for engine in own_engines(builds)[:: (-1) ** k]:
            done = builds.do(engine, "rows", file=str(file), known=str(known), classes=args.classes)
            found.append(Measured(engine, f"influence, 1 candidate of {count} rows, random", k, done))
        print(f"million: turn {k} of {turns} done", file=sys.stderr, flush=True)
        return found

    try:
        return records("million", in_turns(turns, turn))
    finally:
        file.unlink()
