"""`mpc-appraisal desk`: pages on 127.0.0.1 for decisions on requests, budgets, answers, listings and candidates.

In go the folders of one owner; the command prints an address and serves until it is interrupted. A folder may be added
to `KEYS`. The desk has to be bound to 127.0.0.1 alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mpc_appraisal.cli.arguments import number, split
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.cli.desk.notify import words_of
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.reporting.table import TableCollector

USAGE = """usage: mpc-appraisal desk [requests=DIR] [ledgers=DIR] [runs=DIR]
       [catalogue=DIR] [offers=DIR] [port=N] [notify=COMMAND]

serve pages on 127.0.0.1, for this machine's user alone, until Ctrl-C. A data
owner reads the requests that wait, with what each would cost, says yes or no to
it, and sees budgets, past answers with their cards, its listings, and its
offers with what is left of them this month. A model owner compares candidates
by value, verdict and price. The command prints the address. It holds a token
and lets one browser in; then the next one is printed

requests=DIR:  the folder of the requests (default: requests)
ledgers=DIR:   the folder of the ledgers, *.ledger (default: this folder)
runs=DIR:      the folder of the runs (default: out)
catalogue=DIR: the folder of the listings (default: catalogue)
offers=DIR:    the folder of the standing offers (default: offers)
port=N:        the port; 0, the default, takes a free one
notify=COMMAND: a program with its arguments that runs for each new request,
               yes, no and answer, and is given one line of JSON on standard
               input. No shell reads it

It needs Flask: pip install 'mpc_appraisal[desk]'"""
FOLDERS = ("requests", "ledgers", "runs", "catalogue", "offers")
KEYS = (*FOLDERS, "port", "notify")


def main(arguments: Sequence[str]) -> None:
    """Serve the desk until it is interrupted.

    Raises InputError for a bad argument, and AppraisalError where Flask is not installed.
    """
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    if isinstance(terminal(), TableCollector):
        raise InputError("desk", "--json", "no --json, because the desk prints an address and serves until Ctrl-C")
    stated, others = split(arguments, KEYS)
    if others:
        raise InputError("desk", shown(others[0]), f"KEY=VALUE, each key once, of {', '.join(KEYS)}")
    for key in FOLDERS:
        if key in stated and not stated[key]:
            raise InputError(f"desk {key}", "nothing", "a folder")
    port = number("port", stated.get("port", "0"), int)
    if not (port == 0 or 1024 <= port <= 65535):
        raise InputError("port", port, "0, or a port from 1024 to 65535")
    places = Places(**{key: Path(stated[key]) for key in FOLDERS if key in stated})
    for key in FOLDERS:
        folder = getattr(places, key)
        if key in stated and folder.exists() and not folder.is_dir():
            raise InputError(f"desk {key}", shown(str(folder)), "a folder")
    notify = words_of(stated["notify"]) if "notify" in stated else None
    try:
        from mpc_appraisal.cli.desk.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("flask", "werkzeug"):
            raise
        raise AppraisalError("the desk needs Flask: pip install 'mpc_appraisal[desk]'") from error
    serve(places, port, notify)
