"""The public plan of a market, on which all roles agree, and the private inputs of sellers and shopper.

A `MarketPlan` says what everybody may know: the architecture of the network, the protocol that hides the data, the rule
of selection, the budget, and how the selection is validated. Shopper, cloud and key authority each have the plan;
nothing is sent before their plans are found equal. `SellerInput` and `ShopperInput` hold what one role alone may read.
Bad values raise InputError, when a record is made or by `check`.

A field with a default may be added to the plan. The roles compare `MarketPlan.public` and its digest, so the keys and
values there must not change: a new key may appear there only where its field differs from the default.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.checks import boolean, integer, number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.common.provenance import config_hash
from mpc_appraisal.marketplace.buying.selection import STRATEGIES
from mpc_appraisal.marketplace.encryption.signed_upload import MOST_ROWS
from mpc_appraisal.marketplace.protocols.masked_layers_protocol import IfeTransform
from mpc_appraisal.marketplace.protocols.strategy import IfeShares
from mpc_appraisal.models.networks import Architecture, Network

PIXEL = 255
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
Protocol = IfeTransform | IfeShares


@dataclass(frozen=True)
class Validation:
    """How the selection is tried: by retraining on subsets of it, while the first layer stays frozen.

    Attributes:
        granularity: the number of rows of a subset.
        steps, lr, batch_size, momentum, seed: the settings of stochastic gradient descent (SGD), as in
            `networks.train`.
        deliver: True if the shopper gets the network that was retrained with the accepted subsets.

    Raises InputError for a setting that is out of range.
    """

    granularity: int
    steps: int
    lr: float
    batch_size: int
    momentum: float = 0.0
    seed: int = 0
    deliver: bool = False

    def __post_init__(self) -> None:
        for name in ("granularity", "steps", "batch_size"):
            whole(name, getattr(self, name))
        number("lr", self.lr, above=0, kind=numbers.Real)
        number("momentum", self.momentum, "a number in [0, 1)", least=0, below=1, kind=numbers.Real)
        seeded("seed", self.seed)
        boolean("deliver", self.deliver)


@dataclass(frozen=True)
class MarketPlan:
    """The public plan, which is equal at shopper, cloud and key authority.

    Attributes:
        architecture: the architecture of the shopper's network, and with it the size of the images.
        protocol: the strategy that hides the data.
        selection: the rule of selection, a name in `selection.STRATEGIES`.
        budget: the number of rows to select over all sellers.
        validation: how the selection is tried; None where rows are only selected.
        seed: the seed of random selection.
        batch: the number of images in one message.
        seller_rows: the largest number of rows that one seller's upload may have; a larger upload is refused by the
            seller's name before it is read.

    Raises InputError for a field that is out of range, and for a validation that the protocol cannot compute.
    """

    architecture: Architecture
    protocol: Protocol
    selection: str
    budget: int
    validation: Validation | None = None
    seed: int = 0
    batch: int = 256
    seller_rows: int = MOST_ROWS

    def __post_init__(self) -> None:
        whole("budget", self.budget)
        whole("batch", self.batch)
        whole("seller_rows", self.seller_rows)
        seeded("seed", self.seed)
        if not isinstance(self.selection, str) or self.selection not in STRATEGIES:
            raise InputError("selection", repr(self.selection), f"one of {', '.join(STRATEGIES)}")
        self.protocol.check(self.validation)
        if self.validation and self.validation.granularity > self.budget:
            raise InputError("validation granularity", self.validation.granularity, f"at most the budget {self.budget}")

    @property
    def public(self) -> dict[str, Any]:
        """Return the plan as a flat mapping of keys to JSON values, which the roles compare."""
        validation = asdict(self.validation) if self.validation else {}
        return {
            "architecture": repr(self.architecture),
            "protocol": repr(self.protocol),
            "selection": self.selection,
            "budget": self.budget,
            "seed": self.seed,
            "batch": self.batch,
            # Older plans lack this key; a plan that states the default stays equal to them.
            **({} if self.seller_rows == MOST_ROWS else {"seller_rows": self.seller_rows}),
            **{f"validation.{key}": value for key, value in validation.items()},
        }

    @property
    def digest(self) -> str:
        """Return the digest of `public`, which the roles compare as well."""
        return config_hash(self.public)

    def check_pool(self, rows: int, refused: Mapping[str, str] | None = None) -> None:
        """Raise InputError where fewer rows are on offer than the budget.

        Args:
            rows: the number of rows on offer.
            refused: by seller, why its rows were refused. The error states the first of these reasons.
        """
        if self.budget > rows:
            why = "".join(f"; {name} was refused: {text}" for name, text in list((refused or {}).items())[:1])
            raise InputError("budget", self.budget, f"at most {rows}, the rows on offer{why}")


@dataclass(frozen=True, eq=False)
class SellerInput:
    """The private input of one seller.

    Attributes:
        name: the seller's name, which is also the stem of its files.
        x: the images, (n, d) uint8, where each row is an image in row-major order.
        y: the labels, (n,) integers.

    Raises InputError for a bad name, and for images or labels of another type or shape.
    """

    name: str
    x: np.ndarray | Tensor
    y: np.ndarray | Tensor

    def __post_init__(self) -> None:
        check_name(self.name)
        for name in ("x", "y"):
            values = getattr(self, name)
            object.__setattr__(self, name, values.numpy() if isinstance(values, Tensor) else np.asarray(values))
        if self.x.ndim != 2 or self.x.dtype != np.uint8 or len(self.x) == 0:
            raise InputError(f"images of {self.name}", f"{self.x.dtype} {self.x.shape}", "uint8 (rows, pixels)")
        if self.y.shape != (len(self.x),) or not np.issubdtype(self.y.dtype, np.integer):
            raise InputError(f"labels of {self.name}", f"{self.y.dtype} {self.y.shape}", f"integers ({len(self.x)},)")


@dataclass(frozen=True, eq=False)
class ShopperInput:
    """The private input of the shopper.

    Attributes:
        network: the shopper's network, trained in the clear.
        own: the shopper's own training rows (x, y), with x (m, d) uint8 or real in [0, 1], and y (m,) integers. Only a
            market that validates needs them.
        validation: rows of the same form, with uniformly distributed classes, on which the shopper judges subsets.
        inbox: the folder of sellers' uploads, for the strategy that sends the uploads to the shopper (`ife_shares`).
    """

    network: Network
    own: tuple[Any, Any] | None = None
    validation: tuple[Any, Any] | None = None
    inbox: str | Path | None = None

    def check(self, market: MarketPlan) -> None:
        """Raise InputError where the network or the rows do not fit the market."""
        if self.network.architecture != market.architecture:
            found = self.network.architecture.name
            raise InputError("network", f"architecture {found}", f"the market's, {market.architecture.name}")
        if market.validation is None:
            return
        for name in ("own", "validation"):
            if getattr(self, name) is None:
                raise InputError(f"{name} rows", None, "x and y: the market validates")
            rows_of(getattr(self, name), market.architecture, name)


def rows_of(pair: tuple[Any, Any], architecture: Architecture, name: str) -> tuple[Tensor, Tensor]:
    """Check rows of the shopper and round them to whole pixels, as sellers' images are.

    Args:
        pair: x (m, d), uint8 or real in [0, 1], and labels y (m,).
        architecture: the architecture whose images and classes the rows have to fit.
        name: how errors call the rows, 'own' or 'validation'.

    Returns x (m, d) int64 in 0 .. 255 and y (m,) int64. Raises InputError for rows of another form.
    """
    x, y = (torch.as_tensor(values) for values in pair)
    x = x.to(torch.float64) if x.dtype == torch.uint8 else torch.round(x.to(torch.float64) * PIXEL)
    if x.ndim != 2 or x.shape[1] != architecture.features or len(x) == 0:
        raise InputError(f"{name} rows", f"x of shape {tuple(x.shape)}", f"(rows, {architecture.features})")
    if not bool(((x >= 0) & (x <= PIXEL)).all()):
        raise InputError(f"{name} rows", "pixels out of range", "uint8, or real numbers in [0, 1]")
    if y.shape != x.shape[:1] or y.is_floating_point() or not bool(((y >= 0) & (y < architecture.classes)).all()):
        raise InputError(f"{name} rows", f"labels {tuple(y.shape)}", f"integers 0 .. {architecture.classes - 1}, a row")
    return x.to(torch.int64), y.to(torch.int64)


def whole(name: str, value: object) -> None:
    """Raise InputError unless `value` is a whole number, 1 or more."""
    integer(name, value, 1, expected="a whole number, 1 or more", kind=numbers.Integral)


def seeded(name: str, value: object) -> None:
    """Raise InputError unless `value` is a seed, a whole number 0 .. 2^63 - 1."""
    integer(name, value, 0, (1 << 63) - 1, "a whole number, at least 0 and less than 2^63")


def check_name(name: str) -> None:
    """Raise InputError unless `name` can name a seller, and with it the seller's files."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InputError("seller", repr(name), f"a name that matches {NAME.pattern}")
