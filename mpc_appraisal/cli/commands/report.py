"""`mpc-appraisal report`: one page on sweeps and runs, or two sweeps side by side.

    mpc-appraisal report out/sweep
    mpc-appraisal report machine-1 machine-2 out=report
    mpc-appraisal report --compare out/fast out/stock

Folders of runs or sweeps go in, finished or not. Out come report.html, report.md, figures and tables as files in one
folder, and on the terminal the main tables and the page's path. The names of the arguments have to stay. This command
reads records and computes no appraisal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.cli.arguments import split
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.reporting.run_folders import FAILED, FAILURE, RECORDS

COMPARE = ("--compare", "compare")
USAGE = """usage: mpc-appraisal report DIR ... [out=DIR]
       mpc-appraisal report --compare DIR DIR [out=DIR]

one page on all runs in these folders: agreement with the truth by method and
condition, paired comparisons, cost, what was opened, what failed, and an index;
of protocols that were attacked, what they cost against what they leak

DIR        a folder of a sweep or of a run; several are read together
out        the folder of the page; by default the sweep's own, or report/ here
           for several folders, and report/ in the folder of a single run
--compare  set two sweeps side by side, with differences and ratios"""


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a bad argument or a folder without runs."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    stated, words = split(arguments, ("out",))
    folders = [word for word in words if word not in COMPARE]
    comparing = len(folders) < len(words)
    for word in folders:
        if "=" in word and not Path(word).is_dir():
            raise InputError("arguments", word, "folders, out=DIR and --compare")
        if word.startswith("-"):
            raise InputError("arguments", word, "--compare, or no other option")
    if comparing and len(folders) != 2:
        raise InputError("--compare", " ".join(folders) or "nothing", "two folders")
    if not folders:
        raise InputError("arguments", " ".join(arguments), "one or more folders of sweeps or runs")
    out = Path(stated["out"]) if "out" in stated else default_folder(folders)
    try:
        compare(folders, out) if comparing else report(folders, out)
    except OSError as error:
        raise InputError("out", f"{out} ({error.strerror or error})", "a folder that can be written") from error


def default_folder(folders: Sequence[str]) -> Path:
    """Return where a report goes: into a sweep's own folder, but never over the report of a single run."""
    if len(folders) > 1:
        return Path("report")
    only = Path(folders[0])
    return only / "report" if (only / RECORDS).exists() else only


def report(folders: Sequence[str], out: Path) -> None:
    """Write the report of these folders, and print its main tables and its path."""
    from mpc_appraisal.cli.console import terminal
    from mpc_appraisal.reporting.learning_sweep import leak_points, short_table
    from mpc_appraisal.reporting.report import print_table
    from mpc_appraisal.reporting.sweep_data import read_sweeps
    from mpc_appraisal.reporting.sweep_report import (
        agreement_matrix,
        failed_table,
        in_short,
        paired_cells,
        write_report_of,
    )

    sweep = read_sweeps(folders)
    page = write_report_of(sweep, out)[0]
    tables = [agreement_matrix(sweep), paired_cells(sweep)] if len(sweep.results) else []
    tables.append(short_table(leak_points(sweep.runs)))
    for table in (*tables, failed_table(sweep)):
        if table.rows:
            print_table(table, terminal())
    _end(in_short(sweep), page)


def compare(folders: Sequence[str], out: Path) -> None:
    """Write the comparison of two folders, and print its tables and its path."""
    from mpc_appraisal.cli.console import terminal
    from mpc_appraisal.reporting.report import print_table
    from mpc_appraisal.reporting.sweep_compare import write_comparison

    paths, page = write_comparison(*folders, out)
    for table, _ in page.parts:
        print_table(table, terminal())
    _end(page.short, paths[0])


def _end(sentences: Sequence[str], page: Path) -> None:
    from mpc_appraisal.cli.console import say

    for sentence in sentences:
        say(sentence)
    print(f"report: {os.path.relpath(page)}")


def at_the_end_of(sweep: Path) -> None:
    """Write the report of a sweep that has just ended into its folder, and print the page's path.

    A sweep in which every job failed has a report too, of what failed. Nothing is written for a sweep of markets alone
    without attacks. A report that cannot be written is a warning on standard error.
    """
    try:
        if next((path for name in (RECORDS, FAILURE) for path in sweep.rglob(name)), None) is None:
            return
        from mpc_appraisal.reporting.sweep_data import read_sweeps
        from mpc_appraisal.reporting.sweep_report import in_short, write_report_of

        found = read_sweeps([sweep])
        if not len(found.results) and not any(r.learning or r.attacked or r.state == FAILED for r in found.runs):
            return
        page = write_report_of(found, sweep)[0]
        _end(in_short(found), page)
    except Exception as error:  # The sweep's results are whole, whatever its report ran into.
        text = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        print(f"warning: the report of the sweep could not be written: {text}", file=sys.stderr, flush=True)
