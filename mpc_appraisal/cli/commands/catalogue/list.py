"""`mpc-appraisal catalogue list`: print a table of all listings of a catalogue, and of what it has imported.

In goes the catalogue, a folder of listings, and out come the tables. Status 1 says that a file of the folder is bad.
The table may change; a bad file has to be named and must not keep the others from being listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.commands.catalogue.listings import folder_of, imported_table, name_bad, name_site, table_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.store import read_catalogue, read_descriptions
from mpc_appraisal.reporting.report import print_table


def run(arguments: Sequence[str], console: Any) -> None:
    """Print the table, and name bad files on standard error.

    Raises InputError for any other argument than in=DIR, and SystemExit with status 1 if a file is bad.
    """
    folder, others = folder_of(arguments)
    if others:
        raise InputError("list", shown(" ".join(others)), "in=DIR alone (to choose among listings: search)")
    listings, bad = read_catalogue(folder)
    print_table(table_of(f"Catalogue of {len(listings)}", listings), console)
    name_site(folder, listings)
    imported, worse = read_descriptions(folder)
    if imported:
        print_table(imported_table(imported), console)
    if name_bad(bad + worse):
        raise SystemExit(1)
