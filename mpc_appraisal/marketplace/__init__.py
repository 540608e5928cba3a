"""The encrypted marketplace: "try before you buy" (Song, Cao, Sun, Li, Ke).

Sellers upload encrypted images once and leave. A shopper has a network; it receives predictions for the rows on offer
(a row is one image), selects the most uncertain rows under a budget, and tries subsets of its selection before it buys.
A cloud computes on the uploads, and a key authority issues keys. In go a `MarketPlan`, a `ShopperInput` and one
`SellerInput` for each seller; `run_market` returns a `MarketResult`.

How rows are selected (buying/) and how rows are hidden (protocols/, encryption/) may change independently of each
other. The names in `__all__` are what other code imports from here and have to stay. The words of an appraisal map to
those of the marketplace as follows, and each protocol keeps to one set of words:

    model owner    shopper          has the network, and pays
    data owner     sellers, cloud   the sellers own the data; the cloud takes their seat once they have left
    dealer         key authority    issues function keys, and deals correlated randomness to sessions on shares
"""

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
