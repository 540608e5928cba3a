"""Random transformations: RTAS, RTAS-fast and InstaHide, published and measured, each with the attacks on it.

    OMP_NUM_THREADS=1 MPC_APPRAISAL_DATA=DATA python experiments/transformations.py     # MNIST, CIFAR-10; two hours
    OMP_NUM_THREADS=1 python experiments/transformations.py --small                     # digits, minutes

Each part is a module with `measure(size, work)`, run as one job or more. A finished job stays in `--work`: the same
command goes on where it stopped. The rows of all finished jobs are kept in OUT/transformations.jsonl, from which
transformations.md, transformations.html and the figures are made (`--render-only`: nothing is run).
"""

from __future__ import annotations

import argparse
import sys
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import ModuleType

import transformations_attacks
import transformations_instahide
import transformations_page
import transformations_protocols
import transformations_spu
import transformations_tables
from bench_common import about, write_lines
from bench_page import show
from transformations_size import Job, Size, full, run_all, small

from mpc_appraisal.common.errors import AppraisalError

ROOT = Path(__file__).resolve().parents[1]
PARTS: dict[str, ModuleType] = {
    "protocol": transformations_protocols,
    "attack": transformations_attacks,
    "instahide": transformations_instahide,
    "table": transformations_tables,
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="digits in place of MNIST and CIFAR-10")
    parser.add_argument("--only", choices=PARTS, help="run this part alone")
    parser.add_argument("--render-only", action="store_true", help="make the report from OUT/transformations.jsonl")
    parser.add_argument("--out", type=Path, help="of the report (results/transformations, outputs/..-small)")
    parser.add_argument("--work", type=Path, help="of finished jobs (outputs/transformations, or that of the report)")
    parser.add_argument("--minutes", type=float, help="begin no job after that long; the report says what is missing")
    parser.add_argument("--spu-python", metavar="PYTHON", help="an interpreter that has spu: a rival in tables 1 to 4")
    parser.add_argument("--seeds", type=int, help="turns of appraisals, a seed each (3; small: 1)")
    return parser


def size_of(args: Namespace) -> Size:
    return small(args.seeds or 1) if args.small else full(args.seeds or 3)


def jobs_of(size: Size, part: str, spu_python: str | None = None) -> list[Job]:
    if part == "protocol":
        return transformations_protocols.jobs(size)
    found = [Job(part, PARTS[part].measure, (size.name,))]
    if part == "table" and spu_python:  # a job is known by its arguments: another interpreter is not another job
        found.append(Job("table-spu", partial(transformations_spu.measure, spu_python), (size.name,)))
    return found


def measure(args: Namespace, parser: argparse.ArgumentParser, out: Path, work: Path) -> None:
    """Runs what is not finished, and writes the rows of all that is."""
    size, until = size_of(args), None if args.minutes is None else time.monotonic() + 60 * args.minutes
    jobs = {part: jobs_of(size, part, args.spu_python) for part in PARTS}
    run_all([job for part, some in jobs.items() if args.only in (None, part) for job in some], work, until)
    rows, missing = [], []
    for job in (job for some in jobs.values() for job in some):
        found = job.rows(work)
        rows += found or []
        missing += [job.name] * (found is None)
    shown = Namespace(**{key: value for key, value in vars(args).items() if key in ("small", "seeds", "spu_python")})
    first = {"part": "about", "size": size.name, "missing": missing, "sizes": transformations_page.sizes(size)}
    first |= about("transformations.py", parser, shown, not args.small)
    write_lines(out / transformations_page.FILE, [first, *rows])


def main() -> None:
    parser = arguments()
    args = parser.parse_args()
    if args.seeds is not None and args.seeds < 1:
        parser.error(f"--seeds: got {args.seeds}; expected 1 or more")
    out = args.out or ROOT / ("outputs/transformations-small" if args.small else "results/transformations")
    work = (args.work or ROOT / "outputs" / f"transformations{'-small' * args.small}").resolve()
    try:
        if not args.render_only:
            measure(args, parser, out, work)
        page = transformations_page.render(out)
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    show(page.main)


if __name__ == "__main__":
    main()
