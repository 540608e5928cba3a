"""`mpc-appraisal market`: the marketplace between organisations. Files travel as they like; three parties meet online.

anybody     example    writes files, a plan and certificates of all organisations, for a first try
anybody     plan       prints the plan, which all organisations have as a file
shopper     network    trains the plan's network on own rows, or imports it from PyTorch, and writes its file
authority   enrol      writes a seller's secrets into one file, for the seller alone
seller      upload     writes one signed file of ciphertexts; then the seller is done
three       join       shopper, cloud and authority meet, each with the same plan file and inputs of its own

The shopper has a network and buys rows for it, the cloud computes on encrypted rows, and the key authority issues keys.
Each action is one file of this folder, which adds its arguments to the parser (`add`) and runs (`run`). To add an
action, add its file to `main`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mpc_appraisal.cli.commands.market import enrol, example, join, network, plan, upload


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError, DisagreementError and PeerError; see `take_part`."""
    parser = argparse.ArgumentParser(prog="mpc-appraisal market", description="The encrypted marketplace.")
    actions = parser.add_subparsers(dest="action", required=True)
    for action in (example, plan, network, enrol, upload, join):
        action.add(actions)
    stated = parser.parse_args(arguments)
    stated.run(stated)


__all__ = ["main"]
