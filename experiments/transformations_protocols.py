"""What every protocol of the project costs, against what its best attack here recovers.

    cost = seconds of the protocol / seconds of the same operation in the clear
    above chance = (recovered - chance) / (1 - chance)

In the clear, the engine, CrypTen as shipped and RTAS are measured here: one candidate, appraised by the installed app;
seconds are those of sharing and of the private phase, in the clear those of the same formula. Others are taken from
other records: RTAS-fast and float shares from part "table", InstaHide from its training, `ife_transform` and
`ife_shares` from the marketplace's. Attacks are those of parts "attack" and "instahide", and of the marketplace.

Rows, all of part "protocol". kind "appraisal": turn, protocol, method, n, features, seconds, mb, rounds. kind "market":
protocol, operation, seconds and plain (lists), mb, and what its attack recovers, as in part "attack".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from marketplace_cost import NETWORKS
from marketplace_cost_page import FORWARD, SHARES, TRANSFORM
from paper_sweep import APP
from transformations_generators import recovered
from transformations_picture import drawings
from transformations_protocols_page import tables
from transformations_size import Job, Row, Size

from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import with_bias
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, GradientNorm, Influence
from mpc_appraisal.models.networks import initial
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.record import read

__all__ = ["drawings", "jobs", "measure", "tables"]

ENGINES = ("fast", "stock", "rtas")
MARKET = Path(__file__).resolve().parents[1] / "results" / "marketplace" / "marketplace.jsonl"
NETWORK = "cnn6"  # of the marketplace's cost rows: the one that both protocols have
REPEATS = 5


def jobs(size: Size) -> list[Job]:
    """A job a turn, in which engines and plaintext take turns; and the marketplace's rows, as they are now."""
    found = [Job(f"protocol-turn{turn}", appraisals, (size, turn)) for turn in range(size.turns)]
    return [*found, Job("protocol-generators", generators, ()), Job("protocol-market", market, (_stamp(MARKET),))]


def measure(size: Size, work: Path) -> list[Row]:
    """Rows of all jobs. Raises AppraisalError, in the app's words, where it fails."""
    return [row for job in jobs(size) for row in job.run(*job.arguments, work)]


def _stamp(path: Path) -> int:
    """Bytes of the file, 0 where there is none: a longer one is read again."""
    return path.stat().st_size if path.is_file() else 0


# -- one candidate -------------------------------------------------------------------------------------------------
def appraisals(size: Size, turn: int, work: Path) -> list[Row]:
    place = work / f"appraisals-{size.name}-{turn}"
    shutil.rmtree(place, ignore_errors=True)
    command = [
        str(APP), "--multirun", f"session.engine={','.join(ENGINES)}", "appraisal=all", "~appraisal.finetuning",
        f"seed={turn}", *size.overrides, "scenario.candidates=1", "party.preflight=no", "baselines.true_utility=false",
        f"hydra.sweep.dir={place}", "hydra.sweep.subdir=${session.engine}",
    ]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        raise AppraisalError(f"appraisals, turn {turn}: {(done.stderr.strip() or 'no words').splitlines()[-1]}")
    found = in_the_clear(size, turn)
    for engine in ENGINES:
        for record in read(place / engine / "records.jsonl"):
            seconds = record.seconds["share"] + record.seconds["private"]
            found.append(_appraised(turn, engine, record.method, record.n, record.features, seconds)
                         | {"mb": record.megabytes, "rounds": record.rounds})  # fmt: skip
    return found


def in_the_clear(size: Size, turn: int) -> list[Row]:
    """The formula that the engines compute on shares, on plain tensors; what the owner does before is in neither."""
    torch.set_num_threads(1)
    train, test = size.source.load()
    market = LabelNoise(candidates=1, train_size=size.own, size=size.rows, test_size=size.tested).build(
        train, test, turn
    )
    model, (candidate,) = fit(market.train, size.l2), market.candidates
    data, found = candidate.data, []
    x, y = with_bias(data.x.to(torch.float64)), data.one_hot()
    facts = Facts.of(model, market.train, market.test, data)
    for method in (GradientNorm(), Influence()):
        owned, seconds = method.prepare(model, market.train, market.test), []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            method.score(owned, x, y, facts)
            seconds.append(time.perf_counter() - start)
        found.append(_appraised(turn, "plain", method.name, data.rows, data.features, median(seconds[1:])))
    return found


def _appraised(turn: int, protocol: str, method: str, n: int, features: int, seconds: float) -> Row:
    row = {"part": "protocol", "kind": "appraisal", "turn": turn, "protocol": protocol, "method": method, "n": n}
    return row | {"features": features, "seconds": seconds, "mb": 0.0, "rounds": 0}


def generators(_work: Path) -> list[Row]:
    """What a data owner that follows the protocol recovers of the model owner's matrix, from generators alone."""
    return [
        {
            "part": "protocol", "kind": "generator", "protocol": engine, "seconds": None, "mb": None,
            "attack": "its generators", "setting": "both owners honest", "recovered": recovered(engine), "chance": 0.0,
            "meaning": "share of the model owner's matrix that the data owner recovers from masks",
        }
        for engine in ("fast", "stock")
    ]  # fmt: skip


# -- the marketplace's records -------------------------------------------------------------------------------------
def market(_stamp: int, _work: Path, path: Path = MARKET) -> list[Row]:
    """Rows of `ife_transform` and `ife_shares`, as far as the marketplace has measured them."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = []
    for name, system in (("ife_transform", TRANSFORM), ("ife_shares", SHARES)):
        costs = [r for r in rows if r["part"] == "cost" and (r["network"], r["operation"], r["system"]) ==
                 (NETWORK, FORWARD, system)]  # fmt: skip
        leaks = [r for r in rows if r["part"] == "leak" and r.get("kind") == "pixels" and r["strategy"] == name]
        if not costs or not leaks:
            continue
        cost, leak = max(costs, key=lambda r: r["images"]), max(leaks, key=lambda r: r["whole"])
        found.append({
            "part": "protocol", "kind": "market", "protocol": name,
            "operation": f"prediction of {cost['images']:,} MNIST images by {NETWORK}", "seconds": cost["seconds"],
            "plain": forward(cost["images"]), "mb": None if cost["bytes"] is None else cost["bytes"] / 1e6,
            "attack": "pixels from products", "setting": leak["setting"],
            "recovered": leak["whole"], "chance": 0.0, "meaning": "share of sellers' images recovered whole",
        })  # fmt: skip
    return found


def forward(images: int) -> Sequence[float]:
    """Seconds of the network in the clear, float64 as in the protocols."""
    torch.set_num_threads(1)
    network = initial(NETWORKS[NETWORK], 0, torch.float64)
    x, seconds = torch.zeros(images, 784, dtype=torch.float64), []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        network.logits(x)
        seconds.append(round(time.perf_counter() - start, 7))
    return seconds[1:]
