"""What one role does in a run of the marketplace: it meets the others, agrees on plan and offers, runs, and leaves.

`take_part` runs in every process, spawned on one machine or started by an organisation. In go the role, the public
plan, and a function that reads the role's own input; out comes the result, at the shopper alone. Sellers take no part:
they have left before, and only their files are there.

SIDES lists what each role runs in each protocol, and HOLDERS which role receives the sellers' files; a new protocol is
added to both. The steps of `_run` have to stay in their order and equal at all roles: the plans are compared before
anything else is sent, and the offers are agreed on before a protocol starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.cap import check_cap
from mpc_appraisal.marketplace.plan import MarketPlan, ShopperInput
from mpc_appraisal.marketplace.result import MarketResult, PhaseCosts, by_phase
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER, authority, cloud, shares, shopper
from mpc_appraisal.marketplace.roles.authority import AuthorityInput
from mpc_appraisal.marketplace.roles.cloud import CloudInput
from mpc_appraisal.marketplace.roles.context import Connection, Refusal, RunContext, ignore
from mpc_appraisal.marketplace.uploads.enrolment import registry
from mpc_appraisal.marketplace.uploads.inbox import agree_offers, read_inbox
from mpc_appraisal.mpc.backends.fast import open_channel
from mpc_appraisal.mpc.net.lifecycle import Link, attend
from mpc_appraisal.mpc.net.messages import Messages
from mpc_appraisal.mpc.net.meter import Meter
from mpc_appraisal.mpc.session import agree

Own = ShopperInput | CloudInput | AuthorityInput

HOLDERS = {"ife_transform": CLOUD, "ife_shares": SHOPPER}  # the role that receives the sellers' files
SIDES: dict[str, dict[str, Callable[..., Any]]] = {
    "ife_transform": {
        SHOPPER: lambda context, own, uploads: shopper.run_transform(context, own),
        CLOUD: lambda context, own, uploads: cloud.run_transform(context, uploads),
        AUTHORITY: lambda context, own, uploads: authority.run_transform(context, own),
    },
    "ife_shares": {
        SHOPPER: lambda context, own, uploads: shares.run_shopper(context, own, uploads),
        CLOUD: lambda context, own, uploads: shares.run_cloud(context),
        AUTHORITY: lambda context, own, uploads: shares.run_authority(context, own),
    },
}
INPUTS = {SHOPPER: ShopperInput, CLOUD: CloudInput, AUTHORITY: AuthorityInput}


def take_part(
    role: str,
    address: str,
    market: MarketPlan,
    read: Callable[[], Own],
    connection: Connection | None = None,
    hosted: bool = False,
    refusal: Refusal = ignore,
) -> MarketResult | None:
    """Take `role` in a run of the market.

    Args:
        role: 'model_owner' (shopper), 'data_owner' (cloud) or 'dealer' (key authority).
        address: 'tcp://host:port', where the shopper listens.
        market: the public plan.
        read: a function that returns this role's own input, a ShopperInput, CloudInput or AuthorityInput; it is called
            in this process alone.
        connection: how the roles meet.
        hosted: True if a launcher hosts the rendezvous.
        refusal: a function that is called with a seller's name and a reason whenever this role learns that the seller
            is left out; the others go on.

    Returns the result at the shopper, and None at the other roles.

    Raises:
        InputError: this role's own input is bad, nothing is on offer, or fewer rows than the budget; at the authority
            also a network whose first layer is beyond the cap.
        DisagreementError: the plans of the roles differ.
        PeerError: another role failed, vanished or never came; the error names it.
    """
    connection = connection or Connection()

    def checked() -> Own:
        own = read()
        _check(role, own, market)
        return own

    return attend(
        role,
        connection.transport,
        address,
        connection.join_timeout,
        checked,
        lambda rendezvous, own: _run(role, rendezvous, market, own, connection, refusal),
        hosted,
    )


def _check(role: str, own: Own, market: MarketPlan) -> None:
    if role not in INPUTS or not isinstance(own, INPUTS[role]):
        expected = f"{INPUTS[role].__name__}" if role in INPUTS else f"one of {', '.join(INPUTS)}"
        raise InputError("role and its input", f"{role} with {type(own).__name__}", expected)
    if isinstance(own, ShopperInput):
        own.check(market)
    if isinstance(own, AuthorityInput):
        check_cap(market.architecture, own.cap_share)  # before any upload is read
    if isinstance(own, CloudInput) and own.inbox is not None and HOLDERS[market.protocol.name] != CLOUD:
        expected = f"none: with {market.protocol.name} the sellers' uploads must never come to {CLOUD}"
        raise InputError("inbox", own.inbox, expected)
    if HOLDERS[market.protocol.name] == role and own.inbox is None:
        raise InputError(
            "inbox", None, f"the folder of sellers' uploads: with {market.protocol.name} they go to {role}"
        )


def _run(
    role: str, rendezvous: Link, market: MarketPlan, own: Own, connection: Connection, refusal: Refusal
) -> MarketResult | None:
    agree(rendezvous, market.public, market.digest)
    name = market.protocol.name
    known = registry(own.folder) if isinstance(own, AuthorityInput) else {}
    costs = PhaseCosts(Meter())
    with costs.phase("upload"):  # counts the time that reading and verifying the files takes
        offers, uploads = agree_offers(
            rendezvous, HOLDERS[name], known, lambda sellers: read_inbox(own.inbox, sellers, market), market
        )
    for seller, why in offers.refused.items():
        refusal(seller, why)
    channel = open_channel(rendezvous, costs.meter, connection.timeout, connection.transport.kind)
    context = RunContext(market, rendezvous, connection, Messages(channel), offers, costs, refusal)
    result = SIDES[name][role](context, own, uploads)
    channel.close()
    costs_by_role = rendezvous.exchange("bill", costs.phases)
    return replace(result, costs=by_phase(costs_by_role)) if result is not None else None
