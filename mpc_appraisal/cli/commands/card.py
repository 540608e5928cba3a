"""`mpc-appraisal card`: check a card by the certificates of both owners.

In go the file of a card and two certificates; out come what both owners signed, or status 2 and what is wrong. Nothing
is written. A card that passed has to pass in later versions that render it alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from mpc_appraisal.cli.console import terminal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import OWNERS
from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.card_check import Checked, check_card
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table


def _certificates(stated: Sequence[str]) -> dict[str, x509.Certificate]:
    """Return the certificates that ROLE=FILE names, by role. Raises InputError for anything else."""
    found = {}
    for one in stated:
        role, _, place = one.partition("=")
        if role not in OWNERS or not place or role in found:
            raise InputError("ROLE=FILE", shown(one), "model_owner=FILE and data_owner=FILE, once each")
        try:
            found[role] = x509.load_pem_x509_certificate(Path(place).read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(role, Path(place).name, "a certificate in PEM form") from error
    if missing := [role for role in OWNERS if role not in found]:
        raise InputError(missing[0], None, "the file of this owner's certificate, as model_owner.pem")
    return found


def table(checked: Checked) -> Table:
    """Return a table of what both owners signed."""
    content = checked.receipt.content
    rows = [("candidate", shown(content["candidate"]))]
    for one in checked.records:
        told = one.answer if one.method in checked.receipt.salts else None
        rows.append((f"answer of {shown(one.method)}", told or "not shown to this party"))
    if "offer" in content:
        rows.append(("under the offer", f"{content['offer']['name']} ({content['offer']['digest']})"))
    rows += [("request", content["request"]), ("configuration", content["config"])]
    for role, head in content["ledgers"].items():
        owner, signed = role.replace("_", " "), checked.receipt.signatures[role]
        rows += [
            (f"signed by the {owner}", signed["time"]),
            (f"the {owner}'s key", content["keys"][role]),
            (f"the {owner}'s ledger", head or DASH),
        ]
    notes = [
        "The times are those that the owners state. Keys, request, configuration and ledgers are shown by SHA-256."
    ]
    if checked.own:
        notes.append("The decision and its caveats are the card's owner's own words, which nobody signed.")
    return Table("Signed by both owners", ("what", "value"), "ll", rows, tuple(notes))


def main(arguments: Sequence[str]) -> None:
    """Run the subcommand. Raises InputError for a card that is not good."""
    parser = argparse.ArgumentParser(
        prog="mpc-appraisal card",
        description="Check a card that a session over TLS has written. verify shows that the page is the one that its "
        "records give, and that the holders of both certificates signed its answers, its request and the last hashes "
        "of their ledgers. It needs no other file. Status 2 says that the card is not good.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="verify")
    verify = commands.add_parser("verify", help="check a card by the certificates of both owners")
    verify.add_argument("CARD", type=Path, help="the card's file, in HTML or Markdown")
    verify.add_argument("CERTIFICATE", nargs=2, metavar="ROLE=FILE", help="model_owner=FILE and data_owner=FILE")
    stated = parser.parse_args(arguments)
    print_table(table(check_card(stated.CARD, _certificates(stated.CERTIFICATE))), terminal())


__all__ = ["main", "table"]
