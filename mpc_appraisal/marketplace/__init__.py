"""The encrypted marketplace: sellers upload once, a shopper tries before it buys, a cloud computes, an authority issues
keys."""

from mpc_appraisal.marketplace.api import run_market
from mpc_appraisal.marketplace.plan import MarketPlan, SellerInput, ShopperInput, Validation
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.marketplace.result import MarketResult
from mpc_appraisal.marketplace.simulation import Sellers

__all__ = [
    "IfeShares",
    "IfeTransform",
    "MarketPlan",
    "MarketResult",
    "SellerInput",
    "Sellers",
    "ShopperInput",
    "Validation",
    "run_market",
]
