"""What every role has during a run: the plan, its messages, its costs, and what is on offer.

`party` makes one `RunContext` for a role's run and hands it to the functions of that role. In go a `Connection` and
what the roles agreed on; `selected_rows` returns the shopper's selection after it was checked. A field may be added to
the context. KEY_BYTES is the length of a label's key and stands in messages; the checks of `selected_rows` have to
stay, because cloud and authority rely on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.marketplace.messages import announced_by, count_of
from mpc_appraisal.marketplace.plan import MarketPlan
from mpc_appraisal.marketplace.result import PhaseCosts
from mpc_appraisal.marketplace.roles import SHOPPER
from mpc_appraisal.marketplace.uploads.inbox import Offers
from mpc_appraisal.mpc.net.lifecycle import Link
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.transport import Transport, check_seconds

Refusal = Callable[[str, str], None]  # it is called with a seller's name and a reason
Selected = Sequence[tuple[str, int]]
KEY_BYTES = 32
TRANSPORTS = ("tcp", "tls")


def ignore(seller: str, why: str) -> None:
    """Take note of no refusal."""


@dataclass(frozen=True)
class Connection:
    """How the roles meet.

    Attributes:
        transport: the transport between the roles, 'tcp' or 'tls'.
        join_timeout: seconds to wait for the other roles to come.
        timeout: seconds that one message may take.

    Raises InputError for times that are no seconds, and for another transport.
    """

    transport: Transport = field(default_factory=Transport)
    join_timeout: float = 120.0
    timeout: float = 300.0

    def __post_init__(self) -> None:
        check_seconds("", join_timeout=self.join_timeout, timeout=self.timeout)
        if self.transport.kind not in TRANSPORTS:  # gloo has one group a process, and shares open several
            raise InputError("transport", repr(self.transport.kind), f"one of {', '.join(TRANSPORTS)}")


@dataclass(frozen=True, eq=False)
class RunContext:
    """What a role's functions are given in one run.

    Attributes:
        market: the public plan.
        rendezvous: where the roles met; sessions of the engine are opened over it, beside `messages`.
        connection: how the roles meet, with the time limits.
        messages: this role's messages to the others.
        offers: what is on offer, as all roles agreed.
        costs: this role's costs so far.
        refusal: a function that is called with the name and the reason whenever a seller is left out.
    """

    market: MarketPlan
    rendezvous: Link
    connection: Connection
    messages: Messages
    offers: Offers
    costs: PhaseCosts
    refusal: Refusal = ignore


def by_seller(selected: Selected) -> dict[str, list[int]]:
    """Group the places in the selection by seller: name -> places, in the order of the selection."""
    found: dict[str, list[int]] = {}
    for place, (name, _) in enumerate(selected):
        found.setdefault(name, []).append(place)
    return found


def selected_rows(context: RunContext) -> Selected:
    """Receive the shopper's selection, `budget` pairs (seller, row).

    Raises PeerError for rows that are not on offer, for a row that stands there twice, and for another number of rows
    than the budget.
    """
    message, budget = context.messages.hear(SHOPPER), context.market.budget
    with announced_by(SHOPPER):
        selected = [(str(name), count_of(row)) for name, row in message["rows"]]
    offered = all(row < context.offers.rows.get(name, 0) for name, row in selected)
    if len(selected) != budget or len(set(selected)) != budget or not offered:
        raise PeerError(f"{SHOPPER} selected other rows than {budget} of those on offer")
    return selected
