"""What every role has in hand during a run: the plan, its messages, its bill, and what is on offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mpc_appraisal.common.errors import InputError, PeerError
from mpc_appraisal.marketplace.messages import announced_by, count_of
from mpc_appraisal.marketplace.plan import MarketPlan
from mpc_appraisal.marketplace.result import PhaseCosts
from mpc_appraisal.marketplace.roles import SHOPPER
from mpc_appraisal.marketplace.uploads.inbox import Offers
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.rendezvous import Rendezvous
from mpc_appraisal.mpc.net.tls import TlsLink
from mpc_appraisal.mpc.net.transport import Transport, check_seconds

Selected = Sequence[tuple[str, int]]
KEY_BYTES = 32
TRANSPORTS = ("tcp", "tls")


@dataclass(frozen=True)
class Connection:
    """How the roles meet. join_timeout: seconds to wait for the others; timeout: seconds that one message may take."""

    transport: Transport = field(default_factory=Transport)
    join_timeout: float = 120.0
    timeout: float = 300.0

    def __post_init__(self) -> None:
        check_seconds(join_timeout=self.join_timeout, timeout=self.timeout)
        if self.transport.kind not in TRANSPORTS:  # gloo knows one group a process, and shares open several
            raise InputError("session.transport", repr(self.transport.kind), f"one of {', '.join(TRANSPORTS)}")


@dataclass(frozen=True, eq=False)
class RunContext:
    """rendezvous: for sessions of the engine beside `messages`."""

    market: MarketPlan
    rendezvous: Rendezvous | TlsLink
    connection: Connection
    messages: Messages
    offers: Offers
    costs: PhaseCosts


def by_seller(selected: Selected) -> dict[str, list[int]]:
    """Places in the selection, by seller."""
    found: dict[str, list[int]] = {}
    for place, (name, _) in enumerate(selected):
        found.setdefault(name, []).append(place)
    return found


def selected_rows(context: RunContext) -> Selected:
    """What the shopper selected; rows that are not on offer, or are there twice, are refused."""
    note, budget = context.messages.hear(SHOPPER), context.market.budget
    with announced_by(SHOPPER):
        told = [(str(name), count_of(row)) for name, row in note["rows"]]
    offered = all(row < context.offers.rows.get(name, 0) for name, row in told)
    if len(told) != budget or len(set(told)) != budget or not offered:
        raise PeerError(f"{SHOPPER} selected other rows than {budget} of those on offer")
    return told
