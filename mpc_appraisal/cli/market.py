"""The marketplace as the app runs it: a data set is split, the sellers sell, the shopper selects and validates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.common.roles import TRUST
from mpc_appraisal.data import Dataset
from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.plan import Protocol
from mpc_appraisal.marketplace.record import MarketRecord
from mpc_appraisal.marketplace.simulation import Sellers, errors

AUTHORITY = "The key authority could decrypt every upload; it colludes with nobody."


def market(
    sellers: Sellers,
    protocol: Protocol,
    session: Any,
    source: Callable[[], tuple[Dataset, Dataset]],
    seed: int,
    public: dict[str, Any],
) -> MarketRecord:
    """One run on the data of `source`, and its record.

    public: the configuration, flat; the record has its hash.
    Raises InputError for what does not fit, before anything is sent.
    """
    if session.name not in ("plain", "spawn"):
        raise InputError("session", session.name, "plain or spawn; between organisations: `mpc-appraisal market`")
    train, test = source()
    simulated = sellers.build(train, test, protocol, seed)
    result = run_market(simulated.market, simulated.shopper, simulated.sellers, session, sellers.key_cap)
    after = None if result.network is None else errors(result.network, simulated.test)
    return MarketRecord.of(
        result,
        {
            "config": config_hash(public),
            "seed": seed,
            "session": session.name,
            "protocol": protocol.name,
            "trust": f"{AUTHORITY} {TRUST}" if session.name == "spawn" else "One process, nothing is hidden.",
            "network": sellers.network,
            "sellers": len(simulated.sellers),
            "offered": sum(len(seller.y) for seller in simulated.sellers),
            "selection": sellers.selection,
            "budget": sellers.budget,
            "low": list(simulated.low),
            "errors": {
                "before": errors(simulated.shopper.network, simulated.test),
                "after": after,
                "of": simulated.test.rows,
            },
        },
    )
