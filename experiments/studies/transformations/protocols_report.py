"""What every protocol costs and what its best attack recovers, from rows alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from experiments.harness.records import Row
from experiments.studies.transformations.tables_report import FLOATS, PLAIN, RTAS_FAST, TRAIN

CLEAR, FAST, STOCK, RTAS, PARTLY, FLOAT, TRANSFORM, SHARED, HIDE = (
    "plain", "fast", "stock", "rtas", "rtas-fast", "rtas, float shares", "ife_transform", "ife_shares", "instahide",
)  # fmt: skip
NAMES = {CLEAR: "in the clear", FAST: "the engine (fast)", STOCK: "CrypTen as shipped", RTAS: "RTAS",
         PARTLY: "RTAS-fast", FLOAT: "RTAS, float shares", TRANSFORM: "ife_transform", SHARED: "ife_shares",
         HIDE: "InstaHide"}  # fmt: skip
HIDES = {
    CLEAR: "nothing",
    FAST: "data, model and all between, from parties that do not collude; the value is told",
    STOCK: "little: its masks come from a Mersenne Twister, which the other owner predicts",
    RTAS: "data and model from the owners; not what goes into softmax and activations from the helper",
    PARTLY: "data and model from the dealer; not the first layer's outputs from the label owner",
    FLOAT: "data, up to the noise of the mask, the less the more often they are shared",
    TRANSFORM: "images from the cloud, up to their first layer's products",
    SHARED: "images, model and labels from the cloud; the shopper learns logits",
    HIDE: "which image stands behind an encoding, and its signs",
}
COLLUSION = "collusion"  # is outside every protocol's assumption, and recovers everything under any of them
METHOD, METHODS = "influence", {"influence": "influence", "gradient_norm": "gradient norm"}
TABLE = {PARTLY: (RTAS_FAST, "CNN"), FLOAT: (FLOATS, "logistic regression")}


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

    @property
    def hides(self) -> str:
        return HIDES[self.key]

    @property
    def lacks(self) -> list[str]:
        """Name what is not measured."""
        return ["cost"] * (self.cost is None) + ["attack"] * (self.attack is None)


def protocols(rows: Sequence[Row]) -> list[Protocol]:
    """Return all of them, in order."""
    return [Protocol(key, _cost(rows, key), _best(rows, key)) for key in NAMES]


# -- cost ----------------------------------------------------------------------------------------------------------
def appraised(rows: Sequence[Row], key: str, method: str) -> list[Row]:
    return [r for r in rows if r["part"] == "protocol" and r["kind"] == "appraisal"
            and (r["protocol"], r["method"]) == (key, method)]  # fmt: skip


def _cost(rows: Sequence[Row], key: str, method: str = METHOD) -> Cost | None:
    if key in (CLEAR, FAST, STOCK, RTAS):
        return appraisal(rows, key, method)
    if key in TABLE:
        return _trained(rows, *TABLE[key])
    return _instahide(rows) if key == HIDE else _market(rows, key)


def appraisal(rows: Sequence[Row], key: str, method: str) -> Cost | None:
    """Return medians over turns."""
    mine, plain = appraised(rows, key, method), appraised(rows, CLEAR, method)
    if not mine or not plain:
        return None
    seconds, mb = (median(r[name] for r in mine) for name in ("seconds", "mb"))
    operation = f"{METHODS[method]} appraisal of {mine[0]['n']:,} rows of {mine[0]['features']} features"
    return Cost(operation, seconds, median(r["seconds"] for r in plain), mb, int(median(r["rounds"] for r in mine)))


def _trained(rows: Sequence[Row], system: str, model: str) -> Cost | None:
    found = {r["system"]: r for r in rows if r["part"] == "table" and r["kind"] == "cost"
             and (r["model"], r["operation"]) == (model, TRAIN)}  # fmt: skip
    if system not in found or PLAIN not in found:
        return None
    row = found[system]
    operation = f"{model}, one training batch of {row['batch']}"
    seconds, plain = (median(r["seconds"]) for r in (row, found[PLAIN]))
    return Cost(operation, seconds, plain, sum(row["bytes"].values()) / 1e6, row["rounds"])


def _instahide(rows: Sequence[Row]) -> Cost | None:
    """Take the data set with the dearest training in the clear."""
    trained = [r for r in rows if r["part"] == "instahide-training"]
    clear = [r for r in trained if r["k"] is None]
    if not clear:
        return None
    plain = max(clear, key=lambda r: r["seconds"])
    hidden = next((r for r in trained if r["data"] == plain["data"] and r["k"] is not None), None)
    if hidden is None:
        return None
    operation = f"training on {plain['images']:,} images ({plain['data']}), {plain['steps']:,} steps, k = {hidden['k']}"
    return Cost(operation, hidden["seconds"], plain["seconds"])


def _market_row(rows: Sequence[Row], key: str) -> Row | None:
    return next((r for r in rows if r["part"] == "protocol" and r["kind"] == "market" and r["protocol"] == key), None)


def _market(rows: Sequence[Row], key: str) -> Cost | None:
    row = _market_row(rows, key)
    return row and Cost(row["operation"], median(row["seconds"]), median(row["plain"]), row["mb"])


# -- attacks -------------------------------------------------------------------------------------------------------
def _best(rows: Sequence[Row], key: str) -> Attack | None:
    """Return the best attack of those that the protocol's assumptions allow."""
    if key == CLEAR:
        return Attack("none is needed", "", 1.0, 0.0, "all of it is seen")
    if key in (FAST, STOCK):
        tried = [r for r in rows if r["part"] == "protocol" and (r["kind"], r["protocol"]) == ("generator", key)]
        return _attack(tried[0]) if tried else None
    if row := _market_row(rows, key):
        return _attack(row)
    if key == HIDE:
        found = _hidden(rows)
    else:
        found = [_attack(r) for r in rows if r["part"] == "attack" and r["protocol"] == key
                 and r["attack"] != COLLUSION]  # fmt: skip
    return max(found, key=lambda attack: attack.above, default=None)


