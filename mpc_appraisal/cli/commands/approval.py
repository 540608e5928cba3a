"""`mpc-appraisal approval`: the data owner reads the requests for an appraisal, and says yes or no to each.

A request states what an appraisal will compute and open, and waits in a folder until the data owner answers. In go the
folder of requests and the words of the command. Out comes a table, a request in words, or an answer (a file in the same
folder) that the waiting appraisal reads. The looks may change. A text that the other side may have chosen has to be
printed through `shown`, because such a text could hold control characters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpc_appraisal.cli.arguments import split
from mpc_appraisal.cli.console import terminal
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.queue import FOLDER, PendingRequest, RequestQueue
from mpc_appraisal.reporting.report import print_table
from mpc_appraisal.reporting.table import DASH, Table

USAGE = f"""usage: mpc-appraisal approval list [in=DIR]
       mpc-appraisal approval show ID [in=DIR]
       mpc-appraisal approval yes ID [in=DIR]
       mpc-appraisal approval no ID [in=DIR] [reason=TEXT]

the data owner's answer to a request for an appraisal, before anything private
is shared

list:    print all requests, each of which is pending, yes (not used yet), no,
         used, or expired: its yes was not used in time, which is a week or what
         party.yes_expires states, and it waits for another. Status 1 says that
         a request is damaged
show:    print the request in words
yes:     let one appraisal start, exactly as the request says. A repeat has to
         be requested again
no:      refuse the request. To take back a no, or a yes that is not used yet,
         remove DIR/ID.no or DIR/ID.yes
in=DIR:  the folder of the requests (default: {FOLDER})
reason=TEXT: a reason, which is kept with the no and is not sent to the other
             side"""


def main(arguments: Sequence[str], console: Any = None) -> None:
    """Run the subcommand. Tables go to the rich console; by default to the terminal's.

    Raises InputError for a bad argument, and SystemExit with status 1 if `list` meets a damaged request.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return
    actions: dict[str, Callable[[Sequence[str], Any], None]] = {"list": _list, "show": _show, "yes": _yes, "no": _no}
    if arguments[0] not in actions:
        raise InputError("approval", shown(arguments[0]), f"one of {', '.join(actions)}")
    actions[arguments[0]](arguments[1:], console or terminal())


def _stated(
    action: str, arguments: Sequence[str], ids: int, *keys: str
) -> tuple[RequestQueue, list[str], dict[str, str]]:
    """Return the queue, the ids, and the values of the arguments KEY=VALUE."""
    stated, left = split(arguments, ("in", *keys))
    if len(left) != ids or any("=" in one for one in left) or not stated.get("in", FOLDER):
        expected = " ".join(["ID"] * ids + [f"[{key}=...]" for key in ("in", *keys)])
        raise InputError(f"approval {action}", shown(" ".join(arguments)) or "nothing", expected)
    return RequestQueue(stated.get("in", FOLDER)), left, stated


def _list(arguments: Sequence[str], console: Any) -> None:
    queue, _, _ = _stated("list", arguments, 0)
    found = queue.all()
    damaged = [asked for asked in found if asked.request is None]
    header = ("id", "state", "counterparty", "methods", "candidates", "release", "time")
    waiting = sum(asked.state in ("pending", "expired") for asked in found)
    title = f"{len(found)} request{'s' * (len(found) != 1)}, {waiting} pending"
    notes = tuple(f"{asked.id}: {shown(asked.reason, 300)}" for asked in damaged)
    print_table(Table(title, header, "l" * len(header), list(map(_row, found)), notes), console)
    if damaged:
        raise SystemExit(1)


def _row(asked: PendingRequest) -> tuple[str, ...]:
    if asked.request is None:
        return (asked.id, asked.state, *(DASH,) * 5)
    return (
        asked.id,
        asked.state,
        shown(asked.counterparty, 30),
        shown(", ".join(asked.request.methods), 60),
        shown(", ".join(asked.request.candidates), 60),
        asked.request.content["release"]["kind"],
        shown(asked.time),
    )


def _show(arguments: Sequence[str], console: Any) -> None:
    queue, (id,), _ = _stated("show", arguments, 1)
    asked = queue.read(id)
    print(f"From {shown(asked.counterparty, 200)}, {shown(asked.time)}; {asked.state}.")
    if asked.note:
        print(shown(asked.note, 4000))
    print(asked.request.text(), end="")


def _yes(arguments: Sequence[str], console: Any) -> None:
    queue, (id,), _ = _stated("yes", arguments, 1)
    print(f"approved, for one appraisal: {_line(queue.say(id, True))}")


def _no(arguments: Sequence[str], console: Any) -> None:
    queue, (id,), stated = _stated("no", arguments, 1, "reason")
    print(f"refused: {_line(queue.say(id, False, stated.get('reason', '')))}")


def _line(asked: PendingRequest) -> str:
    """Say in one line what was answered."""
    request = asked.request
    learners = " and ".join(role.replace("_", " ") for role in request.learners)
    return (
        f"request {asked.id} of {shown(asked.counterparty)}: {shown(', '.join(request.methods))} of "
        f"{shown(', '.join(request.candidates))}, release {request.content['release']['kind']}, released to {learners}"
    )
