"""Subcommands of `mpc-appraisal` that are no appraisal: `mpc-appraisal NAME ...`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from mpc_appraisal.cli.commands import approval, budget, cost, example
from mpc_appraisal.cli.commands import catalogue as command
from mpc_appraisal.cli.commands import preflight as preflight_command
from mpc_appraisal.mpc.net.certificates import DAYS, make_trial


def certificates(arguments: Sequence[str]) -> None:
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


def catalogue(arguments: Sequence[str]) -> None:
    """Publish a listing of data; list, search and show listings."""
    from rich.console import Console

    from mpc_appraisal.cli.console import wide

    command.main(arguments, wide(Console()))


def approve(arguments: Sequence[str]) -> None:
    """List the requests that wait for the data owner, show one, and say yes or no."""
    from rich.console import Console

    from mpc_appraisal.cli.console import wide

    approval.main(arguments, wide(Console()))


def market(arguments: Sequence[str]) -> None:
    """The encrypted marketplace between organisations: enrol, upload, join."""
    from mpc_appraisal.cli.commands import market as marketplace

    marketplace.main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "approval": approve,
    "budget": budget.main,
    "catalogue": catalogue,
    "certificates": certificates,
    "cost": cost.main,
    "example": example.main,
    "market": market,
    "preflight": preflight_command.main,
}
