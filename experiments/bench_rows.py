"""Influence of one candidate at growing numbers of rows: seconds a row and the largest memory of each party.

    python experiments/bench_rows.py --out DIR [--rows 10000,30000,100000] [--features 784] [--classes 10]

Three new processes for each number of rows. The data owner draws its rows in its own process (sparse, in [0, 1]), so
nothing of them passes through a file. Seconds are those of the joint computation; memory is the process's largest
resident set, Python and torch included. Writes DIR/rows.jsonl and DIR/rows.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
from bench_common import machine, peak_bytes, print_table, write_lines

from mpc_appraisal.appraisal import Influence
from mpc_appraisal.data import Dataset
from mpc_appraisal.mpc.launch import launch
from mpc_appraisal.mpc.roles import DATA_OWNER, DEALER, MODEL_OWNER, ROLES
from mpc_appraisal.party import DataOwnerInput, ModelOwnerInput, Plan, take_part
from mpc_appraisal.record import config_hash
from mpc_appraisal.training import fit

L2 = 1e-2
KNOWN = 500  # rows of the model owner's training and of its test data


def rows_of(rows: int, features: int, classes: int, seed: int, name: str) -> Dataset:
    """Rows of MNIST's density, labelled by one linear rule; made in place, to add nothing to the memory measured."""
    rule = torch.randn(features, classes, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    x, block = torch.empty(rows, features), 10_000
    for start in range(0, rows, block):
        part = x[start : start + block].uniform_(-4.0, 1.0, generator=generator).clamp_(min=0.0)
        part *= min(1.0, (784 / features) ** 0.5)
    y = torch.cat([part.matmul(rule).argmax(1) for part in x.split(block)])
    return Dataset(x, y, classes, name)


def read(role: str, rows: int, features: int, classes: int) -> Any:
    if role == DATA_OWNER:
        return DataOwnerInput((rows_of(rows, features, classes, 3, "candidate"),))
    if role == MODEL_OWNER:
        train, test = (rows_of(KNOWN, features, classes, seed, name) for seed, name in ((1, "train"), (2, "test")))
        return ModelOwnerInput(train, test)
    return None


def party(role: str, address: str, emit: Any, folder: Path, sizes: tuple[int, int, int], engine: str) -> dict[str, Any]:
    """Take part; return the records and this process's largest memory."""
    public = {"sizes": list(sizes), "engine": engine}
    plan = Plan(
        (Influence(),), L2, 0, config_hash(public), partial(fit, l2=L2), public, classes=sizes[2], engine=engine
    )
    records = take_part(role, address, plan, lambda: read(role, *sizes), emit, hosted=True, session_name="spawn")
    return {"records": records, "peak": peak_bytes()}


def measure(rows: int, features: int, classes: int, engine: str) -> dict[str, Any]:
    jobs = {role: {"sizes": (rows, features, classes), "engine": engine} for role in ROLES}
    found = launch(party, jobs, lambda event: None)
    (record,) = found[MODEL_OWNER]["records"]
    seconds = sum(record.seconds[phase] for phase in ("share", "private"))
    return {
        "engine": engine,
        "rows": rows,
        "features": features,
        "classes": classes,
        "seconds": seconds,
        "microseconds_per_row": 1e6 * seconds / rows,
        "peak_mb": {role: found[role]["peak"] / 1e6 for role in ROLES},
        "mb": record.megabytes,
        "rounds": record.rounds,
        "value": record.value,
        "machine": machine(),
    }


def draw(found: Sequence[dict[str, Any]], path: Path) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (time, memory) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    rows = [each["rows"] for each in found]
    time.plot(rows, [each["microseconds_per_row"] for each in found], "o-")
    time.set(xscale="log", xlabel="rows of the candidate", ylabel="microseconds a row", ylim=(0, None))
    for role, style in zip((MODEL_OWNER, DATA_OWNER, DEALER), ("o-", "s--", "^:"), strict=True):
        memory.plot(rows, [each["peak_mb"][role] for each in found], style, label=role.replace("_", " "))
    memory.axhline(2 * 1024**3 / 1e6, color="0.6", linewidth=1)
    memory.set(xscale="log", yscale="log", xlabel="rows of the candidate", ylabel="largest memory, MB (line: 2 GiB)")
    memory.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for rows.jsonl and rows.png")
    parser.add_argument("--rows", default="10000,30000,100000", help="numbers of rows, with commas")
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--engine", default="fast", choices=("fast", "stock"))
    args = parser.parse_args(argv)
    found = []
    for rows in (int(float(n)) for n in args.rows.split(",")):
        found.append(measure(rows, args.features, args.classes, args.engine))
        write_lines(args.out / "rows.jsonl", found)  # what is done is kept if a larger one fails
        print(f"{rows} rows: {found[-1]['seconds']:.2f} s", flush=True)
    draw(found, args.out / "rows.png")
    cells = [
        [str(f["rows"]), f"{f['seconds']:.2f}", f"{f['microseconds_per_row']:.1f}", f"{f['mb']:.1f}"]
        + [f"{f['peak_mb'][role]:.0f}" for role in ROLES]
        for f in found
    ]
    peaks = [f"{role.replace('_', ' ')}, MB" for role in ROLES]
    print_table("Influence by rows; largest memory by party", ("rows", "s", "us a row", "MB sent", *peaks), cells)


if __name__ == "__main__":
    main()
