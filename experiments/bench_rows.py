"""Influence of one candidate at growing numbers of rows: seconds a row and the largest memory of each party.

    python experiments/bench_rows.py --out DIR [--rows 10000,30000,100000] [--repeat 1] [--features 784]

Three new processes for each number of rows. The data owner draws its rows (sparse, in [0, 1]) into a file of its own
and opens that as the app does: a large one is read in blocks. Seconds are those of the joint computation; memory is the
process's largest resident set, Python and torch included. Writes DIR/rows.jsonl, and from it alone DIR/rows.md,
rows.html and a figure; `--render-only` measures nothing and writes these again.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from bench_common import about, peak_bytes, write_lines
from bench_page import show
from rows_page import render

from mpc_appraisal.appraisal.party import take_part
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, Plan
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, ROLES
from mpc_appraisal.data import Dataset, open_dataset
from mpc_appraisal.methods import Influence
from mpc_appraisal.models.training import fit
from mpc_appraisal.mpc.net.launch import launch

L2 = 1e-2
BLOCK = 10_000
KNOWN = 500  # rows of the model owner's training and of its test data


def blocks_of(rows: int, features: int, classes: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows of MNIST's density and norm, labelled by one linear rule, in blocks."""
    rule = torch.randn(features, classes, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, rows, BLOCK):
        x = torch.empty(min(BLOCK, rows - start), features).uniform_(-4.0, 1.0, generator=generator).clamp_(min=0.0)
        yield x, x.matmul(rule).argmax(1)


def write(path: Path, rows: int, features: int, classes: int) -> None:
    """A candidate's file, block by block: its making adds nothing to the memory that is measured."""
    labels, header = [], {"descr": "<f4", "fortran_order": False, "shape": (rows, features)}
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for x, y in blocks_of(rows, features, classes, 3):
                file.write(x.numpy().tobytes())
                labels.append(y)
        with archive.open("y.npy", "w") as file:
            np.lib.format.write_array(file, torch.cat(labels).numpy())


def read(role: str, folder: Path, rows: int, features: int, classes: int) -> Any:
    if role == DATA_OWNER:
        write(folder / "candidate.npz", rows, features, classes)
        return DataOwnerInput((open_dataset(folder / "candidate.npz", classes=classes).renamed("candidate"),))
    if role == MODEL_OWNER:
        parts = [next(blocks_of(KNOWN, features, classes, seed)) for seed in (1, 2)]
        train, test = (Dataset(x, y, classes, name) for (x, y), name in zip(parts, ("train", "test"), strict=True))
        return ModelOwnerInput(train, test)
    return None


def party(role: str, address: str, emit: Any, folder: Path, sizes: tuple[int, int, int], engine: str) -> dict[str, Any]:
    """Take part; return the records and this process's largest memory."""
    public = {"sizes": list(sizes), "engine": engine}
    plan = Plan(
        (Influence(),), L2, 0, config_hash(public), partial(fit, l2=L2), public, classes=sizes[2], engine=engine
    )
    records = take_part(
        role, address, plan, lambda: read(role, folder, *sizes), emit, hosted=True, session_name="spawn"
    )
    return {"records": records, "peak": peak_bytes()}


def measure(rows: int, features: int, classes: int, engine: str, repeat: int) -> dict[str, Any]:
    """One number of rows: medians of `repeat` launches, and the largest memory of all of them."""
    runs, records = [], []
    for _ in range(repeat):
        jobs = {role: {"sizes": (rows, features, classes), "engine": engine} for role in ROLES}
        runs.append(launch(party, jobs, lambda event: None))
        records += runs[-1][MODEL_OWNER]["records"]
    seconds = median(sum(record.seconds[phase] for phase in ("share", "private")) for record in records)
    return {
        "engine": engine,
        "rows": rows,
        "features": features,
        "classes": classes,
        "seconds": seconds,
        "microseconds_per_row": 1e6 * seconds / rows,
        "peak_mb": {role: max(found[role]["peak"] for found in runs) / 1e6 for role in ROLES},
        "mb": median(record.megabytes for record in records),
        "rounds": records[0].rounds,
        "value": records[0].value,
        "repeat": repeat,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for rows.jsonl and the report")
    parser.add_argument("--render-only", action="store_true", help="the report of an earlier run's rows.jsonl")
    parser.add_argument("--rows", default="10000,30000,100000", help="numbers of rows, with commas")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each number of rows; seconds are medians")
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--engine", default="fast", choices=("fast", "stock"))
    args = parser.parse_args(argv)
    if args.repeat < 1:
        parser.error(f"--repeat: got {args.repeat}; expected 1 or more")
    if not args.render_only:
        made, found = about("bench_rows.py", parser, args, False), []
        for rows in (int(float(n)) for n in args.rows.split(",")):
            found.append(measure(rows, args.features, args.classes, args.engine, args.repeat) | made)
            write_lines(args.out / "rows.jsonl", found)  # what is done is kept if a larger one fails
            print(f"{rows} rows: {found[-1]['seconds']:.2f} s", flush=True)
    page = render(args.out)
    show([*page.main, *page.details])


if __name__ == "__main__":
    main()
