"""A policy file: rules by which a data owner says yes to requests without being asked.

    methods: [influence]
    minimum_rows: 500
    learners: [model_owner, data_owner]
    expires: 2027-01-31

In go a YAML file and a request; out comes a sentence for every rule that the request breaks, and no sentence means yes.
Every rule that is stated must hold, and whatever no rule names is not limited. A new rule is a field of `Rules`, a
reader in `READERS`, and a sentence in `broken`. Known keys have to keep their meaning, because owners keep such files;
and an unknown key, an empty value or a key stated twice has to stay an error, so that no rule is lost silently.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

from mpc_appraisal.common.checks import integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.text import shown
from mpc_appraisal.governance.approval.purpose import PURPOSES
from mpc_appraisal.governance.approval.request import Request
from mpc_appraisal.governance.approval.schema import ROLES

Texts = tuple[str, ...]
FLOAT, WHOLE = "tag:yaml.org,2002:float", "tag:yaml.org,2002:int"


@dataclass(frozen=True)
class Rules:
    """The rules of one policy file. A field that is None is no rule.

    Attributes:
        methods: the names of the methods that may be computed. A count of shared rows or keys (`overlap_request`) is
            allowed only where this rule names `overlap`, because rules of earlier versions did not know such requests.
        releases: the kinds of release that are allowed.
        learners: the roles that anything may be opened to.
        minimum_rows: the smallest number of rows that every candidate must have.
        maximum_epsilon, maximum_delta: the largest epsilon and delta that one value may cost; without noise epsilon is
            infinite and delta is 1.
        candidates: the names of the candidates that may be appraised.
        listed: True where every candidate must be tied to a listing of the catalogue.
        counterparties: names, as party.counterparty states them, or the SHA-256 of certificates' keys (64 hex digits).
            A name alone does not prove who asks, unless party.counterparty_key binds it.
        transports, engines: the transports and engines that are allowed.
        purposes: the purposes that are allowed, words of `purpose.PURPOSES`; a request that states none is not.
        integrity: True where both owners must check all of each other's messages.
        maximum_openings: the largest number of values that may be opened in all.
        expires: the last day in UTC on which the rules hold, or the time with its zone at which they end.

    Raises InputError for a value of another type, and where there is no rule at all.
    """

    methods: Texts | None = None
    releases: Texts | None = None
    learners: Texts | None = None
    minimum_rows: int | None = None
    maximum_epsilon: float | None = None
    maximum_delta: float | None = None
    candidates: Texts | None = None
    listed: bool | None = None
    counterparties: Texts | None = None
    transports: Texts | None = None
    engines: Texts | None = None
    purposes: Texts | None = None
    integrity: bool | None = None
    maximum_openings: int | None = None
    expires: date | datetime | str | None = None

    def __post_init__(self) -> None:
        stated = {key: value for key in KEYS if (value := getattr(self, key)) is not None}
        if not stated:
            raise InputError("policy", "no rule", f"one or more of {', '.join(KEYS)}")
        for key, value in stated.items():
            object.__setattr__(self, key, READERS[key](f"policy: {key}", value))

    @staticmethod
    def read(path: str | os.PathLike[str]) -> Rules:
        """Read rules from a YAML file. Raises InputError with the key, its value and what was expected."""
        path = Path(path)
        try:
            content = _yaml(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(
                "approval", f"{shown(str(path))} ({error.strerror})", "a policy file, ask or yes"
            ) from None
        except (ValueError, RecursionError) as error:
            raise InputError("policy", shown(str(error), 200), "YAML, each key once") from None
        if not isinstance(content, dict) or not content:
            raise InputError("policy", "nothing" if not content else shown(content), f"keys of {', '.join(KEYS)}")
        for key, value in content.items():
            if key not in KEYS:
                raise InputError("policy", shown(key), f"no key but {', '.join(KEYS)}")
            if value is None:
                raise InputError(f"policy: {key}", "nothing", "a value, or no such key")
        return Rules(**content)

    def broken(self, request: Request, counterparty: str, now: datetime, key: str | None = None) -> list[str]:
        """Return a sentence for every rule that the request breaks.

        Args:
            request: what is asked.
            counterparty: the name of the party that asks.
            now: the time with its zone.
            key: the SHA-256 of the certificate key that the counterparty showed, if any.

        Raises InputError for a time without its zone.
        """
        if now.tzinfo is None:
            raise InputError("clock", now, "a time with its zone")
        content, privacy = request.content, request.privacy
        small = [c for c in content["candidates"] if c["rows"] < (self.minimum_rows or 0)]
        unlisted = [c["name"] for c in content["candidates"] if c["listing"] is None] if self.listed else []
        epsilon, delta = (privacy["epsilon"], privacy["delta"]) if privacy else (math.inf, 1.0)
        exact = "" if privacy else ", without noise"
        end = None if self.expires is None else _end(self.expires)
        sentences = [
            _beyond("method", "methods", request.methods, self.methods),
            request.by_name_alone
            and self.methods is None
            and f"No rule names the method {', '.join(request.by_name_alone)}; expected it in methods.",
            _beyond("release", "releases", [content["release"]["kind"]], self.releases),
            _beyond("learner", "learners", request.learners, self.learners),
            small
            and "Too few rows: "
            + ", ".join(f"{shown(c['name'])} has {c['rows']}" for c in small)
            + f"; minimum_rows is {self.minimum_rows}.",
            _above("Epsilon of one value" + exact, "maximum_epsilon", epsilon, self.maximum_epsilon),
            _above("Delta of one value" + exact, "maximum_delta", delta, self.maximum_delta),
            _beyond("candidate", "candidates", request.candidates, self.candidates),
            unlisted and f"Not tied to a listing: {', '.join(map(shown, unlisted))}; listed is true.",
            key not in (self.counterparties or (None,))
            and _beyond("counterparty", "counterparties", [counterparty], self.counterparties),
            _beyond("transport", "transports", [content["protocol"]["transport"]], self.transports),
            _beyond("engine", "engines", [content["protocol"]["engine"]], self.engines),
            self.purposes and _beyond("purpose", "purposes", [_purpose_of(content)], self.purposes),
            self.integrity
            and "integrity" not in content["protocol"]
            and "Messages are not checked (session.integrity is off); integrity is true.",
            _above("Numbers opened in all", "maximum_openings", request.numbers, self.maximum_openings),
            end is not None and now >= end and f"The rules held until {end.isoformat()} (expires).",
        ]
        return [sentence for sentence in sentences if sentence]


def _purpose_of(content: dict[str, Any]) -> str:
    return content["purpose"]["kind"] if "purpose" in content else "none is stated"


def _beyond(what: str, key: str, found: list[str], allowed: Texts | None) -> str:
    others = [] if allowed is None else [one for one in dict.fromkeys(found) if one not in allowed]
    if not others:
        return ""
    return f"Not an allowed {what}: {', '.join(map(shown, others))}; {key} has {', '.join(map(shown, allowed))}."


def _above(what: str, key: str, found: float, most: float | None) -> str:
    if most is None or found <= most:
        return ""
    return f"{what}: {found:.15g}; {key} is {most:.15g}."


def _end(expires: date | datetime) -> datetime:
    """Return the first moment at which the rules no longer hold."""
    if isinstance(expires, datetime):
        return expires.astimezone(timezone.utc)
    return datetime.combine(expires, time(), timezone.utc) + timedelta(days=1)


def _texts(*choices: str):
    words = (
        f"a list of {', '.join(choices)}" if choices else "a list of one or more texts (quote what YAML reads as more)"
    )

    def read(where: str, value: Any) -> Texts:
        if type(value) not in (list, tuple) or not value:
            raise InputError(where, shown(value), words)
        for one in value:
            if type(one) is not str or not one or (choices and one not in choices):
                raise InputError(where, shown(repr(one)), words)
        return tuple(value)

    return read


def _whole(where: str, value: Any) -> int:
    return integer(where, value, 1, expected="a whole number, 1 or more")


def _positive(where: str, value: Any) -> float:
    return number(where, value, above=0)


def _probability(where: str, value: Any) -> float:
    return number(where, value, "a number from 0 to below 1", least=0, below=1)


def _true(where: str, value: Any) -> bool:
    if value is not True:
        raise InputError(where, shown(repr(value)), "true, or no such key")
    return True


def _when(where: str, value: Any) -> date | datetime:
    expected = "a day (2027-01-31) or a time with its zone (2027-01-31T12:00:00+01:00)"
    found = value
    try:
        if type(value) is str:
            found = (
                date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value.replace("Z", "+00:00"))
            )
        if type(found) is date or (type(found) is datetime and found.tzinfo is not None):
            _end(found)  # raises OverflowError on the last day of the calendar
            return found
    except (ValueError, OverflowError):
        pass
    raise InputError(where, shown(str(value)), expected)


def _yaml(text: str) -> Any:
    """Read one YAML document whose keys are stated once. Raises ValueError for any other text."""
    import yaml

    class Once(yaml.SafeLoader):
        """A loader that refuses equal keys. YAML's own loader keeps the last one, and a rule would vanish silently."""

        def construct_mapping(self, node, deep=False):
            keys = [key.value for key, _ in node.value]
            if len(set(map(str, keys))) < len(keys):
                raise ValueError(f"a key is stated twice among {', '.join(map(str, keys))}")
            return super().construct_mapping(node, deep)

    # YAML 1.1 takes 0500 for 320, 5:00 for 300 and 1e-6 for a text. Numbers here are decimal.
    Once.add_implicit_resolver(
        FLOAT, re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), [*"-+.0123456789"]
    )
    Once.add_constructor(FLOAT, lambda loader, node: _decimal(node.value, float))
    Once.add_constructor(WHOLE, lambda loader, node: _decimal(node.value, int))
    try:
        return yaml.load(text, Once)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _decimal(text: str, kind: type) -> float:
    if kind is float and re.fullmatch(r"[-+]?\.(inf|nan)", text.lower()):
        return float(text.replace(".", "", 1))  # the rule itself refuses it, by its name
    if not re.fullmatch(r"[-+]?[0-9]+" if kind is int else r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
        raise ValueError(f"{text}, which is no decimal number: quote it where it is meant as a text")
    return kind(text)


READERS = {
    "methods": _texts(),
    "releases": _texts(),
    "learners": _texts(*ROLES),
    "minimum_rows": _whole,
    "maximum_epsilon": _positive,
    "maximum_delta": _probability,
    "candidates": _texts(),
    "listed": _true,
    "counterparties": _texts(),
    "transports": _texts(),
    "engines": _texts(),
    "purposes": _texts(*PURPOSES),
    "integrity": _true,
    "maximum_openings": _whole,
    "expires": _when,
}
KEYS = tuple(field.name for field in fields(Rules))
