"""`mpc-appraisal market enrol`: the authority draws a seller's secrets and writes them into one file for this seller.

In go the authority's folder, the seller's name and the network that the data will be used with; out comes
SELLER.enrolment. Defaults and help may change. The file holds secrets, so that nothing but its place may be printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mpc_appraisal.cli.commands.market.options import add_cap_share
from mpc_appraisal.marketplace.plan_file import architecture_of
from mpc_appraisal.marketplace.uploads.enrolment import SCHEMES, enrol
from mpc_appraisal.models.networks import ARCHITECTURES


def add(actions: argparse._SubParsersAction) -> None:
    """Add the action's arguments."""
    parser = actions.add_parser("enrol", help="at the authority: draw a seller's secrets and write them for it")
    parser.set_defaults(run=run)
    parser.add_argument(
        "STATE", type=Path, help="the authority's folder, which holds all secrets; it is made if it is not there"
    )
    parser.add_argument("SELLER", help="the seller's name: lower-case letters, digits, - and _")
    parser.add_argument(
        "--out", type=Path, default=Path("."), help="the folder for SELLER.enrolment, which is for the seller alone"
    )
    parser.add_argument(
        "--network", choices=sorted(ARCHITECTURES), default="cnn", help="the network (default: %(default)s)"
    )
    parser.add_argument(
        "--image", type=int, nargs=3, metavar=("CHANNELS", "HEIGHT", "WIDTH"), help="the size of an image in pixels"
    )
    parser.add_argument("--classes", type=int, help="the number of classes")
    parser.add_argument(
        "--scheme", choices=sorted(SCHEMES), default="lwe", help="the functional encryption (default: %(default)s)"
    )
    add_cap_share(parser)


def run(stated: argparse.Namespace) -> None:
    """Enrol one seller, and print where the seller's file is. Raises InputError for a bad argument."""
    architecture = architecture_of(stated.network, stated.image, stated.classes)
    path = enrol(stated.STATE, stated.SELLER, architecture, stated.out, SCHEMES[stated.scheme](), stated.cap_share)
    print(f"{path}: secrets of {stated.SELLER}, for it alone")
