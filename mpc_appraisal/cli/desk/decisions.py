"""What the desk shows of the request queue, and how it says yes or no.

In go the folders, an id and what a form states; out come rows and facts for templates. A yes is for the digest and the
counterparty that the page showed: where another request lies under the id by then, the queue refuses it. A damaged
request, or a folder that cannot be read, becomes a text on the page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from mpc_appraisal.cli.budget_preview import MOST, previews
from mpc_appraisal.cli.commands.budget import ADDS_UP
from mpc_appraisal.cli.desk.places import Places
from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.purpose import PURPOSES
from mpc_appraisal.governance.approval.queue import PendingRequest, RequestQueue

OPEN = ("pending", "expired")
WORDS = {
    "pending": "waits for your answer",
    "expired": "waits again: its yes was not used in time",
    "yes": "approved, not used yet",
    "used": "approved, and used for one appraisal",
    "no": "refused",
    "damaged": "damaged",
}


RELEASES = {  # what each kind of release opens
    "value": "exact values",
    "dp": "values with noise",
    "bit": "whether a value reaches a threshold",
    "best": "which candidates are the best",
}


@dataclass(frozen=True)
class Row:
    """One request in a list: all texts are ready to be shown."""

    id: str
    state: str
    counterparty: str
    methods: str
    candidates: str
    release: str
    purpose: str
    time: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What lies in the queue.

    Attributes:
        waiting: the requests that wait for an answer, the oldest first.
        decided: the requests with an answer, the newest first.
        damaged: the requests that cannot be read.
        error: why the queue cannot be read; empty where it can be.
    """

    waiting: list[Row] = field(default_factory=list)
    decided: list[Row] = field(default_factory=list)
    damaged: list[Row] = field(default_factory=list)
    error: str = ""


def queue(places: Places) -> Found:
    """Return what lies in the queue. A folder that is not there yet is an empty queue."""
    if not places.requests.exists():
        return Found()
    try:
        found = RequestQueue(places.requests).all()
    except (InputError, OSError) as error:
        return Found(error=shown(str(error), 400))
    rows = [_row(pending) for pending in found]
    return Found(
        [row for row in rows if row.state in OPEN],
        [row for row in reversed(rows) if row.state not in (*OPEN, "damaged")],
        [row for row in rows if row.state == "damaged"],
    )


def one(places: Places, id: str) -> dict[str, Any]:
    """Return what the page of one request shows. Raises InputError where there is no such request, or a damaged one."""
    pending = RequestQueue(places.requests).read(id)
    found: dict[str, Any] = {"row": _row(pending), "words": WORDS[pending.state], "open": pending.state in OPEN}
    found |= {"sections": sections(pending.request.text()), "digest": pending.request.digest, "most": MOST}
    found |= {"counterparty": pending.counterparty, "costs": [], "bad": [], "error": "", "adds_up": ADDS_UP}
    found["note"] = shown(pending.note, 4000)
    if found["open"]:
        try:
            found["costs"], found["bad"] = previews(pending.request, pending.counterparty, places.ledger_files())
        except InputError as error:
            found["error"] = str(error)
    return found


def sections(text: str) -> list[tuple[str, str, list[str]]]:
    """Return heading, paragraph and items of each section of a request's text, which keep all its words but its title.

    Lines are joined again, for pages break them themselves. The first section has no heading.
    """
    found: list[tuple[str, str, list[str]]] = [("", "", [])]
    for line in re.sub(r"(?<=[^\n])\n(?:  )?(?=[^\n#-])", " ", text).splitlines():
        mark, _, words = line.partition(" ")
        heading, paragraph, items = found[-1]
        if mark == "##":
            found.append((words, "", []))
        elif mark == "-":
            items.append(words)
        elif mark != "#" and line:
            found[-1] = (heading, f"{paragraph} {line}".strip(), items)
    return found


def say(places: Places, id: str, answer: str, reason: str, digest: str | None, counterparty: str | None) -> None:
    """Say yes or no to the request of this id, digest and counterparty.

    Raises InputError where another request lies there by now, and what the queue raises.
    """
    one_of("answer", answer, ("yes", "no"))
    if digest is None or counterparty is None:
        raise InputError("form", "no digest or no counterparty", "those of the request that was shown")
    lines = " ".join(reason.split())
    RequestQueue(places.requests).say(id, answer == "yes", lines, (digest, counterparty))


def when(time: str) -> str:
    """Return a time in ISO as a reader writes it, to the minute in UTC; another text as it is."""
    try:
        return f"{datetime.fromisoformat(time).astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return shown(time)


def _purpose(content: dict[str, Any]) -> str:
    """Return the stated purpose and the own words of the model owner; an empty text where it states none."""
    stated = content.get("purpose")
    if stated is None:
        return ""
    own = stated["text"].replace('"', "'")
    return shown(PURPOSES[stated["kind"]] + (f' ("{own}")' if own else ""), 200)


def _row(pending: PendingRequest) -> Row:
    asked = pending.request
    return Row(
        id=pending.id,
        state=pending.state,
        counterparty=shown(pending.counterparty, 80),
        methods=shown(", ".join(asked.methods), 120) if asked else "",
        candidates=shown(", ".join(asked.candidates), 200) if asked else "",
        release=RELEASES.get(asked.content["release"]["kind"], asked.content["release"]["kind"]) if asked else "",
        purpose=_purpose(asked.content) if asked else "",
        time=when(pending.time),
        reason=shown(pending.reason, 400),
    )
