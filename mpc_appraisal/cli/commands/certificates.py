"""`mpc-appraisal certificates`: a trial authority, and a folder with a certificate for each role."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.mpc.net.certificates import DAYS, make_trial


def main(arguments: Sequence[str]) -> None:
    """Make a trial authority and a folder with a certificate for each role."""
    parser = argparse.ArgumentParser(
        prog="mpc-appraisal certificates",
        description="Make a trial authority and, for each role, a folder with ca.pem, <role>.pem and <role>.key. "
        "On one machine, state session.transport=tls session.tls=DIR; between organisations, give each its folder, "
        "over a safe way. The authority's key is not kept: nobody can be added later.",
    )
    parser.add_argument("DIR", type=Path, help="where the folders go")
    parser.add_argument("--days", type=float, default=DAYS, help="validity (default: %(default)s)")
    stated = parser.parse_args(arguments)
    for folder in make_trial(stated.DIR, stated.days):
        print(f"{folder.name}: {folder}")
    print(f"valid for {stated.days:g} days; use with session.transport=tls session.tls={stated.DIR}")
