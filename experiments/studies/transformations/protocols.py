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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pandas as pd
import torch

from experiments.harness.jobs import Job
from experiments.harness.records import Row, select
from experiments.harness.run import ROOT
from experiments.harness.size import source_of
from experiments.studies.appraisal import sweeps
from experiments.studies.marketplace.cost import FORWARD, SHARES, TRANSFORM, network_of
from experiments.studies.transformations import generators, tables
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
CLEAR, HIDE = "plain", "instahide"
APPRAISED = (CLEAR, *ENGINES)
NAMES = {CLEAR: "in the clear", "fast": "the engine (fast)", "stock": "CrypTen as shipped", "rtas": "RTAS",
         "rtas-fast": "RTAS-fast", "rtas, float shares": "RTAS, float shares", "ife_transform": "ife_transform",
         "ife_shares": "ife_shares", HIDE: "InstaHide"}  # fmt: skip
TABLE = {"rtas-fast": (tables.RTAS_FAST, "CNN"), "rtas, float shares": (tables.FLOATS, "logistic regression")}
COLLUSION = "collusion"  # is outside every protocol's assumption, and recovers everything under any of them
METHOD, METHODS = "influence", {"influence": "influence", "gradient_norm": "gradient norm"}


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
        for engine, records in run_engines(size, turn, Path(folder)).items():
            for r in records:
                costs = {"seconds": r.seconds["share"] + r.seconds["private"], "mb": r.megabytes, "rounds": r.rounds}
                found.append(_row(turn, engine, r.method, r.n, r.features, **costs))
    return found


def run_engines(size: SimpleNamespace, turn: int, folder: Path) -> dict[str, list[Record]]:
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
        costs = select(rows, part="cost", network=NETWORK, operation=FORWARD, system=system)
        leaks = select(rows, part="leak", kind="pixels", strategy=name)
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


# -- for the report ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Attack:
    """`recovered` and `chance` are in [0, 1], `meaning` says of what, `stops` where it recovers nothing, if known."""

    name: str
    setting: str
    recovered: float
    chance: float
    meaning: str
    stops: str = ""

    @property
    def above(self) -> float:
        """Return 0 for no more than a guess, and 1 for all of it."""
        return max(0.0, (self.recovered - self.chance) / (1 - self.chance)) if self.chance < 1 else 0.0


@dataclass(frozen=True)
class Cost:
    """The seconds of `operation`, and of the same in the clear; mb and rounds are None if they are not measured."""

    operation: str
    seconds: float
    plain: float
    mb: float | None = None
    rounds: int | None = None

    @property
    def ratio(self) -> float:
        return self.seconds / self.plain


@dataclass(frozen=True)
class Protocol:
    """One protocol, with None for what is not measured."""

    key: str
    cost: Cost | None
    attack: Attack | None

    @property
    def name(self) -> str:
        return NAMES[self.key]


def protocols(rows: Sequence[Row]) -> list[Protocol]:
    """Return all of them, in order."""
    return [Protocol(key, _cost(rows, key), _best(rows, key)) for key in NAMES]


def appraised(rows: Sequence[Row], key: str, method: str) -> list[Row]:
    return select(rows, part="protocol", kind="appraisal", protocol=key, method=method)


def _cost(rows: Sequence[Row], key: str) -> Cost | None:
    if key in APPRAISED:
        return appraisal(rows, key, METHOD)
    if key in TABLE:
        return _trained(rows, *TABLE[key])
    return _instahide(rows) if key == HIDE else _market(rows, key)


def appraisal(rows: Sequence[Row], key: str, method: str) -> Cost | None:
    """Return medians over turns."""
    mine, plain = appraised(rows, key, method), appraised(rows, CLEAR, method)
    if not mine or not plain:
        return None
    operation = f"{METHODS[method]} appraisal of {mine[0]['n']:,} rows of {mine[0]['features']} features"
    cost, clear = (pd.DataFrame(some)[["seconds", "mb", "rounds"]].median() for some in (mine, plain))
    return Cost(operation, cost.seconds, clear.seconds, cost.mb, int(cost["rounds"]))


