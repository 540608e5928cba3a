"""Subcommands of `mpc-appraisal` that are no appraisal: `mpc-appraisal NAME ...`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mpc_appraisal.cli.commands import approval, budget, catalogue, certificates, cost, example, preflight


def run_catalogue(arguments: Sequence[str]) -> None:
    """Publish a listing of data; list, search and show listings."""
    from rich.console import Console

    from mpc_appraisal.cli.console import wide

    catalogue.main(arguments, wide(Console()))


def run_approval(arguments: Sequence[str]) -> None:
    """List the requests that wait for the data owner, show one, and say yes or no."""
    from rich.console import Console

    from mpc_appraisal.cli.console import wide

    approval.main(arguments, wide(Console()))


def run_market(arguments: Sequence[str]) -> None:
    """The encrypted marketplace between organisations: enrol, upload, join."""
    from mpc_appraisal.cli.commands.market import main  # with the marketplace, which no other command needs

    main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "approval": run_approval,
    "budget": budget.main,
    "catalogue": run_catalogue,
    "certificates": certificates.main,
    "cost": cost.main,
    "example": example.main,
    "market": run_market,
    "preflight": preflight.main,
}
