"""One cheating seller among honest ones: value, rank and the buyer's decision, by attack, method and countermeasure.

gain      (value of the attack - value of the cheating seller's rows as they are) / spread
spread    the highest value less the lowest among the honest sellers and the cheating seller's rows as they are
rank      1 + the number of honest sellers with a higher value
bought    value >= the threshold that the buyer's own pre-flight calibrated for so many rows
helps     retraining with the rows that are valued lowers the buyer's test loss
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.harness.jobs import Job
from experiments.harness.plots import blank, heat_map
from experiments.harness.records import Row
from experiments.studies.inflation.sellers import ALL, METHODS, NONE, TRUE, Setting, Stage
from mpc_appraisal.data import Dataset

KEYS = {"data", "seed", "attack", "guard", "rows", "kept", "longest", "sellers", "helps", "by"}
GUESS_KEYS = {"data", "seed", "cosine", "known"}
WORDS = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10"}
SHORT = {"gradient_norm": "gradient\nnorm", "gradient_norm per row": "the same\nper row", "influence": "influence",
         "finetuning": "fine-\ntuning", "retraining": "retrain-\ning"}  # fmt: skip


def jobs(settings: Any, seeds: int) -> list[Job]:
    return [
        Job(f"probe-{data}-seed{seed}", probe, (Setting.of(settings, data), seed), turn=seed)
        for data in settings.data
        for seed in range(seeds)
    ]


def probe(setting: Setting, seed: int) -> list[Row]:
    """Return a row for each attack and countermeasure, and one about the seller's guess.

    `by` has what `_judged` returns for each method; it is empty where nothing is left to value, and None where the
    countermeasure leaves the rows as they are.
    """
    stage = Stage(setting, seed)
    offers, guards = stage.attacks(), stage.guards()
    common = {"data": setting.data, "seed": seed}
    guess = {"part": "guess", **common, "cosine": rounded(stage.likeness), "known": setting.known}
    found: list[Row] = [guess]
    rivals = {m: [stage.valued[m](data) for data in stage.honest] for m in METHODS}
    own = {m: stage.valued[m](stage.bad) for m in METHODS}
    for name, offer in offers.items():
        known: list[tuple[Dataset, dict[str, float]]] = []
        for guard, limited in guards.items():
            left = limited(offer)
            values = {} if left is None else _values(stage, left, known)
            found.append({
                "part": "probe", **common, "attack": name, "guard": guard, "rows": offer.rows,
                "kept": 0 if left is None else left.rows, "longest": rounded(stage.ratio(offer)),
                "sellers": 1 + len(stage.honest), "helps": values.get(TRUE, 0.0) > 0,
                "by": None if guard != NONE and values is known[0][1] else
                {m: _judged(values[m], own[m], rivals[m], stage.thresholds[m](left.rows)) for m in values},
            })  # fmt: skip
    return found


def _judged(value: float, own: float, rivals: Sequence[float], limit: float | None) -> list[Any]:
    """Return value, gain, rank and decision; `own` is the value of the seller's rows as they are."""
    every = [*rivals, own]
    gain = (value - own) / (max(every) - min(every))
    rank = 1 + sum(rival > value for rival in rivals)
    return [rounded(value), round(gain, 3), rank, limit is not None and value >= limit]


def rounded(value: float) -> float:
    """Return the value with five significant digits, which keeps the records small."""
    return float(f"{value:.5g}")


def _values(stage: Stage, data: Dataset, known: list[tuple[Dataset, dict[str, float]]]) -> dict[str, float]:
    """Return the value of the data by each method, computed once for the same rows."""
    for other, values in known:
        if other.x.shape == data.x.shape and bool((other.x == data.x).all() and (other.y == data.y).all()):
            return values
    known.append((data, {m: stage.valued[m](data) for m in METHODS}))
    return known[-1][1]


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return a line for each row and method, with `fooled`: bought, though the rows that are valued do not help."""
    nothing = [None, None, None, False]
    bare = {(row["data"], row["seed"], row["attack"]): row["by"] for row in rows if row["guard"] == NONE}
    judged = [bare[row["data"], row["seed"], row["attack"]] if row["by"] is None else row["by"] for row in rows]
    found = pd.DataFrame([
        {**{key: row[key] for key in ("data", "seed", "attack", "guard", "rows", "kept", "helps")}, "method": m}
        | dict(zip(("value", "gain", "rank", "bought"), by.get(m, nothing), strict=True))
        for row, by in zip(rows, judged, strict=True)
        for m in METHODS
    ])  # fmt: skip
    found = found.astype({"value": float, "gain": float, "rank": float, "bought": bool})
    return found.assign(fooled=found.bought & ~found.helps)


def lines(found: pd.DataFrame, guard: str) -> list[dict[str, Any]]:
    """Return a line for each attack: for each method its median gain, and how often it fools the buyer."""
    here = found[found.guard == guard]
    lines = []
    for attack, some in here.groupby("attack", sort=False):
        truth, kept = some[some.method == TRUE], (some.kept / some.rows).median()
        line = {"attack": attack, "kept": float(kept), "helps": int(truth.helps.sum()), "of": len(truth)}
        lines.append(line | {"by": {m: _cell(some[some.method == m]) for m in METHODS}})
    return lines


def _cell(some: pd.DataFrame) -> dict[str, Any]:
    gains, ranks = some.gain.dropna(), some["rank"].dropna()
    return {
        "gain": float(gains.median()) if len(gains) else None,
        "rank": float(ranks.median()) if len(ranks) else None,
        "bought": int(some.bought.sum()),
        "fooled": int(some.fooled.sum()),
        "first": int((some["rank"] == 1).sum()),
        "refused": int(some.gain.isna().sum()),
        "of": len(some),
    }


def stopped(found: pd.DataFrame, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each attack how often it fools one of the methods under each countermeasure, all data together."""
    some, lines = found[found.method.isin(methods)], []
    for attack, each in some.groupby("attack", sort=False):
        fooled = {guard: int(rows.fooled.sum()) for guard, rows in each.groupby("guard", sort=False)}
        lines.append({"attack": attack, "fooled": fooled, "of": int((each.guard == NONE).sum())})
    return lines


def drawing(found: pd.DataFrame) -> Figure:
    """Draw how often each attack fools each method, all data together, without and with all countermeasures."""
    attacks = list(dict.fromkeys(found.attack))
    figure = blank(9.6, 1.3 + 0.3 * len(attacks))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (guard, words) in zip(axes, ((NONE, "no countermeasure"), (ALL, "all countermeasures")), strict=True):
        here = found[found.guard == guard]
        cells = [[_cell(here[(here.attack == a) & (here.method == m)]) for m in METHODS] for a in attacks]
        share = [[cell["fooled"] / max(cell["of"], 1) for cell in row] for row in cells]
        heat_map(axis, share, cmap="Oranges", vmin=0, vmax=2)
        for y, row in enumerate(cells):
            for x, cell in enumerate(row):
                text = "refused" if cell["gain"] is None else f"{cell['fooled']} of {cell['of']}"
                axis.text(x, y, text, ha="center", va="center", fontsize=8.5)
        axis.set_title(words, fontsize=10)
        axis.set_xticks(range(len(METHODS)), [SHORT[m] for m in METHODS], fontsize=8.5)
        axis.tick_params(length=0)
    axes[0].set_yticks(range(len(attacks)), attacks, fontsize=8.5)
    return figure
