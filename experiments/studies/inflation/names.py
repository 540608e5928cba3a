"""One seller under several names: what its names get together, and how many of the best places they take.

total     the sum of the values of the seller's names, where each name is valued and paid as a candidate
paid      the same sum of the values above 0 alone, because nobody pays a negative price
places    how many of the best candidates, of so many as win, are the seller's
as one    the seller's names valued as a set: their rows together, copies counted once
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from experiments.harness.jobs import Job
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.harness.records import Row
from experiments.studies.inflation.probe import WORDS, rounded
from experiments.studies.inflation.sellers import METHODS, TOLERANCE, Setting, Stage
from mpc_appraisal.attacks import inflation as attack
from mpc_appraisal.data import Dataset
from mpc_appraisal.data.low_quality import mislabelled
from mpc_appraisal.methods import Coalitions, LeaveOneOut, Shapley

KEYS = {"data", "seed", "method", "attack", "names", "places_of", "total", "paid", "places", "whole", "as_one", "rank"}
JOINT = (LeaveOneOut.name, Shapley.name)
WHOLE, SPLIT, REPEATED, DECOYS = "one name", "split", "the same rows again", "decoys beside"
EVERY = (*METHODS, *JOINT)


def jobs(probe: Any, names: Any, seeds: int) -> list[Job]:
    settings = {data: Setting.of(probe, data, names.levels) for data in names.data}
    return [
        Job(f"names-{data}-seed{seed}", listed, (setting, names.names, names.places, seed), turn=seed)
        for data, setting in settings.items()
        for seed in range(seeds)
    ]


def offers(stage: Stage, names: int) -> dict[str, list[Dataset]]:
    """Return what the seller lists in each attack: its clean rows as a whole, split, repeated, or beside decoys.

    The decoys have wrong labels on all rows, which are other rows of the seller.
    """
    whole, pool = stage.clean.renamed("seller"), stage.pool
    false = replace(pool, y=mislabelled(pool.y, pool.classes, stage.seed))
    decoys = [part.renamed(f"decoy {k}") for k, part in enumerate(attack.divided(false, names - 1), start=1)]
    return {
        WHOLE: [whole],
        SPLIT: attack.divided(whole, names),
        REPEATED: [whole.renamed(f"seller, name {k}") for k in range(1, names + 1)],
        DECOYS: [whole, *decoys],
    }


def listed(setting: Setting, names: int, places: int, seed: int) -> list[Row]:
    """Return a row for each attack and method."""
    stage, found, wholes = Stage(setting, seed), [], {}
    for name, own in offers(stage, names).items():
        values, one = _market(stage, own), _market(stage, [attack.distinct(attack.joined(own, "as one"))])
        for method in EVERY:
            mine, others = values[method]
            wholes.setdefault(method, sum(mine))  # the first offer is the whole under one name
            order = sorted([(v, 1) for v in mine] + [(v, 0) for v in others], reverse=True)
            found.append({
                "part": "names", "data": setting.data, "seed": seed, "method": method, "attack": name,
                "names": len(own), "places_of": places, "total": rounded(sum(mine)),
                "paid": rounded(sum(max(v, 0.0) for v in mine)), "places": sum(ours for _, ours in order[:places]),
                "whole": rounded(wholes[method]), "as_one": rounded(one[method][0][0]),
                "rank": 1 + sum(v > max(mine) for v in others),
            })  # fmt: skip
    return found


def _market(stage: Stage, own: Sequence[Dataset]) -> dict[str, tuple[list[float], list[float]]]:
    """Return the values of the seller's candidates and of the honest sellers', by method."""
    found = {m: ([stage.valued[m](d) for d in own], [stage.valued[m](d) for d in stage.honest]) for m in METHODS}
    game = Coalitions(stage.train, stage.test, [*own, *stage.honest], stage.setting.l2, stage.model, TOLERANCE)
    for method in (LeaveOneOut(), Shapley()):
        values = list(method.values(game).values.values())
        found[method.name] = values[: len(own)], values[len(own) :]
    return found


def lines(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return a line for each data set, attack and method, with medians over the seeds.

    Ratios to the whole are None unless the whole's value is above 0 for every seed.
    """
    found = []
    for (data, name, method), some in pd.DataFrame(rows).groupby(["data", "attack", "method"], sort=False):
        rising = bool((some.whole > 0).all())
        found.append({
            "data": WORDS[data], "attack": name, "method": method, "of": int(some.places_of.iloc[0]),
            "names": int(some.names.median()), "places": float(some.places.mean()), "seeds": len(some),
            "paid": float((some.paid / some.whole).median()) if rising else None,
            "total": float((some.total / some.whole).median()) if rising else None,
            "as_one": float((some.as_one / some.whole).median()) if rising else None,
        })  # fmt: skip
    return found


def drawing(rows: Iterable[Row]) -> Figure:
    """Draw what the seller's names are paid together, as a multiple of what the whole is paid under one name."""
    every = [line for line in lines(rows) if line["attack"] != WHOLE and line["paid"] is not None]
    names = list(dict.fromkeys(line["data"] for line in every))
    figure = blank(3.6 * len(names) + 1.5, 3.6)
    for axis, data in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        here = [line for line in every if line["data"] == data]
        methods = [m for m in EVERY if any(line["method"] == m for line in here)]
        for k, (name, colour) in enumerate(zip((SPLIT, REPEATED, DECOYS), (BLUE, ORANGE, GREY), strict=True)):
            some = {line["method"]: line for line in here if line["attack"] == name}
            at = [x + 0.26 * (k - 1) for x in range(len(methods))]
            axis.bar(at, [some[m]["paid"] for m in methods], 0.26, color=colour, label=name)
            axis.plot(at, [some[m]["as_one"] for m in methods], "k_", markersize=8)
        axis.axhline(1, color="black", linewidth=0.9, linestyle=":")
        axis.set_xticks(range(len(methods)), [m.replace("_", "\n") for m in methods], fontsize=7.5)
        axis.set_title(data, fontsize=10)
        plain(axis, grid="y")
    figure.axes[0].set_ylabel("paid, of the whole's value")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def sizes(names: Any) -> str:
    return f"{names.names} names among {len(names.levels)} honest sellers, {names.places} places"
