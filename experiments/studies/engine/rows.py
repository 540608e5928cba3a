"""Influence of one candidate at growing numbers of rows: seconds a row and the largest memory of each party.

Each number of rows takes three new processes. The data owner draws its rows (sparse, in [0, 1]) into a file of its own
and opens that file as the app does: a large one is read in blocks. Seconds are those of the joint computation; memory
is the process's largest resident set, Python and torch included.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.harness import page
from experiments.harness.page import Page, run_facts
from experiments.harness.parties import launch_parties, peak_bytes
from experiments.harness.plots import BLUE, GREY, ORANGE, blank, plain
from experiments.harness.records import ABOUT, Row, read_rows
from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import ASSUMPTION, DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.data import Dataset, open_dataset
from mpc_appraisal.methods import Influence
from mpc_appraisal.models.training import fit

L2 = 1e-2
BLOCK = 10_000
KNOWN = 500  # rows of the model owner's training data and of its test data
KEYS = ABOUT | {"engine", "rows", "features", "classes", "seconds", "microseconds_per_row", "peak_mb", "mb", "rounds",
                "repeat"}  # fmt: skip
STYLES = {MODEL_OWNER: ("o-", BLUE), DATA_OWNER: ("s--", ORANGE), DEALER: ("^:", GREY)}
LIMIT = 2 * 1024**3 / 1e6  # MB
Shape = tuple[int, int, int]  # rows, features, classes


def blocks_of(shape: Shape, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield blocks of rows of MNIST's density, norm and eight bits a pixel, labelled by one linear rule."""
    rows, features, classes = shape
    rule = torch.randn(features, classes, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, rows, BLOCK):
        x = torch.empty(min(BLOCK, rows - start), features).uniform_(-4.0, 1.0, generator=generator).clamp_(min=0.0)
        x = (255 * x).round() / 255
        yield x, x.matmul(rule).argmax(1)


def write_candidate(path: Path, shape: Shape) -> None:
    """Write a candidate's file block by block, so that this adds nothing to the memory that is measured."""
    labels, header = [], {"descr": "<f4", "fortran_order": False, "shape": shape[:2]}
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for x, y in blocks_of(shape, 3):
                file.write(x.numpy().tobytes())
                labels.append(y)
        with archive.open("y.npy", "w") as file:
            np.lib.format.write_array(file, torch.cat(labels).numpy())


def inputs(role: str, folder: Path, shape: Shape) -> Any:
    """Return what the party brings."""
    _, features, classes = shape
    if role == DATA_OWNER:
        write_candidate(folder / "candidate.npz", shape)
        return DataOwnerInput((open_dataset(folder / "candidate.npz", classes=classes).renamed("candidate"),))
    if role == MODEL_OWNER:
        parts = [next(blocks_of((KNOWN, features, classes), seed)) for seed in (1, 2)]
        train, test = (Dataset(x, y, classes, name) for (x, y), name in zip(parts, ("train", "test"), strict=True))
        return ModelOwnerInput(train, test)
    return None


def party(role: str, address: str, emit: Any, folder: Path, shape: Shape, engine: str) -> dict[str, Any]:
    """Take part, and return the records and this process's largest memory."""
    public = {"sizes": list(shape), "engine": engine}
    fitted = partial(fit, l2=L2)
    plan = Plan((Influence(),), L2, 0, config_hash(public), fitted, public, classes=shape[2], engine=engine)
    brought = partial(inputs, role, folder, shape)
    records = take_part(role, address, plan, brought, emit, hosted=True, session_name="spawn")
    return {"records": records, "peak": peak_bytes()}


def measure(shape: Shape, engine: str, repeat: int) -> Row:
    """Measure one number of rows: medians of `repeat` launches, and the largest memory of all of them."""
    runs = [launch_parties(party, shape=shape, engine=engine) for _ in range(repeat)]
    records = [record for found in runs for record in found[MODEL_OWNER]["records"]]
    seconds = median(sum(record.seconds[phase] for phase in ("share", "private")) for record in records)
    return {
        "engine": engine,
        **dict(zip(("rows", "features", "classes"), shape, strict=True)),
        "seconds": seconds,
        "microseconds_per_row": 1e6 * seconds / shape[0],
        "peak_mb": {role: max(found[role]["peak"] for found in runs) / 1e6 for role in ROLES},
        "mb": median(record.megabytes for record in records),
        "rounds": records[0].rounds,
        "value": records[0].value,
        "repeat": repeat,
    }


def render(folder: Path) -> Page:
    """Write rows.md, rows.html and the figure beside rows.jsonl."""
    _, rows = read_rows(folder / "rows.jsonl", {"": KEYS})
    rows.sort(key=lambda row: row["rows"])
    last, figures = rows[-1], {"rows": rows_figure(rows)}
    size = f"{last['features']} features, {last['classes']} classes"
    facts = {"threads": "one a party", "engine": last["engine"], "input": f"{size}, random, as sparse as MNIST"}
    given = {"found": rows, "ROLES": ROLES, "TRUST": ASSUMPTION, "facts": run_facts(last, facts, "engine")}
    return page.render("studies/engine/rows.md.jinja", folder, "rows", figures, **given)


def rows_figure(rows: Sequence[Row]) -> Figure:
    """Draw microseconds a row on the left, and on the right the largest memory by party, with a line at 2 GiB."""
    figure = blank(9.6, 3.6)
    time, memory = figure.subplots(1, 2)
    counts, each = ([row[key] for row in rows] for key in ("rows", "microseconds_per_row"))
    time.plot(counts, each, "o-", color=BLUE)
    time.set(ylabel="microseconds a row", ylim=(0, 1.15 * max(each)))
    for role, (style, colour) in STYLES.items():
        memory.plot(counts, [r["peak_mb"][role] for r in rows], style, color=colour, label=role.replace("_", " "))
    memory.axhline(LIMIT, color="0.6", linewidth=1)
    memory.annotate("2 GiB", (0.01, LIMIT), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                    color="0.4", fontsize=9)  # fmt: skip
    top = max(LIMIT, *(max(row["peak_mb"].values()) for row in rows))
    memory.set(ylabel="largest memory of a process, MB", ylim=(0, 1.12 * top))
    figure.legend(*memory.get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False)
    for axis in (time, memory):
        axis.set(xscale="log", xlabel="rows of the candidate, logarithmic")
    plain(time, memory)
    return figure
