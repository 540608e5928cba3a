"""The encrypted marketplace of Song et al., "Try Before You Buy" (slides): selection, validation, cost and leaks.

    OMP_NUM_THREADS=1 MPC_APPRAISAL_DATA=DATA python experiments/marketplace.py       # MNIST, CIFAR-10; half an hour
    OMP_NUM_THREADS=1 python experiments/marketplace.py --small                       # digits, half a minute

Each part is a module with `jobs(size)`. A finished job stays in `--work`: the same command goes on where it stopped.
The rows of all finished jobs are kept in OUT/marketplace.jsonl, from which marketplace.md, marketplace.html and the
figures are made (`--render-only`: nothing is run). Networks of selection and validation are in the clear: the plaintext
of what the encrypted protocols compute.
"""

from __future__ import annotations

import argparse
import sys
import time
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import marketplace_cost
import marketplace_leaks
import marketplace_page
import marketplace_selection
import marketplace_validation
from bench_common import about, write_lines
from bench_page import show
from marketplace_size import Job, Size, full, run_all, small

from mpc_appraisal.common.errors import AppraisalError

ROOT = Path(__file__).resolve().parents[1]
PARTS: dict[str, ModuleType] = {
    "selection": marketplace_selection,
    "validation": marketplace_validation,
    "cost": marketplace_cost,
    "leak": marketplace_leaks,
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="digits in place of MNIST, and no CIFAR-10")
    parser.add_argument("--only", choices=PARTS, help="run this part alone")
    parser.add_argument("--render-only", action="store_true", help="make the report from OUT/marketplace.jsonl")
    parser.add_argument("--out", type=Path, help="of the report (results/marketplace, or outputs/marketplace-small)")
    parser.add_argument("--work", type=Path, help="of finished jobs (outputs/marketplace, or that of the report)")
    parser.add_argument("--minutes", type=float, help="begin no job after that long; the report says what is missing")
    parser.add_argument("--seeds", type=int, help="shoppers with data of their own (5; small: 2)")
    parser.add_argument("--workers", type=int, default=2, help="jobs at once, one thread each")
    return parser


def size_of(args: Namespace) -> Size:
    return small(args.seeds or 2) if args.small else full(args.seeds or 5)


def jobs_of(size: Size) -> list[Job]:
    return [job for part in PARTS.values() for job in part.jobs(size)]


def measure(args: Namespace, parser: argparse.ArgumentParser, out: Path, work: Path) -> None:
    """Runs what is not finished, and writes the rows of all that is."""
    size, until = size_of(args), None if args.minutes is None else time.monotonic() + 60 * args.minutes
    wanted = PARTS[args.only].jobs(size) if args.only else jobs_of(size)
    run_all(wanted, work, args.workers, until)
    rows, missing = [], []
    for job in jobs_of(size):
        found = job.rows(work)
        rows += found or []
        missing += [job.name] * (found is None)
    shown = Namespace(**{key: value for key, value in vars(args).items() if key in ("small", "seeds", "workers")})
    first = {"part": "about", "size": size.name, "missing": missing, "sizes": marketplace_page.sizes(size)}
    first |= about("marketplace.py", parser, shown, not args.small)
    write_lines(out / marketplace_page.FILE, [first, *rows])


def main() -> None:
    parser = arguments()
    args = parser.parse_args()
    for name in ("seeds", "workers"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name}: got {value}; expected 1 or more")
    out = args.out or ROOT / ("outputs/marketplace-small" if args.small else "results/marketplace")
    work = (args.work or ROOT / "outputs" / ("marketplace-small" if args.small else "marketplace")).resolve()
    try:
        if not args.render_only:
            measure(args, parser, out, work)
        page = marketplace_page.render(out)
    except AppraisalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    show(page.main)


if __name__ == "__main__":
    main()
