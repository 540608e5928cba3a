"""What may be asked of a data set (Policy), and what is asked (Question)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from mpc_appraisal.errors import InputError
from mpc_appraisal.release.accounting import Mechanism


@dataclass(frozen=True)
class Policy:
    """The limits of one data set, for each counterparty by itself: counterparties who pool their answers add them up.

    epsilon, delta: budget of all noised values together. minimum_rows: smaller data sets are not appraised, for many
    appraisals of few rows reveal a model. plain_values: how many values may be released without noise; such a value has
    infinite epsilon, so the cap limits their number and promises nothing more.
    """

    epsilon: float = 1.0
    delta: float = 1e-6
    minimum_rows: int = 100
    plain_values: int = 20

    def __post_init__(self) -> None:
        for key, high in (("epsilon", math.inf), ("delta", 1.0)):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < high:
                raise InputError(f"policy.{key}", value, f"a number above 0 and below {high:g}")
            object.__setattr__(self, key, float(value))
        for key in ("minimum_rows", "plain_values"):
            whole(f"policy.{key}", getattr(self, key))


@dataclass(frozen=True)
class Question:
    """One value asked for. counterparty: who learns it, under the one name that the owner knows it by. rows: of the
    data set. subject: everything else that fixes the answer, as a digest (the configuration and the counterparty's
    commitment to its own inputs). Two questions are the same when all five are."""

    counterparty: str
    method: str
    rows: int
    subject: str
    mechanism: Mechanism = Mechanism()

    def __post_init__(self) -> None:
        for key in ("counterparty", "method", "subject"):
            text(f"question.{key}", getattr(self, key))
        whole("question.rows", self.rows)
        if not isinstance(self.mechanism, Mechanism):
            raise InputError("question.mechanism", self.mechanism, "a Mechanism")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @staticmethod
    def from_entry(entry: Mapping) -> Question:
        """From a ledger's line; raises InputError for what no question has."""
        keys = [f.name for f in fields(Question) if f.name != "mechanism"]
        try:
            question = Question(**{key: entry[key] for key in keys}, mechanism=Mechanism(**entry["mechanism"]))
        except (KeyError, TypeError) as error:
            raise InputError("question", f"without {error}", "all of its entries") from error
        if entry.get("question") != question.digest:
            raise InputError("question", entry.get("question"), f"the digest of its entries, {question.digest}")
        return question


def text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or value != value.strip() or not value.isprintable() or len(value) > 200:
        raise InputError(name, repr(value), "1 to 200 printable characters, none of them a space at either end")
    return value


def whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(name, repr(value), "a whole number, 0 or more")
    return value
