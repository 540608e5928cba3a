"""What every protocol costs and what its best attack recovers, as tables, from rows alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from bench_page import times
from transformations_size import Row
from transformations_tables_page import FLOATS, PLAIN, RTAS_FAST, TRAIN

from mpc_appraisal.reporting.table import DASH, Table, number

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
ORDER = tuple(NAMES)
BESIDE = (
    "The engine and CrypTen as shipped: what a data owner recovers that follows the protocol, beside the value. "
    "CrypTen's generators are not cryptographic, and give it the model owner's matrix. The value itself leaks, and "
    "enough of them give the model: see the report on extraction."
)
COLLUSION = "collusion"  # is outside every protocol's assumption, and recovers everything under any of them
METHOD, METHODS = "influence", {"influence": "influence", "gradient_norm": "gradient norm"}
TABLE = {PARTLY: (RTAS_FAST, "CNN"), FLOAT: (FLOATS, "logistic regression")}


@dataclass(frozen=True)
class Attack:
    """recovered and chance in [0, 1], `meaning` of what. stops: where it recovers nothing, if that is known."""

    name: str
    setting: str
    recovered: float
    chance: float
    meaning: str
    stops: str = ""

    @property
    def above(self) -> float:
        """0: no more than a guess; 1: all of it."""
        return max(0.0, (self.recovered - self.chance) / (1 - self.chance)) if self.chance < 1 else 0.0


@dataclass(frozen=True)
class Cost:
    """seconds of `operation`, and of the same in the clear; mb, rounds: None where they are not measured."""

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
    key: str
    cost: Cost | None
    attack: Attack | None

    @property
    def name(self) -> str:
        return NAMES[self.key]


def protocols(rows: Sequence[Row]) -> list[Protocol]:
    """All of them, in order; None for what is not measured."""
    return [Protocol(key, _cost(rows, key), _best(rows, key)) for key in ORDER]


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
    """Medians over turns."""
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
    """The data set with the dearest training in the clear."""
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
    """Of those that the protocol's assumptions allow."""
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
    """Grouping by images and epochs, means over seeds; and ranking of encodings. A planted seed is no attack on it."""
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


# -- what is shown -------------------------------------------------------------------------------------------------
def tables(rows: Sequence[Row]) -> list[Table]:
    return [_protocols(rows), *([_appraisals(rows)] if appraised(rows, CLEAR, METHOD) else [])]


def _protocols(rows: Sequence[Row]) -> Table:
    body = []
    for p in protocols(rows):
        cost, attack = p.cost, p.attack
        spent = (cost.operation, times(cost.ratio)) if cost else ("not measured", DASH)
        told = ("not measured", DASH, DASH, DASH)
        if attack:
            words = f"{attack.name}: {attack.setting}" if attack.setting else attack.name
            told = (words, f"{attack.recovered:.2f}", f"{attack.chance:.2f}", attack.meaning)
        body.append((p.name, HIDES[p.key], *spent, *told))
    notes = (
        "Cost: seconds by those of the same operation in the clear; operations differ, so a ratio compares protocols "
        "of the same operation alone. Attack: the best here that the protocol's assumptions allow, that is, without "
        "collusion, which recovers everything from the engine too. Recovered values are of different things.",
        "The best of several attacks and settings, each measured on one data set.",
        BESIDE,
        "Seconds of ife_transform and ife_shares are the marketplace's and their plaintext's of this one, not in "
        "turns, so these ratios move with the machine's load. Their attack may be on another first layer than the "
        "network's that is timed.",
    )
    header = ("protocol", "hides", "operation", "cost", "best attack", "recovered", "chance", "of what")
    return Table("What each protocol hides, costs and leaks", header, "lllrlrrl", body, notes)


def _appraisals(rows: Sequence[Row]) -> Table:
    body = []
    for method, key in itertools.product(METHODS, (CLEAR, FAST, STOCK, RTAS)):
        cost = appraisal(rows, key, method)
        if cost:
            body.append((METHODS[method], NAMES[key], number(cost.seconds, 3), times(cost.ratio), number(cost.mb, 3),
                         str(cost.rounds), str(len(appraised(rows, key, method)))))  # fmt: skip
    row = appraised(rows, CLEAR, METHOD)[0]
    notes = (
        "Medians over turns, in which the engines alternate; sharing and private phase, three processes of one thread "
        "on one machine. In the clear: the same formula. What the model owner computes before (the model, influence's "
        "direction) is in neither. MB: sent by all three parties together.",
    )
    header = ("method", "protocol", "seconds", "to plaintext", "MB", "rounds", "turns")
    title = f"One candidate of {row['n']:,} rows and {row['features']} features"
    return Table(title, header, "llrrrrr", body, notes)
