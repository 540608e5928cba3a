"""`mpc-appraisal market enrol`: the authority draws a seller's secrets and writes them into one file for this seller.

In go the authority's folder, the seller's name, the plan of the market or the network that the data will be used with,
and perhaps the seller's certificate; out comes SELLER.enrolment. Defaults and help may change. The file holds secrets,
so that nothing but its place may be printed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mpc_appraisal.cli.commands.market.options import add_cap_share, add_network, network_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.plan_file import read_plan
from mpc_appraisal.marketplace.uploads.enrolment import SCHEMES, enrol
from mpc_appraisal.marketplace.uploads.seller_certificate import certified_key


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
    parser.add_argument("--plan", type=Path, help="the market's plan.json, which states all that follows")
    add_network(parser)
    parser.add_argument(
        "--certificate", type=Path, help="the seller's certificate; its key signs in place of a drawn one"
    )
    parser.add_argument("--ca", type=Path, help="the ca.pem that has signed the seller's certificate")
    add_cap_share(parser)


def run(stated: argparse.Namespace) -> None:
    """Enrol one seller, and print where the seller's file is. Raises InputError for a bad argument."""
    if stated.plan is None:
        architecture, scheme = network_of(stated), SCHEMES[stated.scheme or "lwe"]()
    else:
        plan = read_plan(stated.plan)
        architecture, scheme = plan.architecture, plan.protocol.scheme
        for name in ("network", "image", "classes", "scheme"):
            if getattr(stated, name) is not None:
                raise InputError(f"--{name}", getattr(stated, name), "--plan alone, which states it")
    if (stated.certificate is None) != (stated.ca is None):
        raise InputError("--certificate", stated.certificate, "--certificate and --ca, or neither")
    key = None
    if stated.certificate is not None:
        key = certified_key(stated.certificate, stated.ca, stated.SELLER)
    path = enrol(stated.STATE, stated.SELLER, architecture, stated.out, scheme, stated.cap_share, key)
    print(f"{path}: secrets of {stated.SELLER}, for it alone")
