"""`mpc-appraisal certificates`: make a trial authority, and a folder with a certificate for each role.

In go a folder and the days of validity. Out come DIR/ROLE/ca.pem, ROLE.pem and ROLE.key for each role. These names have
to stay, because session.tls expects them. The authority's key must not be kept, so that nobody can be added later.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.mpc.net.certificates import DAYS, make_trial


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a bad argument."""
    parser = argparse.ArgumentParser(
        prog="mpc-appraisal certificates",
        description="Make a trial authority and, for each role, a folder with ca.pem, <role>.pem and <role>.key. "
        "On one machine, state session.transport=tls session.tls=DIR. Between organisations, give each its folder in a "
        "safe way. The authority's key is not kept, so that nobody can be added later.",
    )
    parser.add_argument("DIR", type=Path, help="the folder in which the folders are made")
    parser.add_argument(
        "--days", type=float, default=DAYS, help="how many days the certificates are valid (default: %(default)s)"
    )
    stated = parser.parse_args(arguments)
    for folder in make_trial(stated.DIR, stated.days):
        print(f"{folder.name}: {folder}")
    print(f"valid for {stated.days:g} days; use with session.transport=tls session.tls={stated.DIR}")
