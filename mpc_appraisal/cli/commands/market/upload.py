"""`mpc-appraisal market upload`: a seller encrypts images and labels into one signed file.

In go the seller's data and the file from the authority with the seller's secrets; out comes SELLER.upload, which may
travel in the open. The seller takes no further part. Nothing of the data may be printed but its size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mpc_appraisal.cli.commands.market.options import ARRAYS, read_images
from mpc_appraisal.marketplace.plan import SellerInput
from mpc_appraisal.marketplace.plan_file import read_plan
from mpc_appraisal.marketplace.uploads.seller import upload
from mpc_appraisal.marketplace.uploads.seller_certificate import private_key


def add(actions: argparse._SubParsersAction) -> None:
    """Add the action's arguments."""
    parser = actions.add_parser("upload", help="at a seller: encrypt images and labels into one signed file")
    parser.set_defaults(run=run)
    parser.add_argument("DATA", type=Path, help=ARRAYS)
    parser.add_argument("ENROLMENT", type=Path, help="the file from the authority")
    parser.add_argument("--plan", type=Path, help="the market's plan.json, for which the upload is checked")
    parser.add_argument("--key", type=Path, help="the seller's own key, if it was enrolled with a certificate")
    parser.add_argument(
        "--out", type=Path, default=Path("."), help="the folder for SELLER.upload, which may travel in the open"
    )


def run(stated: argparse.Namespace) -> None:
    """Write one upload, and print its size. Raises InputError for a bad file."""
    x, y = read_images(stated.DATA, "data")
    plan = None if stated.plan is None else read_plan(stated.plan)
    key = None if stated.key is None else private_key(stated.key)
    receipt = upload(SellerInput(stated.ENROLMENT.stem, x, y), stated.ENROLMENT, stated.out, plan, key)
    print(f"{receipt.file}: {receipt.rows} rows, {receipt.bytes} bytes, {receipt.seconds:.2f} s")
