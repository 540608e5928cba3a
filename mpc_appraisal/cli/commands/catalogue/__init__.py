"""`mpc-appraisal catalogue`: publish a listing, check data against one, and list, search and show those of a folder.

Each action is one file of this folder, and its `run` takes the arguments that follow the action's name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpc_appraisal.cli.commands.catalogue import check, list, publish, search, show
from mpc_appraisal.cli.commands.catalogue.listings import FOLDER
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.catalogue.schema import MOST_SAMPLES
from mpc_appraisal.governance.catalogue.store import NUMBERS, TEXTS

USAGE = f"""usage: mpc-appraisal catalogue publish data=FILE name=NAME [KEY=VALUE ...]
       mpc-appraisal catalogue list [in=DIR]
       mpc-appraisal catalogue search [in=DIR] [WORD ...] [FIELD>=VALUE ...]
       mpc-appraisal catalogue show NAME [in=DIR]
       mpc-appraisal catalogue check listing=FILE data=FILE [secret=FILE] [label=COLUMN] [classes=N]
                                     [record=FILE train=FILE test=FILE [model=FILE] [salt=FILE] [threshold=NUMBER]]

a catalogue is a folder of listings, one JSON file each, to be put in git or on a web server; never the data

publish: out=DIR, the catalogue (default: {FOLDER}); secret=FILE, where the salt of the commitment goes, which
         stays with the owner (default: FILE.NAME.salt beside the data); label=COLUMN, classes=N, as the data need them;
         title, description, encoding: texts; columns=file: the features' names as the file's header has them, or
         columns=A,B,... for a file without names; class_names=A,B,...: of labels 0, 1, ..., or class_names=file;
         names are compared with the buyer's, and without them columns and labels go by position and number;
         terms=TEXT, minimum_rows=N, price=N, currency=EUR, licence=TEXT, purposes=A,B,..., contact=TEXT;
         statistics=yes (rows by class, means, deviations), samples=synthetic:N (invented rows) or samples=real:N (real
         rows, for all to see), N up to {MOST_SAMPLES}: none of them by default, and each says what it reveals
search:  all words must occur and all conditions hold;
         numbers, with = != > >= < <=: {", ".join(NUMBERS)};
         texts, with = and !=: {", ".join(TEXTS)};
         quote what has < or > in it
check:   are these the data that the listing commits to? For the buyer, once data and salt are delivered, and for the
         owner before; secret=FILE, the salt (default: FILE.NAME.salt beside the data). Status 2 where they are not.
         This shows that the delivered data are the listed ones. That they are the appraised ones is the data owner's
         word, unless record=records.jsonl of the appraisal is stated with the buyer's own train=, test= or model=: then
         the answer is computed again in the clear, and status 2 says that data, model or value are others.
         salt=FILE, of the buyer's own commitment (default: FILE.inputs.salt beside its model or train=);
         threshold=NUMBER, where a bit was told. An answer that agrees may still be off within the stated error
in=DIR:  the catalogue (default: {FOLDER}). list ends with status 1 where a file is bad"""


ACTIONS: dict[str, Callable[[Sequence[str], Any], None]] = {
    "publish": publish.run,
    "list": list.run,
    "search": search.run,
    "show": show.run,
    "check": check.run,
}


def main(arguments: Sequence[str], console: Any = None) -> None:
    """Run the subcommand. Tables go to the rich console; by default to the terminal's. Raises InputError."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if arguments[0] not in ACTIONS:
        raise InputError("catalogue", shown(arguments[0]), f"one of {', '.join(ACTIONS)}")
    ACTIONS[arguments[0]](arguments[1:], console or terminal())


__all__ = ["main"]
