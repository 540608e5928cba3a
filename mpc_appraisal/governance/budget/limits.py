"""What may be asked of a data set (Policy), and what is asked (Question)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from mpc_appraisal.common.checks import integer, number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.accounting import Mechanism

LEAST_DELTA = 1e-300  # so that 1 / delta is a number
COUNT = "a whole number, 0 or more"


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
        for key, low, high in (("epsilon", 0.0, math.inf), ("delta", LEAST_DELTA, 1.0)):
            expected = f"a number above {low:g} and below {high:g}"
            value = number(f"policy.{key}", getattr(self, key), expected, above=low, below=high)
            object.__setattr__(self, key, value)
        for key in ("minimum_rows", "plain_values"):
            integer(f"policy.{key}", getattr(self, key), 0, expected=COUNT)

    @staticmethod
    def read(path: str | Path) -> Policy:
        """From a YAML file that states some of the limits, as `epsilon: 2`; the others are the defaults.

        Raises InputError for a file that cannot be read, states nothing, or states what `limits` refuses.
        """
        path = Path(path)
        try:
            # Nodes and not values: YAML 1.1 takes 1e-6 for a text, and of a key that stands twice the last.
            node = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
        except OSError as error:
            raise InputError("policy", f"{path.name}: {error.strerror}", "a YAML file that can be read") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError("policy", f"{path.name}: {' '.join(str(error).split())}", "a YAML file") from error
        if not isinstance(node, yaml.MappingNode) or not node.value:
            found = "nothing" if node is None or not node.value else "no keys"
            raise InputError("policy", f"{path.name} with {found}", f"lines `key: number`, of {', '.join(LIMITS)}")
        return Policy(**limits((str(key.value), _plain(value)) for key, value in node.value))


LIMITS = {f.name: type(f.default) for f in fields(Policy)}  # a policy's keys and their types


def limits(stated: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Some of a policy's limits, by key, from texts; InputError for an unknown key, one stated twice, no number."""
    found: dict[str, float] = {}
    for key, value in stated:
        one_of("policy", key, LIMITS)
        if key in found:
            raise InputError(f"policy.{key}", f"{value}, after {found[key]:g}", "one value")
        kind = LIMITS[key]
        try:
            found[key] = kind(value)
        except ValueError:
            raise InputError(
                f"policy.{key}", value or "nothing", "a whole number" if kind is int else "a number"
            ) from None
    return found


def _plain(node: yaml.Node) -> str:
    """What a node of YAML says; a text in quotation marks keeps them, for it is no number."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "keys"
    return repr(node.value) if node.style else node.value


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
        integer("question.rows", self.rows, 0, expected=COUNT)
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
