"""What the desk shows of budgets: the tables of `mpc-appraisal budget show` for every ledger of the folder.

In go the folders; out come tables, and a sentence on each ledger that is not whole. Nothing is changed here: a limit is
changed by `mpc-appraisal budget set`.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.cli.budget_preview import states_of
from mpc_appraisal.cli.commands.budget import table
from mpc_appraisal.cli.desk.places import Places


def tables(places: Places) -> dict[str, Any]:
    """Return `ledgers` (pairs of a file's name and its table) and `bad` (sentences)."""
    states, bad = states_of(places.ledger_files())
    return {"ledgers": [(file.name, table(state)) for file, state in states.items()], "bad": bad}
