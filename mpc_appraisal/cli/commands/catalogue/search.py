"""`mpc-appraisal catalogue search`: print a table of the listings in which all words occur and all conditions hold.

In go the catalogue (a folder of listings), words and conditions such as 'rows>=200'; out comes the table. The table may
change. What words and conditions mean is defined in `governance.catalogue.store`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpc_appraisal.cli.commands.catalogue.listings import folder_of, imported_table, name_bad, name_site, table_of
from mpc_appraisal.governance.catalogue.store import holds, matches, read_catalogue, read_descriptions
from mpc_appraisal.reporting.report import print_table


def run(arguments: Sequence[str], console: Any) -> None:
    """Print the table, and name bad files on standard error."""
    folder, terms = folder_of(arguments)
    listings, bad = read_catalogue(folder)
    found = [listing for listing in listings if matches(listing, terms)]
    print_table(table_of(f"{len(found)} of {len(listings)} listings", found), console)
    name_site(folder, listings)
    imported, worse = read_descriptions(folder)
    others = [one for one in imported if holds(one.fields(), one.words(), terms)]
    if others:
        print_table(imported_table(others), console)
    name_bad(bad + worse)
