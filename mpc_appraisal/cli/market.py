"""The marketplace as an experiment of the app: a data set is split, sellers sell, the shopper selects and validates.

In go the parts that the configuration describes; out comes one record of the run. The shopper has a network and buys
rows for it, the cloud computes on encrypted rows, and the key authority issues keys. All of them run on this machine.
Between organisations `mpc-appraisal market` is used instead. The names of the record's settings have to stay, because
`MarketRecord` and reports read them.
"""

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
from mpc_appraisal.marketplace.simulation import Sellers, SimulatedMarket, errors
from mpc_appraisal.mpc.backends.settings import refuse_integrity

AUTHORITY = "The key authority could decrypt every upload; it colludes with nobody."
TRUSTS = {  # by the name of the protocol
    "ife_transform": f"{AUTHORITY} Shopper, cloud and key authority follow the protocol, which nothing checks: a cloud "
    "that computes something else is not noticed.",
    "ife_shares": f"{AUTHORITY} Shopper and cloud compute on shares like two owners, and the key authority is their "
    f"dealer. {TRUST}",
}


def market(
    sellers: Sellers,
    protocol: Protocol,
    session: Any,
    source: Callable[[], tuple[Dataset, Dataset]],
    seed: int,
    public: dict[str, Any],
    built: Callable[[SimulatedMarket], None] = lambda simulated: None,
) -> MarketRecord:
    """Run the marketplace once, and return its record.

    Args:
        sellers: Who sells, what the shopper does and how it validates.
        protocol: The protocol between shopper, cloud and authority.
        session: A session of one machine: plain or spawn.
        source: A function that returns the training data and the test data.
        seed: The seed of the split and of the run.
        public: The public configuration by key, of which the record has the hash.
        built: A function that takes the simulated market, before it is run.

    Raises:
        InputError: A setting or an input does not fit. Nothing was sent.
    """
    if session.name not in ("plain", "spawn"):
        raise InputError("session", session.name, "plain or spawn; between organisations: `mpc-appraisal market`")
    refuse_integrity(session, f"protocol={protocol.name}")
    train, test = source()
    simulated = sellers.build(train, test, protocol, seed)
    built(simulated)
    result = run_market(simulated.market, simulated.shopper, simulated.sellers, session, sellers.key_cap)
    after = None if result.network is None else errors(result.network, simulated.test)
    return MarketRecord.of(
        result,
        {
            "config": config_hash(public),
            "seed": seed,
            "session": session.name,
            "protocol": protocol.name,
            "trust": TRUSTS[protocol.name] if session.name == "spawn" else "One process, nothing is hidden.",
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
