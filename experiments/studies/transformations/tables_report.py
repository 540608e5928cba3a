"""Tables 1 to 4 of RTAS's paper in the report: what is published, the model of a WAN, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.harness.records import Row
from mpc_appraisal.mpc.backends.cost_model import WAN
from mpc_appraisal.reporting.table import number

TRAIN, INFER = OPERATIONS = ("train", "infer")
PUBLISHED_BATCH = {TRAIN: 32, INFER: 8192}
ORDER = PLAIN, CRYPTEN, SPU, ENGINE, RTAS, RTAS_FAST, FLOATS, TENSEAL = (
    "in the clear", "CrypTen as shipped", "SPU", "the engine, no helper", "RTAS", "RTAS-fast", "RTAS, float shares",
    "TenSEAL's CKKS",
)  # fmt: skip
MODELS = ("logistic regression", "CNN")
PUBLISHED = {  # of the CNN: seconds on LAN (train, infer) and WAN, and Mb; None: blank or a dash in the paper
    "published: CryptoNets": ((None, 55.21), (None, 155.21), (None, 294.0)),
    "published: SecureNN": ((0.38, 122.61), (31.64, 6981.0), (22632.0, 1052.33)),
    "published: RTAS": ((0.54, 10.61), (3.25, 212.15), (333.6, 10.23)),
}


def of(rows: Sequence[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["part"] == "table" and row["kind"] == kind]


def wan(row: Row) -> float:
    """Return the seconds of a cost row on the WAN: measured ones, rounds, and the bytes of the busiest party."""
    busiest = max(row["bytes"].values(), default=0)
    return median(row["seconds"]) + row["rounds"] * WAN.latency + 8 * busiest / WAN.bandwidth


def context(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the template needs."""
    costs = sorted(of(rows, "cost"), key=lambda row: (
        OPERATIONS.index(row["operation"]), -row["batch"], ORDER.index(row["system"])
    ))  # fmt: skip
    measured, trained = {row["system"] for row in costs}, of(rows, "training")
    return {
        "costs": {model: [row for row in costs if row["model"] == model] for model in MODELS}, "spu": SPU in measured,
        "absent": [row for row in of(rows, "absent") if row["system"] not in measured], "published": published(),
        "scaling": scaling([row for row in costs if row["model"] == MODELS[1]]), "batch": PUBLISHED_BATCH, "wan": wan,
        "WAN": WAN, "PLAIN": PLAIN, "places": dict(zip(MODELS, ((1, 2), (3, 4)), strict=True)), "median": median,
        "clear": {(row["model"], row["steps"]): row["accuracy"] for row in trained if row["system"] == PLAIN},
        "always": {row["model"]: row["always"] for row in trained},
        "trained": sorted(trained, key=lambda r: (MODELS.index(r["model"]), r["steps"], ORDER.index(r["system"]))),
        "spreads": [row for row in trained if row["spread"] is not None],
        "tested": trained[0]["tested"] if trained else 0,
    }  # fmt: skip


def published() -> list[tuple[str, str, tuple[float | None, float | None, float | None]]]:
    """Return (operation, system, (LAN, WAN, Mb)), without what the paper leaves blank."""
    every = [(operation, name, tuple(pair[k] for pair in values))
             for k, operation in enumerate(OPERATIONS) for name, values in PUBLISHED.items()]  # fmt: skip
    return [each for each in every if any(value is not None for value in each[2])]


def scaling(rows: Sequence[Row]) -> tuple[int, int, list[str]] | None:
    """Return the smaller and the larger batch of images, and by how much seconds grow from one to the other."""
    counts = sorted({row["batch"] for row in rows if row["operation"] == INFER and row["batch"] > 1})
    found = []
    for system in ORDER[1:]:
        by = {r["batch"]: median(r["seconds"]) for r in rows if (r["system"], r["operation"]) == (system, INFER)}
        if counts and counts[-1] in by and counts[0] in by:
            found.append(f"{system} {number(by[counts[-1]] / by[counts[0]], 3)} x")
    return (counts[0], counts[-1], found) if len(counts) > 1 and found else None


def drawing(rows: Sequence[Row]) -> Figure:
    """Draw the seconds of one training batch, LAN and WAN."""
    figure = blank(9.0, 3.2)
    for axis, model in zip(figure.subplots(1, 2), MODELS, strict=True):
        lines = [row for row in of(rows, "cost") if (row["model"], row["operation"]) == (model, TRAIN)]
        lines.sort(key=lambda row: -ORDER.index(row["system"]))
        for place, row in enumerate(lines):
            near, far = median(row["seconds"]), wan(row)
            axis.plot([near, far], [place, place], color=GREY, linewidth=1, zorder=1)
            axis.scatter([near], [place], color=BLUE, zorder=2, label="LAN, measured" if not place else None)
            if row["system"] != PLAIN:
                axis.scatter([far], [place], color=ORANGE, zorder=2).set_label("WAN, model" if not place else None)
        axis.set_yticks(range(len(lines)), [row["system"] for row in lines])
        axis.set_xscale("log")
        axis.set_xlabel("seconds for a batch of 32")
        axis.set_title(model, fontsize=10)
        plain(axis, grid="x")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure
