"""`ife_shares` as a strategy of the marketplace: its options, what it refuses, and what it leaks.

In goes a lattice scheme with the option `opens`; out come the checks that a `MarketPlan` makes and the sentences that a
result carries. The computation is in `shares_protocol`. An option may be added with a default. `name` and the
representation of the object stand in plans that roles compare, and `leakage` has to name all that a run reveals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.protocols.shares_plan import OPENS
from mpc_appraisal.marketplace.protocols.shares_protocol import LEAKAGE


@dataclass(frozen=True)
class IfeShares:
    """The strategy in which the outputs of the first layer continue as secret shares.

    Attributes:
        scheme: the lattice scheme, the only one whose outputs are shares.
        opens: what the shopper learns of a validation: 'errors' for the number of wrong predictions, or 'logits'.

    Raises InputError for another scheme and another `opens`.
    """

    name: ClassVar[str] = "ife_shares"
    label: ClassVar[str] = "secret shares: semi-honest parties that do not collude"
    scheme: LWE
    opens: str = "errors"

    def __post_init__(self) -> None:
        one_of("opens", self.opens, OPENS)
        if not isinstance(self.scheme, LWE):
            raise InputError("scheme", type(self.scheme).__name__, "LWE")

    @property
    def leakage(self) -> tuple[str, ...]:
        """Return sentences that state what the strategy leaks."""
        return (
            LEAKAGE,
            "The sellers' files go to the shopper and must never have come to the cloud: with ciphertexts and function "
            "keys it would find the first layer, and with it every inner product.",
            "Nobody learns a label; shopper and cloud together have those of the selected rows. The authority sees "
            "each of them in an order that it does not know: whether it is one class, and not which.",
            "Cloud and authority see which records were selected, the cloud also which subsets were accepted.",
        )

    def check(self, validation: Any) -> None:
        """Raise InputError for a validation that cannot be computed on shares."""
        if validation and validation.momentum:
            raise InputError("validation momentum", validation.momentum, "0: training on shares is plain SGD")
        if validation and validation.deliver:
            raise InputError("validation deliver", True, "False: the retrained network stays shared")
