"""The count of shared items inside an appraisal (`overlap=`): how many of its candidates' rows or keys the model owner
has already.

In go the plan's terms and each owner's own items; out come public sizes, what the request and the ledgers say of the
count, and for each candidate the facts that its records hold. The two owners count between themselves, over the
session's transport, after the data owner's yes and before anything is shared for the appraisal. The dealer takes no
part in the count: it reads the sizes, since it makes the same request, and it never reads a count.

A fact may be added to what `count_shared` returns. The order has to stay: sizes, request, ledgers, yes, charges, count.
So has the place of the three exchanges at all parties, and a plan without terms may change nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpc_appraisal.appraisal.names import Match
from mpc_appraisal.appraisal.overlap_terms import (
    TRUST,
    OverlapTerms,
    answer_of,
    check_count,
    check_transport,
    openings,
    question,
    revealed,
)
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, DEALER, MODEL_OWNER, OWNERS
from mpc_appraisal.common.text import printable, shown
from mpc_appraisal.data.items import Items, items_of_rows
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.approval.overlap_words import METHOD
from mpc_appraisal.governance.budget.ledgers import Key
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.net.lifecycle import Link
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.meter import Cost, Meter
from mpc_appraisal.mpc.protocols.set_intersection import STRUCTURE, count, library, serve


@dataclass(frozen=True)
class SharedItems:
    """What one party knows of the sets before they are counted.

    Attributes:
        terms: What is compared, and the minimum.
        theirs: The number of different items of each candidate, by its name.
        ours: The number of different items of the model owner.
        features: The number of features of a row; None for keys.
        columns: Whether columns are compared by 'name' or by 'position'; None for keys.
        items: This owner's own items by candidate's name; empty at the dealer.
    """

    terms: OverlapTerms
    theirs: Mapping[str, int]
    ours: int
    features: int | None
    columns: str | None
    items: Mapping[str, Items]

    def stated(self, others: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the fields of a request that the count changes. others: the openings of the appraisal itself."""
        content = {
            "what": self.terms.what,
            "column": self.terms.column,
            "features": self.features,
            "columns": self.columns,
            "minimum": self.terms.minimum,
            "structure": STRUCTURE,
            "items": {MODEL_OWNER: self.ours, DATA_OWNER: dict(self.theirs)},
            "words": " ".join(revealed(self.terms)),
            "trust": TRUST,
        }
        return {"overlap": content, "openings": [*openings(self.terms, len(self.theirs)), *others]}

    def questions(self, own: OwnInput, request: Request) -> dict[Key, Question]:
        """Return one question for each candidate, which this owner's ledgers are charged for; none without ledgers."""
        if own is None or (ledgers := own.controls.ledgers) is None:
            return {}
        return {
            (METHOD, name): question(ledgers, own.controls.counterparty, name, rows, self.items[name].digests, request)
            for name, rows in self.theirs.items()
        }


def shared_items(rendezvous: Link, plan: Plan, own: OwnInput, matches: Mapping[str, Match]) -> SharedItems | None:
    """Announce how many different items this owner has, and return what is known of all sets; None without terms.

    Args:
        rendezvous: The connection to the other parties.
        plan: What all parties state alike.
        own: This party's own input, with its rows as their files hold them.
        matches: How each candidate's columns fit the model owner's, by candidate's name.

    Raises:
        InputError: This owner's own set is smaller than the minimum, the transport does not serve, or the package that
            counts is not installed.
        DisagreementError: The other owner's set is smaller than the minimum.
        PeerError: The data owner announced other candidates.
    """
    terms = plan.overlap
    if terms is None:
        return None
    check_transport("session.transport", plan.transport.kind)
    if own is not None:
        library()
    items, features = _own_items(own, terms, matches)
    for name, one in items.items():
        terms.check_size(rendezvous.role, len(one.digests), InputError, _candidate(rendezvous.role, name))
    message: dict[str, Any] = {}
    if own is not None:
        message = {"items": {name: len(one.digests) for name, one in items.items()}} | features
    sizes = rendezvous.exchange("overlap_sizes", message)
    if len(set(sizes[MODEL_OWNER]["items"].values())) > 1:
        raise PeerError(f"{MODEL_OWNER} announced several sizes; expected one: it has one set for all candidates")
    for role in OWNERS:
        _check_names(role, sizes[role]["items"], matches)
        for name, size in sizes[role]["items"].items():
            terms.check_size(role, size, _disagreement, _candidate(role, name))
    theirs, ours = sizes[DATA_OWNER]["items"], next(iter(sizes[MODEL_OWNER]["items"].values()))
    if terms.column is not None:
        return SharedItems(terms, theirs, ours, None, None, items)
    known = {role: sizes[role].get("features") for role in OWNERS}
    if known[MODEL_OWNER] != known[DATA_OWNER] or known[MODEL_OWNER] is None:
        values = ", ".join(f"{known[role]} at {role}" for role in OWNERS)
        raise DisagreementError(f"features of the rows that overlap= compares: {values}; expected the same number")
    columns = "position" if any(fit.order is None for fit in matches.values()) else "name"
    return SharedItems(terms, theirs, ours, known[MODEL_OWNER], columns, items)


