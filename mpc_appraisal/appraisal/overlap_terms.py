"""What both owners state alike about a count of shared items, and what follows from it for requests and ledgers.

The command `overlap` counts in a session of its own (`overlap`), and an appraisal with `overlap=` counts before it
shares anything (`counted`). Both take the terms, the sentences on what is revealed, the openings, the question to a
ledger and the checks of a count from here. In go what is compared and a minimum; out come public facts alone.

Terms may be added with a default. The sentences and the openings have to stay byte for byte, because requests hold them
and wait in queues.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import DisagreementError, InputError, PeerError
from mpc_appraisal.common.roles import DATA_OWNER, MODEL_OWNER
from mpc_appraisal.governance.approval.decide import Request
from mpc_appraisal.governance.approval.overlap_words import KEYS, METHOD, ROWS
from mpc_appraisal.governance.budget.keys import keyed
from mpc_appraisal.governance.budget.ledgers import LedgerSet, subject
from mpc_appraisal.governance.budget.limits import Question
from mpc_appraisal.mpc.net.transport import Transport, check_seconds
from mpc_appraisal.mpc.protocols.set_intersection import STRUCTURE

MINIMUM = 10  # the least count that the model owner is shown, by default
TRANSPORTS = ("tls", "tcp")  # gloo has groups of three parties alone
TRUST = (
    "The two owners follow the protocol, and no third party takes part: the security is semi-honest, by Diffie-Hellman "
    "on the curve P-256 as in openmined-psi. A cheating owner can bring items that it made up, a cheating data owner "
    "can state another count, and a cheating model owner can make the count wrong."
)


@dataclass(frozen=True)
class OverlapTerms:
    """What is compared, and the least count that the model owner is shown.

    Attributes:
        column: The name of the column of keys; None compares rows.
        minimum: The least count that the model owner is shown; below it, it is shown that the count is below it.

    Raises InputError for a minimum that is no whole number of 1 or more, and for an empty column.
    """

    column: str | None = None
    minimum: int = MINIMUM
    settings: ClassVar[tuple[str, str]] = ("overlap", "overlap_minimum")  # what errors call column and minimum

    def __post_init__(self) -> None:
        key, minimum = self.settings
        integer(minimum, self.minimum, 1, 2**53, "a whole number, 1 or more")
        if self.column is not None and not (self.column.strip() and len(self.column) <= 200):
            raise InputError(key, repr(self.column[:80]), "the name of a column, 1 to 200 characters")

    @property
    def what(self) -> str:
        """The items that are compared, in one word."""
        return ROWS if self.column is None else KEYS

    def check_size(
        self, role: str, items: int, error: Callable[[str, object, str], Exception], candidate: str | None = None
    ) -> None:
        """Raise an error for a set that is smaller than the minimum, since its count could never reach it.

        candidate: The name of the set, where the role has several.
        """
        if items < self.minimum:
            name = f"different {self.what} of the {role.replace('_', ' ')}"
            name += "" if candidate is None else f" in {candidate!r}"
            raise error(name, items, f"{self.minimum} or more, as {self.settings[1]} states")


@dataclass(frozen=True)
class OverlapPlan(OverlapTerms):
    """The terms of a session that only counts, and how its two owners meet.

    Attributes:
        transport: The connection, over 'tls' or 'tcp'.
        join_timeout: The seconds to wait for the other owner to come.
        timeout: The seconds that one message may take.
        recipe: The digest of the recipe by which both owners read their tables; None for files of features.

    Raises InputError for another transport or time, and what `OverlapTerms` raises.
    """

    transport: Transport = Transport("tls")
    join_timeout: float = 120.0
    timeout: float = 300.0
    recipe: str | None = None
    settings: ClassVar[tuple[str, str]] = ("key", "minimum")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds("", join_timeout=self.join_timeout, timeout=self.timeout)
        check_transport("transport", self.transport.kind)

    @property
    def public(self) -> dict[str, Any]:
        """The settings that are compared between the owners. The recipe stands there only where one is used."""
        settings = {"compared": self.what, "key": self.column, "minimum": self.minimum, "structure": STRUCTURE}
        settings |= {} if self.recipe is None else {"recipe": self.recipe}
        return {f"{METHOD}.{key}": value for key, value in settings.items()}


def check_transport(name: str, kind: str) -> None:
    """Raise InputError, under `name`, for a transport by which two owners cannot count without the dealer."""
    if kind not in TRANSPORTS:
        raise InputError(name, repr(kind), f"one of {', '.join(TRANSPORTS)}")


def revealed(terms: OverlapTerms) -> list[str]:
    """Return the sentences on what is revealed to whom, which stand in the request, the record and the table."""
    return [
        f"The model owner is shown how many different {terms.what} are in both sets where there are {terms.minimum} or "
        f"more, and otherwise that there are fewer than {terms.minimum}.",
        "The data owner is shown the exact count in every case, because it computes the count and applies the minimum.",
        f"Each side is shown how many different {terms.what} the other has, and neither is shown which are shared.",
    ]


def openings(terms: OverlapTerms, times: int = 1) -> list[dict[str, Any]]:
    """Return what is opened, to whom and why, as a request lists it. times: the number of the data owner's sets."""
    each = {"numbers": 1, "times": times, "method": METHOD}
    return [
        each
        | {
            "what": f"the exact number of {terms.what} in both sets",
            "to": [DATA_OWNER],
            "why": "the data owner computes the count and applies the minimum",
        },
        each
        | {
            "what": f"the same number, or that it is below {terms.minimum}",
            "to": [MODEL_OWNER],
            "why": f"the model owner asks how many of the data owner's {terms.what} it has already",
        },
    ]


def question(
    ledgers: LedgerSet, counterparty: str, name: str, rows: int, digests: Sequence[str], request: Request
) -> Question:
    """Return the question that an owner's ledger is charged for. No session repeats another's question.

    The digest of the items is one under the ledger's own key, and that of the request holds the recipe's where one is
    used.

    Args:
        ledgers: This owner's ledgers.
        counterparty: What this owner calls the other one.
        name: The name of the data owner's set.
        rows: The number of different items of the data owner's set.
        digests: This owner's items.
        request: The request that the data owner is asked.
    """
    content = keyed(ledgers.key(name), "question", subject(items=list(digests)))
    about = subject(request=request.digest, data=content, session=secrets.token_hex(16))
    return Question(counterparty, METHOD, rows, about)


def answer_of(terms: OverlapTerms, found: int | None) -> dict[str, int]:
    """Return what the model owner is shown of a count, as ledgers record it. found: None for one below the minimum."""
    return {"fewer_than": terms.minimum} if found is None or found < terms.minimum else {"count": found}


def check_count(terms: OverlapTerms, stated: Any, most: int, error: type[DisagreementError] | type[PeerError]) -> None:
    """Raise an error for a count that the data owner cannot have found. most: the items of the smaller set."""
    if stated is not None and not (type(stated) is int and terms.minimum <= stated <= most):
        raise error(f"the data owner states the count {stated}; expected {terms.minimum} to {most}")
