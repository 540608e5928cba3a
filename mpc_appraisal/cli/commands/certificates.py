"""`mpc-appraisal certificates`: make a party's own key and certificate, or a trial authority with all certificates.

With --own, in goes a role and out come DIR/ROLE.key and DIR/ROLE.pem. With --trust, in go the certificates of the two
other parties, and out comes DIR/ca.pem. Otherwise a trial is made: in go the days of validity, and for the encrypted
marketplace the names of its sellers, and out come DIR/ROLE/ca.pem, ROLE.pem and ROLE.key for each role, and so for each
seller. These names have to stay, because session.tls expects them. The authority's key must not be kept, so that nobody
can be added later.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import ROLES
from mpc_appraisal.mpc.net.certificates import DAYS, MARKET, make_trial
from mpc_appraisal.mpc.net.own_certificates import make_own, trust


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a bad argument."""
    parser = argparse.ArgumentParser(
        prog="mpc-appraisal certificates",
        description="Between organisations each party makes its own key with --own ROLE, sends DIR/ROLE.pem to the "
        "two others, and names theirs with --trust; session.tls=DIR then uses the folder. For a trial on one machine, "
        "`mpc-appraisal certificates DIR` makes an authority and, for each role, a folder with ca.pem, <role>.pem and "
        "<role>.key. Whoever makes a trial holds all keys. The authority's key is not kept, so that nobody can be "
        "added later.",
    )
    parser.add_argument("DIR", type=Path, help="the folder in which the folders are made")
    parser.add_argument("--own", metavar="ROLE", help="make this party's own key and certificate, without an authority")
    parser.add_argument(
        "--trust",
        nargs=2,
        type=Path,
        metavar="FILE",
        help="write DIR/ca.pem from this party's own certificate in DIR and those of the two others",
    )
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
    if stated.own is not None or stated.trust:
        _alone(stated)
        return
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


def _alone(stated: argparse.Namespace) -> None:
    """Make this party's own certificate, or trust those of the others. Raises InputError for a bad argument."""
    if stated.market or stated.sellers:
        raise InputError("--market", "--own or --trust beside it", "neither, because the marketplace has an authority")
    if stated.own is not None:
        if stated.trust:
            raise InputError("--trust", "--own beside it", "--own first, and --trust once the others' files are here")
        certificate, digest = make_own(stated.DIR, stated.own, stated.days)
        print(f"certificate: {certificate} (send it to the two others)")
        print(f"key: {certificate.with_suffix('.key')} (secret; it stays in this folder)")
        print(f"fingerprint: {digest} (read it out to the two others, over another way than the file's)")
        return
    for role, digest in trust(stated.DIR, stated.trust).items():
        print(f"{role}: {digest}")
    print(f"Compare each fingerprint with its owner, for example on the telephone. Use with session.tls={stated.DIR}")
