"""Table 1 and figures 2 to 5 of Xu, van der Maaten and Hannun (2022), from records of the installed app.
Beyond the paper: missing data, and whether one bit, value >= threshold, will do.

    OMP_NUM_THREADS=1 python experiments/paper.py               # as in the paper: MNIST and CIFAR-10
    OMP_NUM_THREADS=1 python experiments/paper.py --small       # digits, two seeds, minutes

Sweeps run in `--work` and go on where they were left. Of their records, what tables and figures need is kept in
OUT/paper.jsonl, from which paper.md, paper.html and the figures are made (`--render-only`: nothing is run).
"""

from __future__ import annotations

import argparse
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import paper_fig4
import paper_fig5
import paper_missing
import paper_page
import paper_table1
import paper_threshold
from bench_common import about, write_lines
from bench_page import show
from paper_measure import Row
from paper_size import Size, full, small
from paper_sweep import Sweep, loads, run_all

from mpc_appraisal.common.errors import AppraisalError

ROOT = Path(__file__).resolve().parents[1]
NEEDS = {
    "table1": ("noise", "grid", "table1"),
    "fig2": ("noise", "mismatch"),
    "fig3": ("noise",),
    "fig4": ("noise", "grid"),
    "fig5": ("mismatch",),
    "missing": ("missing",),
    "threshold": ("noise", "preflight"),
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="digits in place of MNIST and CIFAR-10, two seeds")
    parser.add_argument("--only", choices=NEEDS, help="run what this table or figure needs")
    parser.add_argument("--render-only", action="store_true", help="make the report from OUT/paper.jsonl")
    parser.add_argument("--out", type=Path, help="of the report (results/appraisal, or outputs/paper-small)")
    parser.add_argument("--work", type=Path, help="of the sweeps (outputs/paper, or outputs/paper-small)")
    parser.add_argument("--minutes", type=float, help="begin no sweep after that long; the report says what is missing")
    parser.add_argument("--seeds", type=int, default=2, help="of a small run")
    parser.add_argument("--rates", default="0.001,0.1,10", help="of a small run")
    parser.add_argument("--steps", default="1,4", help="of a small run")
    return parser


def size_of(args: Namespace, work: Path) -> Size:
    if not args.small:
        return full()
    rates, steps = tuple(map(float, args.rates.split(","))), tuple(map(int, args.steps.split(",")))
    return small(work, args.seeds, rates, steps)


def sweeps_of(size: Size, work: Path) -> list[Sweep]:
    """All of them in their order; those of table 1 need the runtimes of one rate of the grid, which set their steps."""
    grid = paper_fig4.sweeps(size)
    ladder = [sweep for sweep in grid if sweep.rate == paper_table1.FIGURE3_RATE]
    known = [row for sweep in ladder for row in sweep.rows(work)]
    first = [*paper_table1.noise(size), *paper_threshold.sweeps(size), *paper_fig5.sweeps(size)]
    first += [*paper_missing.sweeps(size), *ladder]
    return first + paper_table1.sweeps(size, known) + [sweep for sweep in grid if sweep not in ladder]


def gather(size: Size, work: Path) -> tuple[list[Row], dict[str, list[str]], list[str]]:
    """(rows, methods by job, what is missing)."""
    rows: list[Row] = []
    missing: list[str] = []
    sweeps = sweeps_of(size, work)
    for sweep in sweeps:
        found = sweep.rows(work)
        done = {row["job"] for row in found}
        left = [value for value in sweep.values if sweep.job(value) not in done]
        if left:
            missing.append(f"{sweep.name} ({sweep.axis.rpartition('.')[2]} {', '.join(map(str, left))})")
        rows += found + (paper_fig5.accuracies(sweep, work) if sweep.part == "mismatch" else [])
    if not any(sweep.part == "table1" for sweep in sweeps):
        missing.append("table 1's fine-tuning (its steps come from the grid)")
    jobs: dict[str, list[str]] = {}
    for row in rows:
        jobs.setdefault(row["job"], []).append(row["method"])
    return rows, jobs, missing


def measure(args: Namespace, parser: argparse.ArgumentParser, out: Path, work: Path) -> None:
    """Runs what is not finished, and writes the rows."""
    size, until = size_of(args, work), None if args.minutes is None else time.monotonic() + 60 * args.minutes
    parts = NEEDS[args.only] if args.only else {part for each in NEEDS.values() for part in each}
    ladder = (None, paper_table1.FIGURE3_RATE)
    begun: set[str] = set()
    for rates in (ladder, (*ladder, *size.rates)):
        # table 1's sweeps are known after the first turn
        wanted = [s for s in sweeps_of(size, work) if s.part in parts and s.rate in rates and s.name not in begun]
        wanted = [s for s in wanted if s.part != "table1" or begun]
        run_all(wanted, work, until)
        begun |= {sweep.name for sweep in wanted}
    rows, jobs, missing = gather(size, work)
    shown = Namespace(**{k: v for k, v in vars(args).items() if k in ("small", "seeds", "rates", "steps")})
    first = {"part": "about", "job": "about", "method": "", "size": "small" if args.small else "full"}
    first |= {"sizes": sizes_text(rows) | load_text(work), "jobs": jobs, "missing": missing}
    first |= about("paper.py", parser, shown, not args.small)
    write_lines(out / paper_page.FILE, [first, *rows])


def sizes_text(rows: Sequence[Row]) -> dict[str, str]:
    """What was appraised, by part, and the revisions of the records."""
    found = {}
    for part in ("noise", "mismatch", "missing"):
        row = next((r for r in rows if r["part"] == part), None)
        if row:
            seeds = len({r["seed"] for r in rows if r["part"] == part})
            text = f"{len(row['n'])} candidates of {row['n'][0]:,} rows, {row['features']} features"
            found[part] = f"{text}, {row['classes']} classes; seeds: {seeds}"
    found["revisions of the records"] = ", ".join(sorted({r["revision"] or "none" for r in rows if "revision" in r}))
    return found


def load_text(work: Path) -> dict[str, str]:
    """How busy the machine was, its own three processes counted."""
    known = sorted(loads(work).values())
    return {"load average while measuring": f"{known[0]} to {known[-1]}, by sweep"} if known else {}


def main() -> None:
    parser = arguments()
    args = parser.parse_args()
    out = args.out or ROOT / ("outputs/paper-small" if args.small else "results/appraisal")
    work = (args.work or ROOT / "outputs" / ("paper-small" if args.small else "paper")).resolve()
    try:
        if not args.render_only:
            measure(args, parser, out, work)
        page = paper_page.render(out)
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    show(page.main)


if __name__ == "__main__":
    main()
