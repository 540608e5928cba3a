"""`mpc-appraisal recipe`: propose a recipe for a table, check a table against one, and show what one states.

A recipe is a YAML file that states how the rows of a raw table become features; both sides of an appraisal use the same
one. Each action is one file of this folder, and its `run` takes the arguments that follow the action's name and a rich
console for tables. To add an action, add its file to `ACTIONS`. No action may write anything but what it prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpc_appraisal.cli.commands.recipe import check, infer, show
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown

USAGE = """usage: mpc-appraisal recipe infer FILE [--label COLUMN] [--round | --ranges]
               [--least N] [--delimiter C] > recipe.yaml
       mpc-appraisal recipe check FILE --recipe recipe.yaml
       mpc-appraisal recipe show recipe.yaml

A recipe states how the rows of a raw table (.csv, .parquet or .npz) become
features. All sides of an appraisal name the same recipe as recipe=FILE, and its
digest is compared before anything else.

infer: propose a recipe for the model owner's own table, and print it. What it
       discloses of the rows (levels, means, scales) is said on standard error
       before.
       --label COLUMN is the target (default: label). --round states scales to
       two digits and means to the first digit of their scale. --ranges states
       the middle and half the width of a range with ends of one digit in their
       place. --least N states only levels that N rows or more have; others
       count as other. --delimiter C says what separates the fields of a CSV
       file: ',' (the default), ';', '|' or '\\t' for a tab. The file can be
       edited before it is given to the other side
check: read a table by a recipe, and print its sizes. All that is wrong is named
       at once, by column, and the status is 2
show:  print what a recipe states, and its digest"""

ACTIONS: dict[str, Callable[[Sequence[str], Any], None]] = {"infer": infer.run, "check": check.run, "show": show.run}


def main(arguments: Sequence[str], console: Any = None) -> None:
    """Run the subcommand. Tables go to the rich console; by default to the terminal's.

    Raises InputError for a bad argument, and what the action raises.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if arguments[0] not in ACTIONS:
        raise InputError("recipe", shown(arguments[0]), f"one of {', '.join(ACTIONS)}")
    ACTIONS[arguments[0]](arguments[1:], console or terminal())


__all__ = ["main"]
