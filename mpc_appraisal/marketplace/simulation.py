"""A simulated market, made from one data set: a shopper with a network of its own, and sellers with their images.

In go a data set, a test set, a protocol and a seed; out comes a `SimulatedMarket`. `Sellers` holds the settings, and
its `build` makes the market. The published experiment divides MNIST into 101 subsets (Song et al., "Try Before You
Buy", slides "Experiment Setup"): one belongs to the shopper and the others to 100 sellers. The size of the shopper's
subset is a parameter here, because an equal split cannot give both the 5,500 and the 55,000 rows that the slides state.

A setting with a default may be added. The order in which rows are drawn from the seed has to stay, so that experiments
can be repeated; and the shopper's rows have to be rounded as the sellers' are, so that a network sees both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mpc_appraisal.common.checks import number, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset
from mpc_appraisal.data.low_quality import evasive, mislabelled
from mpc_appraisal.marketplace.buying.selection import STRATEGIES
from mpc_appraisal.marketplace.buying.validation import uniform
from mpc_appraisal.marketplace.plan import PIXEL, MarketPlan, Protocol, SellerInput, ShopperInput, Validation, whole
from mpc_appraisal.models.networks import ARCHITECTURES, Architecture, Network, check_descent, fitted_to, initial, train

KINDS = ("mislabelled", "evasive")


@dataclass(frozen=True, eq=False)
class SimulatedMarket:
    """A market that `Sellers.build` made.

    Attributes:
        market: the public plan.
        shopper: the shopper's input.
        sellers: the sellers' inputs.
        low: the names of the sellers with bad labels.
        test: rows that no role has, on which the worth of the purchase can be measured in the clear.
    """

    market: MarketPlan
    shopper: ShopperInput
    sellers: tuple[SellerInput, ...]
    low: tuple[str, ...]
    test: Dataset


@dataclass(frozen=True)
class Sellers:
    """The settings of a simulated market. Raises InputError for a setting that does not fit.

    Attributes:
        network: a name in `networks.ARCHITECTURES`; the architecture is adapted to the images of the data.
        sellers: the number of sellers.
        own_rows: the number of rows on which the shopper trains its network in the clear.
        rows: the number of rows of all sellers together; None for all rows that are left.
        validation_rows: the number of test rows, equally many of each class, on which the shopper validates. The other
            test rows measure, in the clear, what the purchase is worth.
        epochs, lr, batch_size, momentum: the settings of SGD for the shopper's first training.
        low_quality: how the first sellers' labels are bad, 'mislabelled' or 'evasive'; None where all are good.
        low_share: the share of sellers with bad labels.
        selection, budget, batch, validation: as in `MarketPlan`.
        key_cap: the largest number of independent first-layer rows that the authority issues keys for, as a share of
            the pixels of an image.
    """

    network: str = "cnn"
    sellers: int = 100
    own_rows: int = 5500
    rows: int | None = None
    validation_rows: int = 1000
    epochs: int = 10
    lr: float = 0.02
    batch_size: int = 32
    momentum: float = 0.9
    low_quality: str | None = None
    low_share: float = 0.5
    selection: str = "margin"
    budget: int = 500
    batch: int = 256
    key_cap: float = 0.9
    validation: Validation | None = None

    def __post_init__(self) -> None:
        one_of("network", self.network, ARCHITECTURES)
        for name in ("sellers", "own_rows", "validation_rows", "epochs", "batch_size", "budget", "batch"):
            whole(name, getattr(self, name))
        if self.rows is not None:
            whole("rows", self.rows)
        check_descent(self.lr, self.momentum)
        one_of("selection", self.selection, tuple(STRATEGIES))
        number("key_cap", self.key_cap, "a share above 0 and below 1", above=0, below=1)
        if self.low_quality is not None and self.low_quality not in KINDS:
            raise InputError("low_quality", repr(self.low_quality), f"{', '.join(KINDS)} or null")
        number("low_share", self.low_share, "a share above 0, at most 1", above=0, most=1)

    def architecture(self, data: Dataset) -> Architecture:
        """Return the architecture for the images of `data`. Raises InputError as `networks.fitted_to` does."""
        return fitted_to(self.network, data.features, data.classes)

    def build(self, data: Dataset, test: Dataset, protocol: Protocol, seed: int) -> SimulatedMarket:
        """Make the market of `seed`.

        Args:
            data: the rows of shopper and sellers, with x (n, d) in [0, 1], which is rounded to 8 bits a pixel.
            test: the rows for validation and for `SimulatedMarket.test`, likewise.
            protocol: the strategy that hides the data.
            seed: what rows, training and bad labels are drawn from.

        Raises InputError where the data have too few rows, images of an unknown size, or pixels outside [0, 1].
        """
        market = MarketPlan(
            self.architecture(data), protocol, self.selection, self.budget, self.validation, seed, self.batch
        )
        offered = data.rows - self.own_rows if self.rows is None else self.rows
        if self.own_rows + max(offered, self.sellers) > data.rows:
            asked = f"{self.own_rows} own rows and {max(offered, self.sellers)} of {self.sellers} sellers"
            raise InputError("own_rows", asked, f"together at most {data.rows}, a row a seller at least")
        market.check_pool(offered)
        order = torch.randperm(data.rows, generator=torch.Generator().manual_seed(seed))
        own, rest = data.subset(order[: self.own_rows]), order[self.own_rows : self.own_rows + offered]
        network = train(
            initial(market.architecture, seed), _rounded(own.x), own.y, epochs=self.epochs, lr=self.lr,
            batch_size=self.batch_size, momentum=self.momentum, seed=seed,
        )  # fmt: skip
        checked = uniform(test.y, self.validation_rows, data.classes, seed)
        held = torch.ones(test.rows, dtype=torch.bool)
        held[checked] = False
        if not held.any():
            raise InputError("validation_rows", self.validation_rows, f"fewer than the {test.rows} test rows")
        validation = test.subset(checked)
        low = round(self.low_share * self.sellers) if self.low_quality else 0
        parts = [data.subset(rows) for rows in rest.tensor_split(self.sellers)]
        names = [f"seller-{k:03d}" for k in range(1, self.sellers + 1)]
        labels = [
            _low(self.low_quality, network, part, seed + k) if k < low else part.y for k, part in enumerate(parts)
        ]
        return SimulatedMarket(
            market,
            ShopperInput(network, (_rounded(own.x), own.y), (_rounded(validation.x), validation.y)),
            tuple(
                SellerInput(name, _pixels(part.x), y.numpy())
                for name, part, y in zip(names, parts, labels, strict=True)
            ),
            tuple(names[:low]),
            test.subset(held.nonzero().flatten()),
        )


def _pixels(x: torch.Tensor) -> np.ndarray:
    if x.min() < 0 or x.max() > 1:
        raise InputError("data", f"pixels {x.min():g} .. {x.max():g}", "pixels in [0, 1]")
    return (x * PIXEL).round().to(torch.uint8).numpy()


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """Round to the 8 bits a pixel that sellers encrypt, so that the network sees the images of both sides alike."""
    return torch.from_numpy(_pixels(x)).to(torch.float32) / PIXEL


def _low(kind: str, network: Network, part: Dataset, seed: int) -> torch.Tensor:
    if kind == "mislabelled":
        return mislabelled(part.y, part.classes, seed)
    return evasive(network.probabilities(_rounded(part.x)), part.y)


def errors(network: Network, data: Dataset) -> int:
    """Count the wrong predictions of `network` on `data`, in the clear."""
    return int((network.logits(_rounded(data.x)).argmax(1) != data.y).sum())


def by_seller(selected: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Count the selected rows of each seller, from pairs (seller, row). The largest number comes first."""
    counts: dict[str, int] = {}
    for name, _ in selected:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
