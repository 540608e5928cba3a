"""An offer in words: a row for each of its terms, which commands, pages and the comparison of two versions share.

In go the terms; out come pairs of a term and its text. Every term of the shape has a row, so that nothing stands in an
offer that nobody reads. Own words of the owner are foreign to its readers: they pass `shown` where they are printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpc_appraisal.governance.offers.offer import Offer

ANYONE, ANY_PURPOSE, NO_PRICE = "anyone with a certificate", "any purpose, or none", "none is stated"


def terms_of(offer: Offer) -> dict[str, str]:
    """Return the terms of an offer by their names, in words."""
    content = offer.content
    data, release = content["data"], content["release"]
    classes = "a target that is a number" if data["classes"] == 1 else f"{data['classes']} classes"
    noise = f", epsilon at most {release['epsilon']:g} at delta {release['delta']:g}" if "epsilon" in release else ""
    found = {
        "data": f"{data['listing']}: {data['rows']} rows, {data['features']} features, {classes}; "
        f"commitment {data['commitment']}",
        "methods": "; ".join(map(method_words, content["methods"].items())),
        "release": f"{release['kind']}{noise}",
        "learners": " and ".join(role.replace("_", " ") for role in release["learners"]),
        "price": price_words(content.get("price")),
        "answers a month": str(content["answers_per_month"]),
        "until": f"{content['until']}, to the end of the day in UTC",
        "purposes": ", ".join(content["purposes"]) if "purposes" in content else ANY_PURPOSE,
        "buyers": ", ".join(content["buyers"]) if "buyers" in content else ANYONE,
        "integrity": "on" if "integrity" in content else "on or off",
    }
    return found | ({"own words": content["text"]} if content.get("text") else {})


def changed_terms(old: Offer, new: Offer) -> list[tuple[str, str, str]]:
    """Return each term that differs between two versions of an offer, with its old and its new value."""
    before, after = terms_of(old), terms_of(new)
    pairs = [(term, before.get(term, "none"), after.get(term, "none")) for term in dict.fromkeys([*before, *after])]
    return [one for one in pairs if one[1] != one[2]]


def price_words(price: Mapping[str, Any] | None) -> str:
    """Return the price of one answer, or the words that none is stated."""
    return NO_PRICE if price is None else f"{price['amount']:.15g} {price['currency']} for one answer"


def method_words(method: tuple[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a method with the limits of its settings. method: its name, and the limits by setting."""
    name, settings = method
    limits = ", ".join(f"{key} {limit_words(limit)}" for key, limit in sorted(settings.items()))
    return f"{name} ({limits or 'any settings'})"


def limit_words(limit: Mapping[str, Any]) -> str:
    """Return one limit of a setting in words."""
    parts = [f"{words} {limit[key]:g}" for key, words in (("least", "from"), ("most", "to")) if key in limit]
    if "one_of" in limit:
        parts.append(f"one of {', '.join(map(str, limit['one_of']))}")
    return " ".join(parts)