def _own_items(
    own: OwnInput, terms: OverlapTerms, matches: Mapping[str, Match]
) -> tuple[dict[str, Items], dict[str, int]]:
    """Return this owner's items by candidate's name, and the number of features of its rows as a message states it.

    The model owner has one set for all candidates. The data owner's rows are put into the model owner's order of
    columns. Both are the rows as files and recipes give them, before they are standardised or mapped to features.
    """
    if isinstance(own, ModelOwnerInput):
        if own.rows is None or (terms.column is not None and own.keys is None):
            raise InputError("party.train", None, f"a file whose {terms.what} are compared, as overlap= says")
        items = items_of_rows(own.rows) if terms.column is None else own.keys
        return dict.fromkeys(matches, items), {"features": own.rows.features} if terms.column is None else {}
    if not isinstance(own, DataOwnerInput):
        return {}, {}
    if terms.column is not None:
        if len(own.keys) != len(own.candidates):
            found = f"keys of {len(own.keys)} files"
            raise InputError("party.data", found, f"those of {len(own.candidates)}: one for each candidate")
        return dict(zip(matches, own.keys, strict=True)), {}
    items = {}
    for (name, fit), data in zip(matches.items(), [s.data for s in own.sources] or own.candidates, strict=True):
        if fit.order not in (None, tuple(range(data.features))):
            data = data.arranged([data.columns[place] for place in fit.order])
        items[name] = items_of_rows(data)
    return items, {"features": data.features}


def count_shared(rendezvous: Link, plan: Plan, own: OwnInput, shared: SharedItems) -> dict[str, dict[str, Any]]:
    """Count between the owners, record the answers in this owner's ledgers, and return the facts by candidate's name.

    The arguments are those of `shared_items`, which returned `shared`. The exchange at the end lets the dealer wait for
    as long as the count takes. Raises PeerError for a count that the data owner cannot have found.
    """
    role, found, spent = rendezvous.role, {}, {}
    if own is not None:
        meter = Meter()
        channel = open_channel(rendezvous, meter, plan.timeout, plan.transport.kind, OWNERS)
        for name, items in shared.items.items():
            before = meter.cost()
            with meter.phase(METHOD):
                found[name] = _counted(role, Messages(channel), shared, name, items)
            spent[name] = meter.cost() - before
            if own.controls.ledgers is not None:
                own.controls.ledgers.settle((METHOD, name), answer_of(shared.terms, found[name]))
            _say(shared, name, found[name])
        channel.close()  # sends what is queued, for which the other owner waits
    stated = rendezvous.exchange("overlap_costs", {"costs": {name: _cost(one) for name, one in spent.items()}})
    for owner in OWNERS:
        _check_names(owner, stated[owner]["costs"], shared.theirs)
    costs = {name: {owner: stated[owner]["costs"][name] for owner in OWNERS} for name in shared.theirs}
    return {} if role == DEALER else {name: _facts(shared, name, found[name], costs[name]) for name in found}


def _counted(role: str, messages: Messages, shared: SharedItems, name: str, items: Items) -> int | None:
    """Return the number of shared items; None at the model owner where it is below the minimum."""
    if role == MODEL_OWNER:
        serve(messages, DATA_OWNER, items.digests, shared.theirs[name])
        answer = messages.hear(DATA_OWNER)
        if set(answer) != {"count"}:
            raise PeerError(f"{DATA_OWNER} sent the keys {sorted(answer)}; expected a count")
        check_count(shared.terms, answer["count"], min(shared.ours, shared.theirs[name]), PeerError)
        return answer["count"]
    exact = count(messages, MODEL_OWNER, items.digests, shared.ours)
    messages.announce(MODEL_OWNER, {"count": exact if exact >= shared.terms.minimum else None})
    return exact


def _cost(spent: Cost) -> dict[str, Any]:
    return {"seconds": spent.seconds[METHOD], "bytes": spent.bytes_sent, "rounds": spent.rounds}


def _facts(shared: SharedItems, name: str, found: int | None, costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a record holds of the count; see `record_schema.OVERLAP`."""
    terms = shared.terms
    return {
        "what": terms.what,
        "column": terms.column,
        "minimum": terms.minimum,
        "items": {MODEL_OWNER: shared.ours, DATA_OWNER: shared.theirs[name]},
        "count": found,
        "fewer_than": answer_of(terms, found).get("fewer_than"),
        "columns": shared.columns,
        "seconds": max(costs[owner]["seconds"] for owner in OWNERS),
        "bytes_sent": {owner: costs[owner]["bytes"] for owner in OWNERS},
        "rounds": max(costs[owner]["rounds"] for owner in OWNERS),
        "revealed": revealed(terms),
        "trust": TRUST,
    }


def _say(shared: SharedItems, name: str, found: int | None) -> None:
    """Print the answer, and to this owner alone how many copies it had, since the appraisal may take a while."""
    own, answer = shared.items[name], answer_of(shared.terms, found)
    words = f"fewer than {shared.terms.minimum}" if "fewer_than" in answer else str(found)
    copies = f"{own.copies} copies removed of {own.rows} rows" + f", {own.without_key} without key" * bool(
        own.without_key
    )
    line = f"overlap with {name}: {words} {shared.terms.what} in both sets; this side has {len(own.digests)} ({copies})"
    print(printable(line), file=sys.stderr, flush=True)


def _check_names(role: str, stated: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise PeerError where an owner's message is about other candidates."""
    if list(stated) != list(expected):
        raise PeerError(f"{role} sent what is about {shown(list(stated))}; expected {shown(list(expected))}")


def _candidate(role: str, name: str) -> str | None:
    return name if role == DATA_OWNER else None  # the model owner has one set for all candidates


def _disagreement(name: str, value: object, expected: str) -> DisagreementError:
    return DisagreementError(f"{name}: got {value}; expected {expected}")
