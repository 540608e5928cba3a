"""Subcommands of `mpc-appraisal`: `mpc-appraisal NAME ...` runs `main` of the module of that name in this folder.

In go the words after the name; a command prints what it finds, and raises InputError for bad arguments. A module is
imported only when its command is run, because most of them need rooms that no other command needs, and this has to stay
so. To add a command, add its module here and its name to NAMES; names that exist have to stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

Command = Callable[[Sequence[str]], None]
NAMES = (
    "approval",
    "budget",
    "catalogue",
    "certificates",
    "cost",
    "example",
    "market",
    "overlap",
    "preflight",
    "recipe",
)


def _command(name: str) -> Command:
    def run(arguments: Sequence[str]) -> None:
        import_module(f"{__name__}.{name}").main(arguments)

    return run


COMMANDS: dict[str, Command] = {name: _command(name) for name in NAMES}