def _attack(row: Row) -> Attack:
    told = (row[key] for key in ("attack", "setting", "recovered", "chance", "meaning"))
    return Attack(*told, row.get("stops", ""))


def _hidden(rows: Sequence[Row]) -> list[Attack]:
    """Return grouping by images and epochs, means over seeds, and ranking. A planted seed is no attack on it."""
    found = []
    grouped = [r for r in rows if r["part"] in ("instahide-grouping", "instahide-challenge")]
    by = lambda r: (r["data"], r["images"], r["epochs"], r["k"])  # noqa: E731
    for (data, images, epochs, k), some in itertools.groupby(sorted(grouped, key=by), by):
        some = list(some)
        setting = f"{data}, {images} images, {epochs} epochs, k = {k}"
        shares = (mean(r[name] for r in some) for name in ("identified", "chance_identified"))
        found.append(Attack("grouping", setting, *shares, "share of private images that are identified"))
    for r in (r for r in rows if r["part"] == "instahide-ranking"):
        setting = f"{r['data']}, k = {r['k']}, {r['encodings']} encodings of each image in {r['encoding']}"
        meaning = f"the right one of {r['candidates']} candidate images comes first"
        found.append(Attack("ranking", setting, r["first"], 1 / r["candidates"], meaning))
    return found


def compared(rows: Sequence[Row]) -> list[tuple[str, str, Cost, int]]:
    """Return (method, protocol, cost, turns) of the appraisals that are measured here."""
    every = [(method, key, appraisal(rows, key, method)) for method in METHODS for key in (CLEAR, FAST, STOCK, RTAS)]
    return [
        (METHODS[method], NAMES[key], cost, len(appraised(rows, key, method))) for method, key, cost in every if cost
    ]
