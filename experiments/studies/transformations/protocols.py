"""What every protocol of the project costs, against what its best attack here recovers.

    cost = seconds of the protocol / seconds of the same operation in the clear
    above chance = (recovered - chance) / (1 - chance)

In the clear, the engine, CrypTen as shipped and RTAS are measured here: one candidate, appraised by the installed app;
seconds are those of sharing and of the private phase, in the clear those of the same formula. Others are taken from
other records: RTAS-fast and float shares from the part "table", InstaHide from its training, `ife_transform` and
`ife_shares` from the marketplace's. Attacks are those of the parts "attack" and "instahide", and of the marketplace.

All rows are of the part "protocol". Kind "appraisal": turn, protocol, method, n, features, seconds, mb, rounds. Kind
"market": protocol, operation, seconds and plain (lists), mb, and what its attack recovers, as in the part "attack".
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch

from experiments.harness.jobs import Job
from experiments.harness.records import Row
from experiments.harness.run import ROOT
from experiments.harness.size import source_of
from experiments.studies.appraisal import sweeps
from experiments.studies.marketplace.cost import FORWARD, SHARES, TRANSFORM, network_of
from experiments.studies.transformations import generators
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import with_bias
from mpc_appraisal.data.scenarios import LabelNoise
from mpc_appraisal.methods import Facts, GradientNorm, Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.reporting.record import Record, read

KEYS = {"kind", "protocol", "seconds", "mb"}
ENGINES = ("fast", "stock", "rtas")
MARKET = ROOT / "results" / "marketplace" / "marketplace.jsonl"
NETWORK = "cnn6"  # of the marketplace's cost rows: the one that both protocols have
REPEATS = 5


def jobs(size: SimpleNamespace, turns: int) -> list[Job]:
    """Return a job a turn, in which engines and plaintext take turns; and the marketplace's rows, as they are now."""
    found = [Job(f"protocol-turn{turn}", appraisals, (size, turn)) for turn in range(turns)]
    length = MARKET.stat().st_size if MARKET.is_file() else 0  # a longer file is read again
    return [*found, Job("protocol-generators", generators.measure, ()), Job("protocol-market", market, (length,))]


# -- one candidate -------------------------------------------------------------------------------------------------
def appraisals(size: SimpleNamespace, turn: int) -> list[Row]:
    """Appraise one candidate in the clear and by every engine."""
    with tempfile.TemporaryDirectory(prefix="appraisals-") as folder:
        found = in_the_clear(size, turn)
        for engine, records in appraised(size, turn, Path(folder)).items():
            for r in records:
                costs = {"seconds": r.seconds["share"] + r.seconds["private"], "mb": r.megabytes, "rounds": r.rounds}
                found.append(_row(turn, engine, r.method, r.n, r.features, **costs))
    return found


def appraised(size: SimpleNamespace, turn: int, folder: Path) -> dict[str, list[Record]]:
    """Return the app's records by engine. AppraisalError has the app's own words if it fails."""
    done = sweeps.run_app(
        "--multirun", f"session.engine={','.join(ENGINES)}", "appraisal=all", "~appraisal.finetuning", f"seed={turn}",
        f"data={size.data}", f"data.train_size={size.own}", f"scenario.size={size.rows}",
        f"scenario.test_size={size.tested}", f"model.l2={size.l2}", "scenario.candidates=1", "party.preflight=no",
        "baselines.true_utility=false", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${session.engine}",
    )  # fmt: skip
    if done.returncode:
        raise AppraisalError(f"appraisals, turn {turn}: {(done.stderr.strip() or 'no words').splitlines()[-1]}")
    return {engine: read(folder / engine / "records.jsonl") for engine in ENGINES}


def in_the_clear(size: SimpleNamespace, turn: int) -> list[Row]:
    """Compute the formula of the engines on plain tensors; what the owner does before is in neither."""
    torch.set_num_threads(1)
    scenario = LabelNoise(candidates=1, train_size=size.own, size=size.rows, test_size=size.tested)
    market = scenario.build(*source_of(size.data).load(), turn)
    model, data, found = fit(market.train, size.l2), market.candidates[0].data, []
    x, y = with_bias(data.x.to(torch.float64)), data.one_hot()
    facts = Facts.of(model, market.train, market.test, data)
    for method in (GradientNorm(), Influence()):
        owned = method.prepare(model, market.train, market.test)
        seconds = timed(lambda method=method, owned=owned: method.score(owned, x, y, facts))
        found.append(_row(turn, "plain", method.name, data.rows, data.features, seconds=median(seconds)))
    return found


def timed(call: Callable[[], Any]) -> list[float]:
    """Return the seconds of REPEATS calls, after one that warms up."""
    seconds = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        call()
        seconds.append(round(time.perf_counter() - start, 7))
    return seconds[1:]


def _row(turn: int, protocol: str, method: str, n: int, features: int, **costs: float) -> Row:
    row = {"part": "protocol", "kind": "appraisal", "turn": turn, "protocol": protocol, "method": method, "n": n}
    return row | {"features": features, "mb": 0.0, "rounds": 0} | costs


# -- the marketplace's records -------------------------------------------------------------------------------------
def market(_length: int, path: Path = MARKET) -> list[Row]:
    """Return rows of `ife_transform` and `ife_shares`, as far as the marketplace has measured them."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows, found = [json.loads(line) for line in lines], []
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
    """Return the seconds of the network in the clear, float64 as in the protocols."""
    torch.set_num_threads(1)
    network, x = network_of(NETWORK), torch.zeros(images, 784, dtype=torch.float64)
    return timed(lambda: network.logits(x))