def _trained(rows: Sequence[Row], system: str, model: str) -> Cost | None:
    found = {r["system"]: r for r in select(rows, part="table", kind="cost", model=model, operation=tables.TRAIN)}
    if system not in found or tables.PLAIN not in found:
        return None
    row = found[system]
    operation = f"{model}, one training batch of {row['batch']}"
    seconds, plain = (median(r["seconds"]) for r in (row, found[tables.PLAIN]))
    return Cost(operation, seconds, plain, sum(row["bytes"].values()) / 1e6, row["rounds"])


def _instahide(rows: Sequence[Row]) -> Cost | None:
    """Take the data set with the dearest training in the clear."""
    trained = select(rows, part="instahide-training")
    plain = max(select(trained, k=None), key=lambda r: r["seconds"], default={"data": None})
    hidden = next((r for r in select(trained, data=plain["data"]) if r["k"] is not None), None)
    if hidden is None:
        return None
    operation = f"training on {plain['images']:,} images ({plain['data']}), {plain['steps']:,} steps, k = {hidden['k']}"
    return Cost(operation, hidden["seconds"], plain["seconds"])


def _market(rows: Sequence[Row], key: str) -> Cost | None:
    found = select(rows, part="protocol", kind="market", protocol=key)
    costs = [Cost(r["operation"], median(r["seconds"]), median(r["plain"]), r["mb"]) for r in found]
    return next(iter(costs), None)


def _best(rows: Sequence[Row], key: str) -> Attack | None:
    """Return the best attack of those that the protocol's assumptions allow."""
    if key == CLEAR:
        return Attack("none is needed", "", 1.0, 0.0, "all of it is seen")
    if key == HIDE:
        found = _grouped(rows) + _ranked(rows)
    else:
        tried = [r for kind in ("generator", "market") for r in select(rows, part="protocol", kind=kind, protocol=key)]
        tried += [r for r in select(rows, part="attack", protocol=key) if r["attack"] != COLLUSION]
        told = ("attack", "setting", "recovered", "chance", "meaning")
        found = [Attack(*(row[name] for name in told), row.get("stops", "")) for row in tried]
    return max(found, key=lambda attack: attack.above, default=None)


def _grouped(rows: Sequence[Row]) -> list[Attack]:
    """Return grouping by images and epochs, means over seeds. A planted seed is no attack on it."""
    tried = [r for part in ("grouping", "challenge") for r in select(rows, part=f"instahide-{part}")]
    if not tried:
        return []
    runs = pd.DataFrame(tried).groupby(["data", "images", "epochs", "k"])[["identified", "chance_identified"]].mean()
    return [
        Attack("grouping", f"{data}, {images} images, {epochs} epochs, k = {k}", *shares,
               "share of private images that are identified")
        for (data, images, epochs, k), shares in zip(runs.index, runs.values.tolist(), strict=True)
    ]  # fmt: skip


def _ranked(rows: Sequence[Row]) -> list[Attack]:
    return [
        Attack("ranking", f"{r['data']}, k = {r['k']}, {r['encodings']} encodings of each image in {r['encoding']}",
               r["first"], 1 / r["candidates"], f"the right one of {r['candidates']} candidate images comes first")
        for r in select(rows, part="instahide-ranking")
    ]  # fmt: skip


def compared(rows: Sequence[Row]) -> list[tuple[str, str, Cost, int]]:
    """Return (method, protocol, cost, turns) of the appraisals that are measured here."""
    every = [(method, key, appraisal(rows, key, method)) for method in METHODS for key in APPRAISED]
    return [(METHODS[m], NAMES[key], cost, len(appraised(rows, key, m))) for m, key, cost in every if cost]
