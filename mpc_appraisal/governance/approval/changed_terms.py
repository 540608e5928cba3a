"""The terms of a request, and which of them differ from those of a request that was approved.

    changed(old, new) = the terms (methods, release, epsilon, price, purpose, ...) whose values differ

In go two requests; out comes a `Change` for each term, with the old and the new value. A yes is for the digest of one
request: a request of other terms has another digest, so that it needs a new yes of both sides. The data owner's queue
asks again, and says what changed. The model owner says its yes to the terms of an earlier request with party.agreed;
where the present terms are others, `check_agreed` refuses before the data owner is asked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mpc_appraisal.common.errors import DisagreementError, InputError
from mpc_appraisal.common.schema import read_json
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.overlap_request import request_of
from mpc_appraisal.governance.approval.request import Request

MOST = 1 << 26  # the largest size of a file with a request, in bytes
NONE = "none"


@dataclass(frozen=True)
class Change:
    """One term that differs.

    Attributes:
        term: the name of the term.
        old, new: its values in words.
    """

    term: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.term}: {self.old} before, {self.new} now"


def terms_of(request: Request) -> dict[str, str]:
    """Return the terms of a request by their names, in words."""
    content, privacy = request.content, request.privacy
    settings = {method["name"]: method["settings"] for method in content.get("methods", ())}
    purpose, offer = content.get("purpose"), content.get("offer")
    found = {
        "methods": ", ".join(shown(settings.get(name, name), 400) for name in request.methods),
        "release": content["release"]["kind"],
        "epsilon": "infinite (no noise)" if privacy is None else f"{privacy['epsilon']:.15g}",
        "delta": "1 (no noise)" if privacy is None else f"{privacy['delta']:.15g}",
        "opened to": ", ".join(request.learners) or NONE,
        "purpose": NONE if purpose is None else shown(": ".join(filter(None, purpose.values())), 400),
        "offer": NONE if offer is None else f"{offer['name']} ({offer['digest']})",
        "integrity": content["protocol"].get("integrity", "off"),
    }
    if offer is not None:
        found["price of one answer"] = _price(**offer.get("price", {}))
    for candidate in content["candidates"]:
        name, listing = shown(candidate["name"]), candidate["listing"]
        found[f"rows of {name}"] = str(candidate["rows"])
        found[f"price of {name}"] = _price(listing["price"], listing["currency"]) if listing else NONE
        found[f"commitment to {name}"] = listing["commitment"] if listing else NONE
    return found


def changed(old: Request, new: Request) -> list[Change]:
    """Return the terms whose values differ between two requests."""
    before, after = terms_of(old), terms_of(new)
    pairs = [(term, before.get(term, NONE), after.get(term, NONE)) for term in dict.fromkeys([*before, *after])]
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


def check_agreed(agreed: Request | None, request: Request) -> None:
    """Compare a request with the one to whose terms the model owner has said yes; None stands for no such request.

    Raises DisagreementError, which names each term with its old and its new value.
    """
    found = [] if agreed is None else changed(agreed, request)
    if found:
        lines = "".join(f"\n  {change}" for change in found)
        raise DisagreementError(
            f"request {request.id} has other terms than request {agreed.id}, which the model owner has agreed to "
            f"(party.agreed); changed terms need both sides' yes:{lines}"
        )


def read_request(path: str | os.PathLike[str], where: str) -> Request:
    """Return the request in a file of JSON, as a run writes it. Raises InputError, under `where`, for another file."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise InputError(
            where, f"{shown(str(path))} ({error.strerror})", "a file with a request, request.json"
        ) from None
    try:
        value = read_json(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError(where, f"{shown(path.name)}, which is no JSON", "a file with a request") from None
    return request_of(value)


def _price(amount: float | None = None, currency: str | None = None) -> str:
    return NONE if amount is None else f"{amount:.15g} {currency or ''}".strip()
