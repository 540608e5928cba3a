"""The two sides of a session of `ife_shares` over the rows of all sellers, whose shares were computed seller by seller.

In go shares of first-layer outputs and of labels; out come those of the rows that a session asks for. The names of the
fields and methods have to stay as those of `shares_plan.Shopper` and `shares_plan.Cloud`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mpc_appraisal.marketplace.protocols.shares_plan import Cloud, Shopper


@dataclass(frozen=True, eq=False)
class PooledShopper(Shopper):
    """The shopper's side of a session over the rows of all sellers.

    `labels` holds shares (b, C) of the labels of the rows that are trained on.

    Attributes:
        first: this side's shares of the first-layer outputs, (N, k).
    """

    first: Tensor | None = None

    def share(self, scheme, rows):
        """Return this side's shares of the first-layer outputs of `rows`, (n, k)."""
        return self.first[list(rows)]

    def label_share(self, scheme, rows, classes):
        """Return this side's shares of the labels of `rows`, (n, C)."""
        return self.labels[list(rows)]


@dataclass(frozen=True, eq=False)
class PooledCloud(Cloud):
    """The cloud's side of a session over the rows of all sellers.

    `label_seeds` holds the pads (b, C) of the labels of the rows that are trained on.

    Attributes:
        first: this side's shares of the first-layer outputs, (N, k).
    """

    first: Tensor | None = None

    def share(self, scheme, rows):
        """Return this side's shares of the first-layer outputs of `rows`, (n, k)."""
        return self.first[list(rows)]

    def label_share(self, scheme, rows):
        """Return this side's shares of the labels of `rows`, (n, C)."""
        return self.label_seeds[list(rows)]
