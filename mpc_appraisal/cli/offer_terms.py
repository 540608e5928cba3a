"""The terms of a standing offer, from the words KEY=VALUE of `mpc-appraisal offer make`.

In go the words; out come the content of an offer without its key, and the private key that signs it. A method's
setting is limited by METHOD.SETTING=LIMIT, where LIMIT is A..B for numbers (either end may be left out) or a list of
values. A new term is a key here, a field of `governance.offers.schema` and a check in `governance.offers.limits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from mpc_appraisal.cli.arguments import number, yes_or_no
from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.roles import DATA_OWNER, OWNERS
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.decision import stamp
from mpc_appraisal.governance.catalogue.listing import Listing, read_listing
from mpc_appraisal.governance.offers.offer import NOISED
from mpc_appraisal.mpc.net.certificates import CertificateFiles, key_digest
from mpc_appraisal.reporting.receipt import public_bytes

NEEDED = ("name", "listing", "methods", "release", "answers_per_month", "until", "tls")
KEYS = (
    *NEEDED, "epsilon", "delta", "learners", "price", "currency", "purposes", "buyers", "integrity", "text", "replace",
)  # fmt: skip
BOTH = "both"
WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def content_of(stated: Mapping[str, str], limits: Mapping[str, str], now: datetime) -> dict[str, Any]:
    """Return the content of an offer, without its format and its key.

    Args:
        stated: the values of KEYS.
        limits: the limits of settings, by METHOD.SETTING.
        now: the time at which the offer is made, with its zone.

    Raises InputError for a key that is missing or does not fit.
    """
    for key in NEEDED:
        if not stated.get(key):
            raise InputError(f"offer make: {key}", None, f"{key}=..., which every offer states")
    listing = read_listing(Path(stated["listing"]))
    data = {"listing": listing.name, "commitment": listing.digest, "rows": listing.rows}
    found: dict[str, Any] = {
        "name": stated["name"],
        "data": data | {"features": listing.features, "classes": listing.classes},
        "methods": methods_of(texts("methods", stated["methods"]), limits),
        "release": release_of(stated),
        "answers_per_month": number("answers_per_month", stated["answers_per_month"], int),
        "until": last_day(stated["until"], now),
        "made": stamp(now),
    }
    found |= price_of(stated, listing)
    for key in ("purposes",) if stated.get("purposes") else ():
        found[key] = texts(key, stated[key])
    if stated.get("buyers"):
        found["buyers"] = [key_of_buyer(one) for one in texts("buyers", stated["buyers"])]
    if "integrity" in stated:
        found["integrity"] = one_of("integrity", stated["integrity"], ("on",))
    return found | ({"text": stated["text"]} if stated.get("text") else {})


def texts(key: str, stated: str) -> list[str]:
    """Return the texts between commas. Raises InputError, under `key`, for an empty one or one that stands twice."""
    found = [one.strip() for one in stated.split(",")]
    if "" in found or len(set(found)) < len(found):
        raise InputError(key, shown(stated), "texts between commas, each once")
    return found


def methods_of(names: list[str], limits: Mapping[str, str]) -> dict[str, Any]:
    """Return the limits of each method's settings. Raises InputError for a method or a setting that is not known."""
    from mpc_appraisal.governance.approval.overlap_words import METHOD
    from mpc_appraisal.methods import METHODS, installed_names

    known = (*METHODS, METHOD, *installed_names())
    found: dict[str, Any] = {one_of("methods", name, known): {} for name in names}
    for key, text in limits.items():
        method, _, setting = key.partition(".")
        if method not in found:
            raise InputError(key, shown(text), f"a setting of one of the methods {', '.join(names)}")
        kind = METHODS.get(method)
        if kind is not None and is_dataclass(kind):
            own = getattr(kind, "own", ())  # settings that no other party learns
            known_settings = [each.name for each in fields(kind) if each.name not in own]
            if setting not in known_settings:
                expected = f"a setting of {method}: {', '.join(known_settings) or 'it has none'}"
                raise InputError(key, shown(text), expected)
        found[method][setting] = limit_of(key, text)
    return found


def limit_of(key: str, text: str) -> dict[str, Any]:
    """Read A..B as the least and the largest number, and other texts between commas as the values that are allowed."""
    if ".." not in text:
        return {"one_of": [_value(one) for one in texts(key, text)]}
    least, _, most = text.partition("..")
    found = {name: number(key, end, float) for name, end in (("least", least), ("most", most)) if end}
    if not found:
        raise InputError(key, shown(text), "A..B, of which one end may be left out, or values between commas")
    return found


def _value(text: str) -> Any:
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        try:
            return number("", text, kind)
        except InputError:
            continue
    return text


def release_of(stated: Mapping[str, str]) -> dict[str, Any]:
    """Return the release with its most epsilon and delta. Raises InputError where the keys do not fit."""
    from mpc_appraisal.cli.front import CONF

    kind = one_of("release", stated["release"], sorted(path.stem for path in (CONF / "release").glob("*.yaml")))
    learners = stated.get("learners", BOTH)
    one_of("learners", learners, (BOTH, *OWNERS))
    found: dict[str, Any] = {"kind": kind, "learners": list(OWNERS) if learners == BOTH else [learners]}
    for key in ("epsilon", "delta"):
        if (kind == NOISED) != (key in stated):
            expected = f"a number for release={NOISED}, and none for another release"
            raise InputError(key, stated.get(key), expected)
        found |= {key: number(key, stated[key], float)} if key in stated else {}
    return found


def price_of(stated: Mapping[str, str], listing: Listing) -> dict[str, Any]:
    """Return the price of one answer; nothing without price=. The currency is that of the listing by default."""
    currency = stated.get("currency") or listing.terms.currency
    if "price" not in stated:
        if "currency" in stated:
            raise InputError("currency", shown(stated["currency"]), "price= beside it")
        return {}
    if currency is None:
        raise InputError("currency", None, "three capital letters, because the listing states none")
    return {"price": {"amount": number("price", stated["price"], float), "currency": currency}}


def last_day(text: str, now: datetime) -> str:
    """Return the last day of an offer. Raises InputError for a day that is none, or that is over."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InputError("until", shown(text), "a day of the calendar, as in 2027-01-31") from None
    if found < now.date():
        raise InputError("until", text, f"{now.date()} (UTC), or a later day")
    return found.isoformat()


def key_of_buyer(text: str) -> str:
    """Return the SHA-256 of a buyer's certificate key, from 64 hex digits or from the file of its certificate."""
    digits = text.replace(":", "").lower()
    if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
        return digits
    return key_digest(certificate_in(text, "buyers"))


def certificate_in(path: str, name: str) -> x509.Certificate:
    """Return the certificate in a file. Raises InputError, under `name`, where there is none."""
    try:
        return x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(name, shown(path), "a certificate in PEM form, as data_owner.pem") from error


def key_in(folder: str) -> Any:
    """Return the data owner's private key from its certificate folder.

    Raises InputError for a folder that lacks a file, and for a key that is not the certificate's.
    """
    files = CertificateFiles.of(folder, DATA_OWNER)
    try:
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    except (ValueError, TypeError, OSError) as error:
        raise InputError("tls", files.key.name, "a private key without a password") from error
    if public_bytes(key.public_key()) != public_bytes(certificate_in(str(files.certificate), "tls").public_key()):
        raise InputError("tls", files.key.name, f"the key of {files.certificate.name}")
    return key


def replaces(stated: Mapping[str, str]) -> bool:
    """Return whether the offer may take the place of one that is in force."""
    return yes_or_no("replace", stated.get("replace", "no"))
