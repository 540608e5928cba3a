"""The two steps in which both owners say yes to the same request: the comparison of digests, and the data owner's yes.

In go a connection, the plan, this party's input and the request; out come what the model owner states with its digest,
and the data owner's message. Every party calls `same_request`, and the data owner alone `decision_of`. Each side says
its yes to terms by `check_terms` or a decision; a request of other terms has another digest and needs both anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mpc_appraisal.appraisal.encrypted_answers import EncryptedAnswers, text_in
from mpc_appraisal.appraisal.plan import DataOwnerInput, ModelOwnerInput, OwnInput, Plan
from mpc_appraisal.appraisal.questions import inputs_of
from mpc_appraisal.common.errors import DisagreementError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.common.text import printable
from mpc_appraisal.governance.approval.changed_terms import check_agreed
from mpc_appraisal.governance.approval.decide import Request, decide
from mpc_appraisal.governance.approval.decision import utc_now
from mpc_appraisal.governance.offers.limits import Settings, broken_terms
from mpc_appraisal.mpc.net.rendezvous import Rendezvous


def check_terms(plan: Plan, own: OwnInput, request: Request, keys: Mapping[str, str]) -> None:
    """Compare the request with the terms to which the model owner has said yes; at other parties nothing is compared.

    A request that does not keep the terms of the offer that the model owner takes is asked all the same, after a
    warning: the data owner may say yes to it.

    Raises DisagreementError where the terms are others than those of party.agreed.
    """
    if not isinstance(own, ModelOwnerInput):
        return
    try:
        check_agreed(own.controls.agreed, request)
    except DisagreementError:
        show_to(own, request)  # so that the model owner can read the new terms, and agree to them
        raise
    offer = own.controls.offer
    if offer is None:
        return
    for one in broken_terms(offer, request, _settings(plan), keys.get(MODEL_OWNER), utc_now()):
        say(f"warning: the request does not keep the offer {offer.name} (party.offer): {one}")


def same_request(
    rendezvous: Rendezvous, plan: Plan, own: OwnInput, request: Request, encrypted_answers: EncryptedAnswers
) -> tuple[str, Any]:
    """Take step 1. Returns the model owner's commitment to its inputs, and the address for which answers are encrypted.

    Raises DisagreementError where another party's request has another digest, PeerError for a malformed message.
    """
    message: dict[str, Any] = {"digest": request.digest}
    if isinstance(own, ModelOwnerInput):
        message |= {"inputs": inputs_of(own, plan.methods), "key": encrypted_answers.address}
    messages = rendezvous.exchange("request", message)
    for name, theirs in messages.items():
        if (digest := text_in(theirs, "digest", name)) != request.digest:
            raise DisagreementError(f"the request is {request.id} here, {digest[:12]!r} at {name}")
    inputs = text_in(messages[MODEL_OWNER], "inputs", MODEL_OWNER)
    if not re.fullmatch("[0-9a-f]{64}", inputs):
        raise PeerError(f"{MODEL_OWNER} sent {inputs[:40]!r} for a commitment to its inputs; expected 64 hex digits")
    return inputs, messages[MODEL_OWNER].get("key")


def decision_of(
    rendezvous: Rendezvous, plan: Plan, own: DataOwnerInput, request: Request, keys: Mapping[str, str]
) -> dict[str, Any]:
    """Take step 3: return the data owner's yes, as its message states it. Raises ApprovalError where there is none."""
    controls, offers = own.controls, own.controls.offers
    if offers is not None:
        offers = replace(offers, own_key=keys.get(DATA_OWNER), settings=_settings(plan))
    decision = decide(
        request,
        controls.approval,
        controls.requests,
        controls.counterparty,
        controls.patience,
        rendezvous.check,
        say,
        key=keys.get(MODEL_OWNER),
        lasts=controls.yes_expires,
        offers=offers,
    )
    return {"how": decision.how, "time": decision.time}


def show_to(own: OwnInput, request: Request) -> None:
    """Show the request to an owner that wants to read it."""
    if own is not None and own.controls.show is not None:
        own.controls.show(request)


def _settings(plan: Plan) -> Settings:
    """Return the settings of the methods by name, the metric among them; a method may state no others."""
    return {method.name: {"metric": method.measure.name} | (method.settings or {}) for method in plan.methods}


def say(line: str) -> None:
    """Print a line for the user to act on to standard error."""
    print(printable(line), file=sys.stderr, flush=True)
