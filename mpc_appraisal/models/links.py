"""How the outputs of a linear model become a prediction and a loss: one class for each kind of target.

    z = theta' [x, 1]        residual = dL/dz        gradient of a row = [x, 1] residual'

| link | prediction | loss L of a row | residual |
|---|---|---|---|
| softmax  | softmax(z)  | cross-entropy                              | softmax(z) - y |
| logistic | sigmoid(z)  | -y ln sigmoid(z) - (1 - y) ln sigmoid(-z)  | sigmoid(z) - y |
| identity | z           | (z - y)^2                                  | 2 (z - y)      |

theta (d + 1, k) are the weights of d features and a constant feature, z (n, k) the outputs of n rows, also called
logits, and y (n, k) the targets: one-hot labels, labels 0 and 1 in one column, or numbers in one column. `residual` and
`rise` are written once for plain tensors and for secret ones; `loss` and the two curvatures are for plain tensors. In
go z and y, and out come tensors of the shapes stated below.

A link may be added with an entry in LINKS. The names have to stay, because `Facts`, requests and records hold them.
The formulas have to stay what `objective` minimises, because the methods differentiate it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from mpc_appraisal.mpc.ops import factor, log_sigmoid


class Link(ABC):
    """State the loss of one kind of target.

    Attributes:
        name: The link's name in `Facts`, requests and records.
        exponential: Whether predictions need exponentials, which on shares need a public bound on z.
    """

    name: ClassVar[str]
    exponential: ClassVar[bool] = True

    @abstractmethod
    def residual(self, z: Any, y: Any) -> Any:
        """Return the derivative of each row's loss by its outputs, (n, k), from plain or secret z and y."""

    @abstractmethod
    def rise(self, before: Any, after: Any, y: Any) -> Any:
        """Return the sum over rows of L at outputs `after` less L at outputs `before`, from plain or secret values.

        Both losses are computed by one formula, so that its errors largely cancel.
        """

    @abstractmethod
    def loss(self, z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the loss of each row, (n,)."""

    @abstractmethod
    def curved(self, z: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Return each row's second derivative of the loss by its outputs z, times s, both (n, k)."""

    @abstractmethod
    def curvature(self, z: torch.Tensor) -> torch.Tensor:
        """Return the diagonal of each row's second derivative of the loss by its outputs, (n, k)."""

    def largest_residual(self, bound: float, target: float) -> float:
        """Return a bound on a residual where outputs are within `bound` and targets within `target`."""
        return 1.0


class ExponentialLink(Link):
    """State a loss whose predictions need exponentials, with its derivatives along a direction, which need none."""

    @abstractmethod
    def along(self, z: Any, d: Any) -> tuple[Any, Any, Any]:
        """Return the second, third and fourth derivative of the sum over rows of L(z + t d) by t, at t = 0.

        The outputs z are plain, or known to one party alone; d, of the same shape, is plain or secret.
        """


class SoftmaxLink(ExponentialLink):
    """The cross-entropy of a softmax, for one-hot targets (n, C) of C classes."""

    name = "softmax"

    def residual(self, z, y):
        return z.softmax(1) - y

    def rise(self, before, after, y):
        return ((before.log_softmax(1) - after.log_softmax(1)) * y).sum()

    def along(self, z, d):
        # These are the cumulants of d under the probabilities p.
        p = z.softmax(1)
        c = factor(d - (d * p).sum(1, keepdim=True))
        square = factor(c.square())
        weighted = factor(square * p)
        variance = weighted.sum(1)
        return variance.sum(), (weighted * c).sum(), (weighted * square).sum() - variance.square().sum() * 3.0

    def loss(self, z, y):
        return -(z.log_softmax(1) * y).sum(1)

    def curved(self, z, s):
        p = z.softmax(1)
        s = p * s
        return s - p * s.sum(1, keepdim=True)

    def curvature(self, z):
        p = z.softmax(1)
        return p - p.square()


class LogisticLink(ExponentialLink):
    """The log loss of a sigmoid, for two classes in one column of targets 0 and 1."""

    name = "logistic"

    def residual(self, z, y):
        return z.sigmoid() - y

    def rise(self, before, after, y):
        # L = -ln sigmoid(-z) - y z
        return (log_sigmoid(before * -1.0) - log_sigmoid(after * -1.0)).sum() - ((after - before) * y).sum()

    def along(self, z, d):
        s, square = z.sigmoid(), factor(d.square())
        second = s - s.square()
        third, fourth = second * (s * -2.0 + 1.0), second - second.square() * 6.0
        return (square * second).sum(), (square * (d * third)).sum(), (square.square() * fourth).sum()

    def loss(self, z, y):
        return (torch.nn.functional.softplus(z, threshold=50.0) - y * z).sum(1)

    def curved(self, z, s):
        return self.curvature(z) * s

    def curvature(self, z):
        return z.sigmoid() * (-z).sigmoid()


class IdentityLink(Link):
    """The squared error, for targets that are numbers."""

    name = "identity"
    exponential = False

    def residual(self, z, y):
        return (z - y) * 2.0

    def rise(self, before, after, y):
        # (after - y)^2 - (before - y)^2: the small change stays one factor, so that fixed point keeps its bits.
        return ((after - before) * (after + before - y * 2.0)).sum()

    def loss(self, z, y):
        return (z - y).square().sum(1)

    def curved(self, z, s):
        return 2.0 * s

    def curvature(self, z):
        return torch.full_like(z, 2.0)

    def largest_residual(self, bound, target):
        return 2.0 * (bound + target)


SOFTMAX, LOGISTIC, IDENTITY = SoftmaxLink(), LogisticLink(), IdentityLink()
LINKS: dict[str, Link] = {link.name: link for link in (SOFTMAX, LOGISTIC, IDENTITY)}
