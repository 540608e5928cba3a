"""What the desk shows of budgets: the tables of `mpc-appraisal budget show` for every ledger of the folder.

In go the folders; out come tables, and a sentence on each ledger that is not whole. Nothing is changed here: a limit is
changed by `mpc-appraisal budget set`.
"""

from __future__ import annotations

from typing import Any

from mpc_appraisal.cli.budget_preview import states_of
from mpc_appraisal.cli.commands.budget import table
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.budget.state import State, spent

LOW = 0.1  # the share of a limit from which on a page says that little is left


def low(state: State) -> list[str]:
    """Return a sentence on each budget of a counterparty of which a tenth or less is left."""
    policy, found = state.policy, []
    for row in spent(state):
        name = shown(row.counterparty, 80)
        if row.plain and row.plain_left <= LOW * policy.plain_values:
            found.append(f"{name} has {row.plain_left} of {policy.plain_values} plain values left.")
        if row.epsilon and row.epsilon_left <= LOW * policy.epsilon:
            found.append(f"{name} has epsilon {row.epsilon_left:.4g} of {policy.epsilon:g} left.")
    return found


def tables(places: Places) -> dict[str, Any]:
    """Return `ledgers` (a file's name, its table and sentences on what is nearly spent) and `bad` (sentences)."""
    states, bad = states_of(places.ledger_files())
    return {"ledgers": [(file.name, table(state), low(state)) for file, state in states.items()], "bad": bad}
