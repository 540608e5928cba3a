"""`mpc-appraisal catalogue import`: keep somebody else's description of data, a Croissant file, for the search.

In go the file and the catalogue (a folder of listings); out comes a file in its folder `imported`, and a line that
names what was left out. Nothing is fetched from the network. The file is foreign, so that every text of it has to be
printed through `shown`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.arguments import split
from mpc_appraisal.cli.commands.catalogue.listings import folder_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.imported import keep, read_croissant

MOST_NAMED = 20  # keys that the line on what was left out names


def run(arguments: Sequence[str], console: Any) -> None:
    """Write the description into the catalogue. Raises InputError for a bad argument or a bad file."""
    catalogue, left = folder_of(arguments)
    stated, others = split(left, ("name",))
    if len(others) != 1 or not others[0]:
        raise InputError("import", shown(" ".join(others)) or "nothing", "one Croissant file, in=DIR and name=NAME")
    imported, ignored = read_croissant(others[0], stated.get("name"))
    print(f"imported: {keep(imported, catalogue)} ({len(imported.columns)} columns)")
    if ignored:
        named = ", ".join(shown(key) for key in ignored[:MOST_NAMED])
        more = f" and {len(ignored) - MOST_NAMED} more" if len(ignored) > MOST_NAMED else ""
        print(f"left out: {named}{more}")
