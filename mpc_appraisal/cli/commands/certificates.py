"""`mpc-appraisal certificates`: make a trial authority, and a folder with a certificate for each role.

In go a folder and the days of validity, and for the encrypted marketplace the names of its sellers. Out come
DIR/ROLE/ca.pem, ROLE.pem and ROLE.key for each role, and so for each seller. These names have to stay, because
session.tls expects them. The authority's key must not be kept, so that nobody can be added later.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.net.certificates import DAYS, MARKET, make_trial


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
    parser.add_argument(
        "--market",
        action="store_true",
        help="make the certificates of the encrypted marketplace, for shopper, cloud and authority",
    )
    parser.add_argument(
        "--sellers",
        nargs="+",
        default=[],
        metavar="NAME",
        help="with --market: make a certificate for each of these sellers too, with a key that signs its upload",
    )
    stated = parser.parse_args(arguments)
    if stated.sellers and not stated.market:
        raise InputError("--sellers", " ".join(stated.sellers), "--market beside it: only the marketplace has sellers")
    if stated.sellers:
        from mpc_appraisal.marketplace.plan import (
            check_name,
        )  # it imports torch, which trials without sellers go without

        for seller in stated.sellers:
            check_name(seller)
    for folder in make_trial(stated.DIR, stated.days, tuple(MARKET) if stated.market else ROLES, stated.sellers):
        print(f"{folder.name}: {folder}")
    app = f"session.transport=tls session.tls={stated.DIR}"
    use = f"mpc-appraisal market join ROLE ... --tls {stated.DIR}" if stated.market else app
    print(f"valid for {stated.days:g} days; use with {use}")
