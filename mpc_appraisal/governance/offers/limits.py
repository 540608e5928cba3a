"""Whether a request falls within an offer: a `Broken` for each term that it does not keep; none means that it does.

    request within offer  <=>  every term of the offer holds for the request

In go an offer, a request, the settings of its methods, the buyer's certificate key and the time. A request has one
candidate under an offer, because an offer is of one data set. What an offer does not state is not limited, but a count
of shared items is a method of its own, `overlap`, which the offer has to name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mpc_appraisal.common.checks import is_number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.offers.offer import Offer
from mpc_appraisal.governance.offers.words import limit_words, price_words

Settings = Mapping[str, Mapping[str, Any]]  # by method and setting


@dataclass(frozen=True)
class Broken:
    """One term of an offer that a request does not keep.

    Attributes:
        term: the name of the term.
        value: what the request has.
        expected: what the offer has.
    """

    term: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.term}: got {self.value}; expected {self.expected}"


def broken_terms(offer: Offer, request: Request, settings: Settings, buyer: str | None, now: datetime) -> list[Broken]:
    """Return the terms of `offer` that `request` does not keep.

    Args:
        offer: the offer.
        request: what is asked.
        settings: the settings of the request's methods, by method and setting.
        buyer: the SHA-256 of the certificate key that the model owner showed; None where it showed none.
        now: the time with its zone.

    Raises InputError for a time without its zone.
    """
    if now.tzinfo is None:
        raise InputError("clock", now, "a time with its zone")
    found = [*_of_data(offer, request), *_of_methods(offer, request, settings), *_of_release(offer, request)]
    return found + [*_of_buyer(offer, request, buyer), *_of_time(offer, now)]


def _of_data(offer: Offer, request: Request) -> Iterator[Broken]:
    data, candidates = offer.content["data"], request.content["candidates"]
    if len(candidates) != 1:
        yield Broken("data", f"{len(candidates)} candidates", f"one, {data['listing']}")
        return
    listing = candidates[0]["listing"]
    name, commitment = ("none", "none") if listing is None else (listing["name"], listing["commitment"])
    if name != data["listing"]:
        yield Broken("data.listing", shown(name), data["listing"])
    if commitment != data["commitment"]:
        yield Broken("data.commitment", commitment, data["commitment"])


def _of_methods(offer: Offer, request: Request, settings: Settings) -> Iterator[Broken]:
    allowed = offer.content["methods"]
    for method in request.methods:
        if method not in allowed:
            yield Broken("methods", shown(method), f"one of {', '.join(sorted(allowed))}")
            continue
        stated = settings.get(method, {})
        for key, limit in sorted(allowed[method].items()):
            if key not in stated:
                yield Broken(f"methods.{method}.{key}", "no such setting", limit_words(limit))
            elif not _within(stated[key], limit):
                yield Broken(f"methods.{method}.{key}", shown(str(stated[key])), limit_words(limit))


def _within(value: Any, limit: Mapping[str, Any]) -> bool:
    """Return whether a setting's value keeps a limit. A truth value is no number."""
    if "one_of" in limit and not any(_same(one, value) for one in limit["one_of"]):
        return False
    if not {"least", "most"} & set(limit):
        return True
    return is_number(value) and limit.get("least", value) <= value <= limit.get("most", value)


def _same(one: Any, value: Any) -> bool:
    return (type(one) is bool) == (type(value) is bool) and one == value


def _of_release(offer: Offer, request: Request) -> Iterator[Broken]:
    allowed, kind = offer.content["release"], request.content["release"]["kind"]
    if kind != allowed["kind"]:
        yield Broken("release", kind, allowed["kind"])
    for key in ("epsilon", "delta") if "epsilon" in allowed else ():
        value = None if request.privacy is None else request.privacy[key]
        if value is None or value > allowed[key]:
            yield Broken(key, "no noise" if value is None else f"{value:.15g}", f"at most {allowed[key]:.15g}")
    others = [role for role in request.learners if role not in allowed["learners"]]
    if others:
        yield Broken("learners", ", ".join(others), f"{', '.join(allowed['learners'])} alone")
    if "integrity" in offer.content and "integrity" not in request.content["protocol"]:
        yield Broken("integrity", "off", "on")


def _of_buyer(offer: Offer, request: Request, buyer: str | None) -> Iterator[Broken]:
    purposes, buyers = (offer.content.get(key) for key in ("purposes", "buyers"))
    if purposes is not None:
        kind = request.content["purpose"]["kind"] if "purpose" in request.content else "none"
        if kind not in purposes:
            yield Broken("purpose", kind, f"one of {', '.join(purposes)}")
    if buyer is None:
        yield Broken("buyer", "no certificate", "a certificate, which the transport tls shows")
    elif buyers is not None and buyer not in buyers:
        yield Broken("buyer", f"the certificate key with SHA-256 {buyer}", "one of those that the offer names")
    stated, asked = offer.content.get("price"), request.content.get("offer", {}).get("price")
    if asked != stated:
        yield Broken("price", price_words(asked), price_words(stated))


def _of_time(offer: Offer, now: datetime) -> Iterator[Broken]:
    if now >= offer.end:
        yield Broken("until", now.isoformat(timespec="seconds"), f"a time before {offer.end.isoformat()}")
