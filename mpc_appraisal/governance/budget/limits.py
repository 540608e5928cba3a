"""The limits of a data set (`Policy`) and what a counterparty asks (`Question`).

A counterparty is the party that asks for values. Both classes are frozen, checked when they are made, and written into
ledgers; a policy is also read from a YAML file. In go numbers and texts; out come the two records, or an InputError
that names the field. A limit with a default may be added to `Policy`, with its check in `state`. The fields of
`Question` and its digest have to stay, because two questions are the same when all fields are, and ledgers hold the
digests.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mpc_appraisal.common.checks import integer, number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.governance.budget.accounting import Mechanism
from mpc_appraisal.governance.budget.calendar import NEVER, RENEWS

LEAST_DELTA = 1e-300  # so that 1 / delta is a number
COUNT = "a whole number, 0 or more"
NONE = ("none", "null")  # the texts that state no limit where a limit may be left out


@dataclass(frozen=True)
class Policy:
    """The limits of one data set for each counterparty by itself. Counterparties that pool their answers add them up.

    Attributes:
        epsilon, delta: the privacy budget of all noised values together.
        minimum_rows: the smallest number of rows that a data set must have to be appraised, because many appraisals of
            few rows reveal a model.
        plain_values: the number of values that may be released without noise. Such a value has infinite epsilon, so
            that the cap limits their number and promises nothing more.
        renews: how often epsilon and plain_values are given anew, one of `calendar.RENEWS`. Unless the owner states it,
            a budget never renews.
        lifetime_epsilon, lifetime_plain_values: limits on the same over all periods together, which never renew. None
            sets no such limit.

    Raises InputError for a limit that is out of range, and for a limit over all periods below that of one period.
    """

    epsilon: float = 1.0
    delta: float = 1e-6
    minimum_rows: int = 100
    plain_values: int = 20
    renews: str = NEVER
    lifetime_epsilon: float | None = None
    lifetime_plain_values: int | None = None

    def __post_init__(self) -> None:
        for key, low, high in (("epsilon", 0.0, math.inf), ("delta", LEAST_DELTA, 1.0)):
            expected = f"a number above {low:g} and below {high:g}"
            value = number(f"policy.{key}", getattr(self, key), expected, above=low, below=high)
            object.__setattr__(self, key, value)
        for key in ("minimum_rows", "plain_values"):
            integer(f"policy.{key}", getattr(self, key), 0, expected=COUNT)
        one_of("policy.renews", self.renews, RENEWS)
        if self.lifetime_epsilon is not None:
            expected = f"none, or a number from epsilon = {self.epsilon:g} on and below inf"
            value = number(
                "policy.lifetime_epsilon", self.lifetime_epsilon, expected, least=self.epsilon, below=math.inf
            )
            object.__setattr__(self, "lifetime_epsilon", value)
        if self.lifetime_plain_values is not None:
            expected = f"none, or a whole number from plain_values = {self.plain_values} on"
            integer("policy.lifetime_plain_values", self.lifetime_plain_values, self.plain_values, expected=expected)

    def entry(self) -> dict[str, Any]:
        """Return the limits as a ledger's line holds them: without the keys that older ledgers lack, while unstated."""
        stated = asdict(self)
        return {key: value for key, value in stated.items() if key in FIRST or value != getattr(Policy, key)}

    @staticmethod
    def read(path: str | Path) -> Policy:
        """Read a policy from a YAML file that states some of the limits, as `epsilon: 2`; the others are defaults.

        Raises InputError for a file that cannot be read, states nothing, or states what `limits` refuses.
        """
        path = Path(path)
        try:
            # Nodes are read in place of values: YAML 1.1 takes 1e-6 for a text, and the last of two equal keys.
            node = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
        except OSError as error:
            raise InputError("policy", f"{path.name}: {error.strerror}", "a YAML file that can be read") from error
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError("policy", f"{path.name}: {' '.join(str(error).split())}", "a YAML file") from error
        if not isinstance(node, yaml.MappingNode) or not node.value:
            found = "nothing" if node is None or not node.value else "no keys"
            raise InputError("policy", f"{path.name} with {found}", f"lines `key: number`, of {', '.join(LIMITS)}")
        return Policy(**limits((str(key.value), _plain(value)) for key, value in node.value))


FIRST = ("epsilon", "delta", "minimum_rows", "plain_values")  # the keys of the first ledgers
# A policy's keys and their types. A key that begins with `lifetime_` may also be none.
LIMITS = {"epsilon": float, "delta": float, "minimum_rows": int, "plain_values": int, "renews": str}
LIMITS |= {"lifetime_epsilon": float, "lifetime_plain_values": int}


def limits(stated: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return some of a policy's limits by key, read from pairs of texts (key, value).

    Raises InputError for an unknown key, a key that is stated twice, and a value of another type.
    """
    found: dict[str, Any] = {}
    for key, value in stated:
        one_of("policy", key, LIMITS)
        if key in found:
            first = f"{found[key]:g}" if isinstance(found[key], float) else found[key]
            raise InputError(f"policy.{key}", f"{value}, after {first}", "one value")
        kind = LIMITS[key]
        if key.startswith("lifetime_") and value in NONE:
            found[key] = None
            continue
        try:
            found[key] = kind(value)
        except ValueError:
            raise InputError(
                f"policy.{key}", value or "nothing", "a whole number" if kind is int else "a number"
            ) from None
    return found


def _plain(node: yaml.Node) -> str:
    """Return what a node of YAML says. A text keeps its quotation marks, because it is no number."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "keys"
    return repr(node.value) if node.style else node.value


@dataclass(frozen=True)
class Question:
    """One value that a counterparty asks for. Two questions are the same when all five fields are.

    Attributes:
        counterparty: the one name that the owner knows the asking party by.
        method: the name of the method that computes the value.
        rows: the number of rows of the data set.
        subject: the digest of everything else that fixes the answer: the configuration, and the counterparty's
            commitment to its own inputs.
        mechanism: how the value is noised.

    Raises InputError for a field of another form.
    """

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
        """Return the SHA-256 of the question's canonical JSON, 64 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @staticmethod
    def from_entry(entry: Mapping) -> Question:
        """Return the question that a ledger's line states. Raises InputError where the line states no question."""
        keys = [f.name for f in fields(Question) if f.name != "mechanism"]
        try:
            question = Question(**{key: entry[key] for key in keys}, mechanism=Mechanism(**entry["mechanism"]))
        except (KeyError, TypeError) as error:
            raise InputError("question", f"without {error}", "all of its entries") from error
        if entry.get("question") != question.digest:
            raise InputError("question", entry.get("question"), f"the digest of its entries, {question.digest}")
        return question


def text(name: str, value: object) -> str:
    """Return `value` if it is a name: 1 to 200 printable characters without a space at either end; else InputError."""
    if not isinstance(value, str) or not value or value != value.strip() or not value.isprintable() or len(value) > 200:
        raise InputError(name, repr(value), "1 to 200 printable characters, none of them a space at either end")
    return value
