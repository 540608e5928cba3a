"""The facts that the owners announce before anything else: sizes, names, listings and what is asked for.

In go a party's own input and the plan; out come the facts of every candidate, what its listing says, how its columns
and classes fit the model owner's, the purpose of the model owner and the standing offer that it takes. Every party
checks the same and fails alike.
Whatever is added here is seen by all parties, so that it has to be public, and needs a line in `message_schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpc_appraisal.appraisal.integers import announced, with_resolution
from mpc_appraisal.appraisal.names import Match, match, published
from mpc_appraisal.appraisal.plan import (
    DataOwnerInput,
    ModelOwnerInput,
    OwnInput,
    Plan,
    check_classes,
    check_model,
    check_names,
)
from mpc_appraisal.appraisal.tasks import check_targets
from mpc_appraisal.common.checks import is_number
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.governance.approval.purpose import Purpose
from mpc_appraisal.governance.catalogue import Listing
from mpc_appraisal.methods import Facts
from mpc_appraisal.mpc.net.rendezvous import Rendezvous


def exchange_facts(
    rendezvous: Rendezvous, own: OwnInput, plan: Plan
) -> tuple[dict[str, Facts], dict[str, dict[str, Any] | None], dict[str, Match], Purpose | None, dict[str, Any] | None]:
    """Exchange sizes, names and listings, and check that they fit; every party checks the same and fails alike.

    Returns three mappings from a candidate's name: to its facts, to what its listing says or None, and to how its
    columns and classes fit the model owner's; the purpose that the model owner states, or None; and what it names of
    the data owner's standing offer that it takes, or None.
    """
    messages = rendezvous.exchange("facts", _facts_message(own, plan))
    buyer, sets = messages[MODEL_OWNER], messages[DATA_OWNER]["candidates"]
    check_published_names([each["name"] for each in sets])
    mine = [own.names] if isinstance(own, ModelOwnerInput) else own.names if own is not None else []
    matches = {each["name"]: match(buyer, each, mine) for each in sets}
    for each in sets:
        if each["features"] != buyer["features"]:
            raise DisagreementError(
                f"features: {buyer['features']} at {MODEL_OWNER}, {each['features']} at {DATA_OWNER} in "
                f"{each['name']!r}; expected the same number"
            )
    listed = {each["name"]: each["listing"] for each in sets}
    if isinstance(own, ModelOwnerInput) and own.controls.listings:
        _expect(own.controls.listings, listed)
    sizes = (buyer["features"], buyer["classes"], buyer["train_rows"], buyer["test_rows"])
    link = plan.model.link.name
    facts = {each["name"]: Facts(*sizes, each["rows"], plan.l2, link=link) for each in sets}
    return with_resolution(facts, messages[DATA_OWNER], plan), listed, matches, _purpose_in(buyer), buyer.get("offer")


def asking_message(own: ModelOwnerInput) -> dict[str, Any]:
    """Return what the model owner's message says of its purpose and of the offer that it takes."""
    purpose, offer = own.controls.purpose, own.controls.offer
    found = {} if purpose is None else {"purpose": purpose.as_dict()}
    return found | ({} if offer is None else {"offer": offer.named})


def _purpose_in(message: Mapping[str, Any]) -> Purpose | None:
    """Return the purpose in the model owner's message, or None. Raises PeerError for one that is none."""
    if "purpose" not in message:
        return None
    try:
        return Purpose(**message["purpose"])
    except InputError as error:
        raise PeerError(f"{MODEL_OWNER} announced a purpose that is none: expected {error.expected}") from None


def _facts_message(own: OwnInput, plan: Plan) -> dict[str, Any]:
    """Return what this party announces of its input before anything else. Raises InputError where the input is bad."""
    check_targets(own, plan)
    if isinstance(own, ModelOwnerInput):
        check_model(own, plan.l2)
        check_classes(own)
        classes = own.model.classes if own.model else max(d.classes for d in (own.train, own.test) if d)
        if plan.classes is not None and classes > plan.classes:
            raise InputError("party.train", f"{classes} classes", f"{plan.classes} (model.classes)")
        return (
            {
                "features": own.model.features if own.model else (own.train or own.test).features,
                "classes": int(classes if plan.classes is None else plan.classes),
                "train_rows": own.train.rows if own.train else 0,
                "test_rows": own.test.rows if own.test else 0,
            }
            | asking_message(own)
            | published(own.names, own.controls.names)
        )
    if isinstance(own, DataOwnerInput):
        check_names([c.name for c in own.candidates])
        listings = own.controls.listings or (None,) * len(own.candidates)
        sets = [
            {"name": c.name, "rows": c.rows, "features": c.features, "listing": _said(listing)}
            | published(names, own.controls.names)
            for c, listing, names in zip(own.candidates, listings, own.names, strict=True)
        ]
        return {"candidates": sets} | announced(own, plan)
    return {}


def check_published_names(names: Sequence[str]) -> None:
    """Check the candidates' names that the data owner announced, since this party will print and record them.

    Raises PeerError for names that `check_names` refuses.
    """
    try:
        check_names(names)
    except InputError as error:
        raise PeerError(f"{DATA_OWNER} announced {error.name}: {error.value}; expected {error.expected}") from None


def _said(listing: Listing | None) -> dict[str, Any] | None:
    """Return what the parties announce, request and record of a listing."""
    if listing is None:
        return None
    terms = listing.terms
    return {
        "name": listing.name,
        "digest": listing.file_digest,
        "commitment": listing.digest,
        "price": terms.price,
        "currency": terms.currency,
    }


def _expect(listings: Sequence[Listing | None], listed: Mapping[str, dict[str, Any] | None]) -> None:
    """Check that the candidates' listings are those that the model owner has read, to the letter.

    Raises DisagreementError where a candidate has no listing or another one.
    """
    mine = {listing.name: _said(listing) for listing in listings if listing is not None}
    theirs = {one["name"]: one for one in listed.values() if one is not None}
    for name, one in listed.items():
        if one is None:
            raise DisagreementError(f"candidate {name!r} is not listed; expected one of {', '.join(mine)}")
    for name in mine | theirs:
        ours, other = mine.get(name), theirs.get(name)
        if ours != other:
            found = "none" if other is None else f"{other['digest'][:12]} at {DATA_OWNER}"
            kept = "none" if ours is None else f"{ours['digest'][:12]} at {MODEL_OWNER}"
            raise DisagreementError(
                f"listing {name!r}: {kept}, {found}; expected the same listing, to the letter{_terms(ours, other)}"
            )


def _terms(ours: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> str:
    """Name each term of a listing with its two values, where both sides have the listing."""
    if ours is None or other is None:
        return ""
    keys = [key for key in ("price", "currency", "commitment") if ours[key] != other[key]]
    return "".join(f"; {key}: {_word(ours[key])} at {MODEL_OWNER}, {_word(other[key])} at {DATA_OWNER}" for key in keys)


def _word(value: Any) -> str:
    return f"{value:.15g}" if is_number(value) else str(value)
