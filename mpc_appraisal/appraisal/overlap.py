"""How many items of the data owner's set the model owner has already: rows, or keys in one column, before any price.

Two owners meet without a dealer. In go a role, the settings that both state alike, and a function that reads this
owner's own set; out comes this owner's `OverlapRecord`. The data owner computes the count by private set intersection
(`set_intersection`) and sends the model owner the count, or that it is below the minimum. So a model owner that changes
its own software is not shown more, and the data owner learns the count too: every request, record and table says so.

The steps are those of an appraisal. Both compare their settings, announce how many different items they have, and make
the same request, which the data owner says yes or no to. Each owner's ledger is charged for one plain value before a
message that depends on an item is sent, and records at the end what was shown. Every session is charged, a repeated one
too. A step may be added, at both owners and in the same place. The order has to stay: settings, sizes, request,
ledgers, yes, charges, count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from mpc_appraisal.appraisal.announced_facts import check_published_names
from mpc_appraisal.appraisal.counterparty import check_counterparty
from mpc_appraisal.appraisal.names import Names, match, published
from mpc_appraisal.appraisal.overlap_terms import (
    TRUST,
    OverlapPlan,
    answer_of,
    check_count,
    openings,
    question,
    revealed,
)
from mpc_appraisal.appraisal.plan import DisclosureControls, check_names
from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.provenance import config_hash, revision, versions
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER, OWNERS
from mpc_appraisal.data import Dataset, StoredDataset
from mpc_appraisal.data.items import Items, items_of_rows
from mpc_appraisal.governance.approval.decide import Decision, Request, decide
from mpc_appraisal.governance.approval.overlap_request import METHOD, OVERLAP_FORMAT, OverlapRequest
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.net.lifecycle import Link, attend
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.protocols.set_intersection import STRUCTURE, count, serve
from mpc_appraisal.mpc.session import agree
from mpc_appraisal.reporting.overlap_record import OverlapRecord


@dataclass(frozen=True)
class OverlapInput:
    """What one owner brings.

    Attributes:
        name: The name of the set; the data owner's is announced.
        items: The different items.
        data: The rows of which `items` were made, whose columns may be put into another order; None for keys.
        controls: The settings by which the owner limits what it discloses.
    """

    name: str
    items: Items
    data: Dataset | StoredDataset | None = None
    controls: DisclosureControls = DisclosureControls()


def take_part_in_overlap(role: str, address: str, plan: OverlapPlan, read: Callable[[], OverlapInput]) -> OverlapRecord:
    """Play `role` in one count, and return this owner's record.

    Args:
        role: 'model_owner', who asks, or 'data_owner', who computes and answers.
        address: 'tcp://host:port', where the model owner listens.
        plan: What both owners state alike.
        read: A function that returns this owner's own input. It is called in this process alone.

    Raises:
        InputError: This owner's own input is bad, or its ledger refuses.
        DisagreementError: The owners' settings or columns differ, or a set is smaller than the minimum.
        ApprovalError: The data owner does not say yes.
        PeerError: The other owner failed, vanished or never came.
    """
    if role not in OWNERS:
        raise InputError("role", repr(role), f"one of {', '.join(OWNERS)}: no dealer takes part")

    def checked() -> OverlapInput:
        own = read()
        check_names([own.name])
        plan.check_size(role, len(own.items.digests), InputError)
        return own

    def run(link: Link, own: OverlapInput) -> OverlapRecord:
        return _Overlap(role, link, plan, own).run()

    return attend(role, replace(plan.transport, roles=OWNERS), address, plan.join_timeout, checked, run)


class _Overlap:
    """One owner's side of one session. The arguments are those of `take_part_in_overlap`, once both have met."""

    def __init__(self, role: str, link: Link, plan: OverlapPlan, own: OverlapInput):
        self.role, self.link, self.plan, self.own = role, link, plan, own
        self.other = MODEL_OWNER if role == DATA_OWNER else DATA_OWNER
        self.ledgers = own.controls.ledgers
        self.config = config_hash(plan.public)

    def run(self) -> OverlapRecord:
        """Take all steps. Raises what `take_part_in_overlap` raises."""
        check_counterparty(self.role, self.own, self.link)
        agree(self.link, self.plan.public, self.config)
        sets = self.link.exchange("overlap_sets", self._announced())
        check_published_names([sets[DATA_OWNER]["name"]])
        compared, items = self._matched(sets)
        sizes = {role: sets[role]["items"] for role in OWNERS}
        for role in OWNERS:
            self.plan.check_size(role, sizes[role], lambda *words: DisagreementError(_sentence(*words)))
        request = self._request(compared, sizes, sets[DATA_OWNER]["name"])
        asked = self._question(request, sizes[DATA_OWNER], items)
        decision = self._decided(request)
        if asked is not None:
            self.ledgers.charge(asked)
        self.link.exchange("overlap_charged", {})  # nothing depends on an item before both ledgers hold their charges
        found, costs, rounds = self._counted(items, sizes)
        answer = answer_of(self.plan, found)
        if asked is not None:
            self.ledgers.settle(next(iter(asked)), answer)
        return self._record(request, decision, compared, sizes, found, answer, costs, rounds)

    def _announced(self) -> dict[str, Any]:
        message: dict[str, Any] = {"items": len(self.own.items.digests)}
        if self.own.data is not None:
            message |= {"features": self.own.data.features}
            message |= published(Names(self.own.data.columns), self.own.controls.names)
        return message | ({"name": self.own.name} if self.role == DATA_OWNER else {})

    def _matched(self, sets: Mapping[str, dict[str, Any]]) -> tuple[dict[str, Any], Items]:
        """Return what is compared, and this owner's items with its columns in the model owner's order."""
        compared = {"what": self.plan.what, "column": self.plan.column, "features": None, "columns": None}
        data, items = self.own.data, self.own.items
        if data is None:
            return compared, items
        features = {role: sets[role].get("features") for role in OWNERS}
        fit = match(sets[MODEL_OWNER], sets[DATA_OWNER], [Names(data.columns)])
        if features[MODEL_OWNER] != features[DATA_OWNER] or features[MODEL_OWNER] is None:
            values = ", ".join(f"{features[role]} at {role}" for role in OWNERS)
            raise DisagreementError(f"features: {values}; expected the same number")
        if self.role == DATA_OWNER and fit.order not in (None, tuple(range(data.features))):
            items = items_of_rows(data.arranged([data.columns[place] for place in fit.order]))
        columns = "position" if fit.order is None else "name"
        return compared | {"features": data.features, "columns": columns}, items

    def _request(self, compared: dict[str, Any], sizes: dict[str, int], name: str) -> OverlapRequest:
        """Make the request, and compare its digest with the other owner's. Raises DisagreementError."""
        keys = {role: key for role in OWNERS if (key := self.link.certified(role)) is not None}
        request = OverlapRequest(
            {
                "format": OVERLAP_FORMAT,
                "compared": compared,
                "minimum": self.plan.minimum,
                "structure": STRUCTURE,
                "items": sizes,
                "candidates": [{"name": name, "rows": sizes[DATA_OWNER], "listing": None}],
                "release": {"kind": "count", "words": " ".join(revealed(self.plan))},
                "openings": openings(self.plan),
                "privacy": None,
                "protocol": {"engine": "openmined-psi", "transport": self.plan.transport.kind, "trust": TRUST},
                "config": self.config,
            }
            | ({"keys": keys} if keys else {})
            | ({"recipe": self.plan.recipe} if self.plan.recipe else {})
        )
        stated = self.link.exchange("overlap_request", {"digest": request.digest})
        for role in OWNERS:
            if (theirs := stated[role]["digest"]) != request.digest:
                raise DisagreementError(f"the request is {request.id} here, {theirs[:12]!r} at {role}")
        if self.own.controls.show is not None:
            self.own.controls.show(request)
        if self.ledgers is not None:
            self.ledgers.identity = keys.get(self.other)
        return request

    def _question(self, request: Request, rows: int, items: Items) -> dict[tuple[str, str], Question] | None:
        """Return the question that this owner's ledger is charged for, or None without a ledger.

        Raises InputError where the ledger would refuse the charge.
        """
        if self.ledgers is None:
            return None
        name = self.own.name if self.role == DATA_OWNER else request.candidates[0]
        asked = question(self.ledgers, self.own.controls.counterparty, name, rows, items.digests, request)
        self.ledgers.consult({(METHOD, name): asked})
        return {(METHOD, name): asked}

    def _decided(self, request: Request) -> dict[str, str]:
        """Return how and when the data owner said yes. Raises ApprovalError at the data owner where it does not."""
        message: dict[str, str] = {}
        if self.role == DATA_OWNER:
            own = self.own.controls
            decision: Decision = decide(
                request,
                own.approval,
                own.requests,
                own.counterparty,
                own.patience,
                self.link.check,
                lambda line: print(line, file=sys.stderr, flush=True),
                key=self.link.certified(MODEL_OWNER),
                lasts=own.yes_expires,
            )
            message = {"how": decision.how, "time": decision.time}
        said = self.link.exchange("overlap_approval", message)[DATA_OWNER]
        return {"approval": said["how"], "time": said["time"]}

    def _counted(self, items: Items, sizes: Mapping[str, int]) -> tuple[int | None, dict[str, dict[str, Any]], int]:
        """Count together. Returns the count, or None where this owner is not shown it; the costs by owner; the rounds.

        The count is exact at the data owner.
        """
        meter = Meter()
        with meter.phase(METHOD):
            channel = open_channel(self.link, meter, self.plan.timeout, self.plan.transport.kind)
            message: dict[str, Any] = {}
            exact: int | None = None
            if self.role == DATA_OWNER:
                exact = count(Messages(channel), MODEL_OWNER, items.digests, sizes[MODEL_OWNER])
                message = {"count": exact if exact >= self.plan.minimum else None}
            else:
                serve(Messages(channel), DATA_OWNER, items.digests, sizes[DATA_OWNER])
            channel.close()  # sends what is queued, for which the other owner waits
            stated = self.link.exchange("overlap_answer", message)[DATA_OWNER]["count"]
        check_count(self.plan, stated, min(sizes.values()), DisagreementError)
        spent = meter.cost()
        message = {"seconds": spent.seconds[METHOD], "bytes": spent.bytes_sent, "rounds": spent.rounds}
        costs = self.link.exchange("overlap_cost", message)
        return (stated if exact is None else exact), costs, spent.rounds

    def _record(
        self,
        request: Request,
        decision: dict[str, str],
        compared: dict[str, Any],
        sizes: dict[str, int],
        found: int | None,
        answer: dict[str, int],
        costs: Mapping[str, dict[str, Any]],
        rounds: int,
    ) -> OverlapRecord:
        own, name = self.own.items, request.candidates[0]
        return OverlapRecord(
            role=self.role,
            candidate=name,
            compared=compared,
            minimum=self.plan.minimum,
            items=sizes,
            own={"rows": own.rows, "copies": own.copies, "without_key": own.without_key},
            count=found,
            fewer_than=answer.get("fewer_than"),
            revealed=revealed(self.plan),
            trust=TRUST,
            request={"id": request.id, "digest": request.digest, **decision},
            budget=None if self.ledgers is None else self.ledgers.left(name),
            seconds={role: costs[role]["seconds"] for role in OWNERS},
            bytes_sent={role: costs[role]["bytes"] for role in OWNERS},
            rounds=rounds,
            transport=self.plan.transport.kind,
            config_hash=self.config,
            recipe=self.plan.recipe,
            versions=versions() | {"openmined-psi": metadata.version("openmined-psi")},
            revision=revision(),
        )


def _sentence(name: str, value: object, expected: str) -> str:
    return f"{name}: got {value}; expected {expected}"
