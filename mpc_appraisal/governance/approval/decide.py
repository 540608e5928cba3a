"""The data owner's decision on one request, which is made of public facts, before anything private is shared.

The data owner is the party whose data are appraised, and the counterparty is the party that asks. A request (`request`)
says what is asked, of which data, what is opened to whom and what it costs. In go the request and the way in which it
is decided: by a standing offer that the request names (`governance.offers`), or else by a command on a queue (`queue`),
by a policy file (`rules`), or by a yes in the public configuration. Out comes the yes, or an ApprovalError. A refused
or changed request never starts.

Another way to decide may be added to `decide`. Each way has to end in a `Decision` for the digest of the very request,
and the reasons of a no have to stay with the data owner. The names in `__all__` are what other code imports from here.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.governance.approval.changed_terms import changed
from mpc_appraisal.governance.approval.decision import ApprovalError, Clock, Decision, refused, stamp, utc_now
from mpc_appraisal.governance.approval.queue import FOLDER, WEEK, PendingRequest, RequestQueue
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.approval.rules import Rules
from mpc_appraisal.governance.offers.grant import Offering, OfferRefusal
from mpc_appraisal.governance.offers.limits import Broken


def decide(
    request: Request,
    how: str,
    queue_folder: str | os.PathLike[str],
    counterparty: str,
    patience: float,
    check: Callable[[], None],
    say: Callable[[str], None],
    poll: float = 0.2,
    clock: Clock = utc_now,
    key: str | None = None,
    lasts: float = WEEK,
    offers: Offering | None = None,
) -> Decision:
    """Return the data owner's yes to `request`. A request that names no offer, or does not keep its terms, is asked.

    Args:
        request: what is asked.
        how: 'ask' puts the request into the queue and waits; 'yes' means that the yes was stated with the public
            configuration; every other text is the path of a file of rules.
        queue_folder: the folder of the queue.
        counterparty: the name of the party that asks.
        patience: the seconds to wait for an answer.
        check: a function that is called at each turn and raises where a peer is gone.
        say: a function that is given one line for the user to act on.
        poll: the seconds between two looks at the queue.
        clock: a function that returns the time with its zone.
        key: the SHA-256 of the certificate key that the counterparty showed, if any.
        lasts: the seconds for which a yes may wait to be used.
        offers: the standing offers of the data owner; None for none.

    Raises ApprovalError where there is no yes, and InputError for a file that cannot be read.
    """
    asking = _Asking(counterparty, patience, check, say, poll, clock, key, lasts)
    if "offer" not in request.content:
        return _asked(request, how, queue_folder, asking)
    try:
        return _offered(request, offers, key)
    except OfferRefusal as error:
        refusal = printable(str(error))
        for line in (refusal, *([] if error.__cause__ is None else [str(error.__cause__)])):
            say(printable(f"request {request.id}: {line}"))
    try:
        return _asked(request, how, queue_folder, replace(asking, note=refusal))
    except ApprovalError as error:
        raise error.beside(refusal) from error


@dataclass(frozen=True)
class _Asking:
    """What `decide` was given beside the request, and a note on it for the data owner."""

    counterparty: str
    patience: float
    check: Callable[[], None]
    say: Callable[[str], None]
    poll: float
    clock: Clock
    key: str | None
    lasts: float
    note: str = ""


def _offered(request: Request, offers: Offering | None, key: str | None) -> Decision:
    """Return the yes of the offer that the request names. Raises OfferRefusal where it gives none."""
    if offers is None:
        name = request.content["offer"]["name"]
        raise OfferRefusal(name, [Broken("offer", "none of this name", "an offer that this data owner keeps")])
    return offers.grant(request, key)


def _asked(request: Request, how: str, queue_folder: str | os.PathLike[str], asking: _Asking) -> Decision:
    """Return the yes in the way `how`. Raises what `decide` raises."""
    if how == "yes":
        return Decision("stated", stamp(asking.clock()), request.digest)
    if how == "ask":
        return _wait(request, RequestQueue(queue_folder, asking.clock, asking.lasts), asking)
    if not isinstance(how, (str, os.PathLike)) or not os.fspath(how):
        raise InputError("approval", shown(repr(how)), "ask, yes, or the path of a policy file")
    now = asking.clock()
    if broken := Rules.read(how).broken(request, asking.counterparty, now, asking.key):
        raise refused(request, "by its policy. " + " ".join(broken))
    return Decision("policy", stamp(now), request.digest)


def _wait(request: Request, queue: RequestQueue, asking: _Asking) -> Decision:
    patience, counterparty = asking.patience, asking.counterparty
    if not patience >= 0:
        raise InputError("approval.patience", patience, "seconds, 0 or more")
    end = time.monotonic() + patience
    place = "" if queue.folder == Path(FOLDER) else f" in={shlex.quote(str(queue.folder))}"
    differs = _changes(request, queue, counterparty)
    note = " ".join(filter(None, (asking.note, differs)))
    waiting = False
    while True:
        asking.check()
        if not waiting or queue.read(request.id).state == "used":  # another process took the yes: ask for one more
            text = queue.put(request, counterparty, note)
            line = (
                f"request {request.id} waits for a yes: mpc-appraisal approval yes {request.id}{place} (text: {text})"
            )
            asking.say(printable(line))
            if differs and not waiting:
                asking.say(printable(f"request {request.id}: {differs}"))
            waiting = True
        if (decision := queue.take(request, counterparty)) is not None:
            return decision
        left = end - time.monotonic()
        if left <= 0:
            public = f"no answer to request {request.id} within {patience:g} s"
            raise ApprovalError(public, public)
        time.sleep(min(asking.poll, left))


def _changes(request: Request, queue: RequestQueue, counterparty: str) -> str:
    """Say which terms differ from those of the request of the same data that was approved last; "" for none."""
    old = queue.approved(counterparty, request.candidates)
    found = [] if old is None else changed(old, request)
    if not found:
        return ""
    return f"Terms differ from request {old.id}, which was approved: {'; '.join(map(str, found))}."


__all__ = [
    "ApprovalError",
    "PendingRequest",
    "Decision",
    "RequestQueue",
    "FOLDER",
    "WEEK",
    "Request",
    "Rules",
    "decide",
]
