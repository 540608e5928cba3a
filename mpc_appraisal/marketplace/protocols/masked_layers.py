"""The layers after the first on masked weights: a diagonal times a permutation for each layer.

A network has layers l = 1 .. L with weights W_l, biases b_l and outputs z_l; a tilde marks what is masked, and a prime
a transpose. The shopper has the masks M_l, and the cloud has the masked network:

    M_l = D_l P_l,  l < L    D_l a positive diagonal, P_l a permutation, per channel: both commute with ReLU and pooling
    M_L = C                  orthogonal, because the output layer has no ReLU
    W~_l = M_l W_l M_{l-1}^-1,  b~_l = M_l b_l,  M_0 = I        =>        z~_l = M_l z_l

The cloud runs the code of the plain network on masked weights, and the shopper alone turns z~_L into z_L = C' z~_L. For
one step of SGD on n rows with probabilities p and one-hot labels e_y, the shopper sends the gradient g~_L = C (p - e_y)
/ n, and the cloud updates in one of two modes, with learning rate lr:

    exact             W~_l -= lr (M_l M_l') grad W~_l (M_{l-1} M_{l-1}')^-1,    b~_l -= lr (M_l M_l') grad b~_l
    preconditioned    W~_l -= lr grad W~_l,    b~_l -= lr grad b~_l

The exact mode is plain SGD on the unmasked network; it reveals D_l to the cloud. The preconditioned mode reveals
nothing more, takes another path, and diverges at rates at which plain SGD converges. The first layer is frozen.

LEAKAGE states what this leaks, and whoever offers it must print that; a change of the masks or of what is sent has to
change LEAKAGE too. docs/protocols/marketplace.md has the derivation. Source: slides "Try before you buy" (Song, Cao,
Sun, Li, Ke); the choice of masks, C, the exact update and the frozen first layer fill their gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.networks import Architecture, Network, check_descent, first_bias, remaining
from mpc_appraisal.mpc.ring.prg import KEY_BYTES, Stream, new_key

LEAKAGE = (
    "Matrix transformation is an obfuscation, not encryption. The cloud holds a network equivalent to the shopper's up "
    "to a linear map of the outputs, which a few labelled records recover, and with that map it reads labels off the "
    "shopper's gradients. It knows the first-layer weights up to the order of units and a positive factor for each. Of "
    "every record it knows the first layer's inner products, from which pixels can be recovered, which units are zero, "
    "and the order of each unit's values over the records. Exact updates tell it the other layers' factors too."
)
SPREAD = 4.0


@dataclass(frozen=True, eq=False)
class Masks:
    """The shopper's secret: (M_l z)_i = scales[l][i] z[orders[l][i]], where a channel of a convolution is one unit.

    Attributes:
        architecture: the architecture of the network that is masked.
        scales: for every layer but the last, its positive factors, (units,) float64.
        orders: for every layer but the last, its permutation, (units,) int64.
        output: the orthogonal matrix C of the output layer, (C, C) float64.
    """

    architecture: Architecture
    scales: tuple[Tensor, ...]
    orders: tuple[Tensor, ...]
    output: Tensor

    @staticmethod
    def draw(architecture: Architecture, key: bytes | None = None, spread: float = SPREAD) -> Masks:
        """Draw masks: scales log-uniform in [1 / spread, spread], uniform permutations, and C uniform (Haar).

        Args:
            architecture: the architecture of the network that is masked.
            key: 32 bytes, never used twice; None draws a fresh key from the operating system.
            spread: the largest factor of a unit, 1 or more.

        Raises InputError for a key of another length, and for a spread below 1.
        """
        if key is not None and len(key) != KEY_BYTES:
            raise InputError("key", f"{len(key)} bytes", f"{KEY_BYTES} bytes")
        if not (math.isfinite(spread) and spread >= 1):
            raise InputError("spread", spread, "a finite number, 1 or more")
        stream = Stream(key or new_key(), "matrix transformation")
        units = [shape[0] for shape in architecture.shapes()[:-1]]
        scales = tuple(torch.exp((2 * _uniform(stream, (n,)) - 1) * math.log(spread)) for n in units)
        # 64-bit ring elements differ but with probability n^2 / 2^65; a stable sort makes a tie harmless
        orders = tuple(torch.argsort(stream.ring((n,)), stable=True) for n in units)
        return Masks(architecture, scales, orders, _orthogonal(stream, architecture.classes))

    def squares(self) -> tuple[Tensor, ...]:
        """Return the diagonals of M_l M_l', in masked order, which the exact mode reveals to the cloud."""
        return tuple(scale.square() for scale in self.scales)


def mask(network: Network, masks: Masks) -> Network:
    """Mask a network: W~_l = M_l W_l M_{l-1}^-1 and b~_l = M_l b_l, of the same architecture and floating type.

    Raises InputError for masks of another architecture.
    """
    _same(network.architecture, masks)
    weights, biases = [], []
    for level, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        weight, bias = weight.to(torch.float64), bias.to(torch.float64)
        if level:
            weight = weight[:, _columns(weight, masks.orders[level - 1])] / _along(weight, masks.scales[level - 1])
        if level < len(masks.scales):
            scale, order = masks.scales[level], masks.orders[level]
            weight, bias = _down(weight, scale) * weight[order], scale * bias[order]
        else:
            weight, bias = masks.output @ weight, masks.output @ bias
        weights.append(weight.to(network.dtype))
        biases.append(bias.to(network.dtype))
    return Network(network.architecture, tuple(weights), tuple(biases))


def unmask(masked: Network, masks: Masks) -> Network:
    """Undo `mask`: W_l = M_l^-1 W~_l M_{l-1} and b_l = M_l^-1 b~_l.

    Raises InputError for masks of another architecture.
    """
    _same(masked.architecture, masks)
    weights, biases = [], []
    for level, (weight, bias) in enumerate(zip(masked.weights, masked.biases, strict=True)):
        weight, bias = weight.to(torch.float64), bias.to(torch.float64)
        if level:
            back = torch.argsort(_columns(weight, masks.orders[level - 1]))
            weight = (weight * _along(weight, masks.scales[level - 1]))[:, back]
        if level < len(masks.scales):
            scale, back = masks.scales[level], torch.argsort(masks.orders[level])
            weight, bias = (weight / _down(weight, scale))[back], (bias / scale)[back]
        else:
            weight, bias = masks.output.T @ weight, masks.output.T @ bias
        weights.append(weight.to(masked.dtype))
        biases.append(bias.to(masked.dtype))
    return Network(masked.architecture, tuple(weights), tuple(biases))


def unmask_logits(masked: Tensor, masks: Masks) -> Tensor:
    """Turn masked logits z~ (n, C) into z = C' z~, (n, C) float64."""
    return masked.to(torch.float64) @ masks.output


def masked_gradient(gradient: Tensor, masks: Masks) -> Tensor:
    """Turn a gradient g (n, C) with respect to the logits into C^-T g = C g with respect to z~, (n, C) float64."""
    return gradient.to(torch.float64) @ masks.output.T


@dataclass(frozen=True, eq=False)
class ShopperSide:
    """What the shopper computes. The shopper has the masks and the labels, and needs neither x nor a hidden value."""

    masks: Masks

    def logits(self, masked: Tensor) -> Tensor:
        """Return the logits z (n, C), float64, for the cloud's z~ (n, C)."""
        return unmask_logits(masked, self.masks)

    def probabilities(self, masked: Tensor) -> Tensor:
        """Return the class probabilities (n, C), float64, for the cloud's z~ (n, C)."""
        return self.logits(masked).softmax(dim=1)

    def gradient(self, masked: Tensor, y: Tensor) -> Tensor:
        """Return the gradient that goes to the cloud, C (p - e_y) / n, (n, C) float64.

        Args:
            masked: the cloud's z~ (n, C).
            y: the labels, (n,) int64.

        Raises InputError for labels of another form.
        """
        classes = self.masks.architecture.classes
        if y.shape != masked.shape[:1] or y.dtype != torch.int64 or not ((y >= 0) & (y < classes)).all():
            raise InputError("y", tuple(y.shape), f"{len(masked)} labels 0 .. {classes - 1} in torch.int64")
        error = self.probabilities(masked) - functional.one_hot(y, classes)
        return masked_gradient(error / len(y), self.masks)

    def squares(self) -> tuple[Tensor, ...]:
        """Return what the exact mode sends to the cloud once, the diagonals of M_l M_l'."""
        return self.masks.squares()


class CloudSide:
    """What the cloud computes. The cloud has masked layers and first-layer inner products, and never labels or masks.

    Args:
        masked: the network that `mask` made. Its first layer stays as it is; the attribute `network` is the present
            masked network.
        squares: what `ShopperSide.squares` returns, for exact updates; None for preconditioned updates.
        lr, momentum, weight_decay: the settings of SGD, as in `networks.train`.

    Raises InputError for a setting that is out of range, and for squares that do not fit the network.
    """

    def __init__(
        self,
        masked: Network,
        squares: Sequence[Tensor] | None = None,
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        check_descent(lr, momentum, weight_decay)
        self.network, self.lr, self.momentum, self.weight_decay = masked, lr, momentum, weight_decay
        self._metrics = None if squares is None else _metrics(masked, squares)
        self._velocities = [torch.zeros_like(p) for p in (*masked.weights[1:], *masked.biases[1:])]
        self._kept: tuple[list[Tensor], Tensor] | None = None

    def forward(self, products: Tensor) -> Tensor:
        """Return z~ (n, C) for first-layer inner products W~_1 x (n, k1) without bias, and keep z~ for one `backward`.

        k1 is the number of outputs of the first layer. Raises InputError for products of another shape.
        """
        bias = first_bias(self.network)
        if products.dim() != 2 or products.shape[1] != len(bias):
            raise InputError("products", tuple(products.shape), f"shape (rows, {len(bias)})")
        leaves = [p.clone().requires_grad_() for p in (*self.network.weights[1:], *self.network.biases[1:])]
        half = len(leaves) // 2
        z = remaining(self.network.architecture, leaves[:half], leaves[half:], products.to(bias.dtype) + bias)
        self._kept = leaves, z
        return z.detach()

    def backward(self, gradient: Tensor) -> None:
        """Update the network from the gradient (n, C) with respect to the z~ of the last `forward`.

        Raises InputError for a gradient of another shape, or without a forward pass before it.
        """
        if self._kept is None:
            raise InputError("gradient", "no forward pass before it", "a forward pass for each update")
        leaves, z = self._kept
        if gradient.shape != z.shape or not torch.isfinite(gradient).all():
            raise InputError("gradient", tuple(gradient.shape), f"finite numbers of shape {tuple(z.shape)}")
        self._kept = None
        gradients = torch.autograd.grad(z, leaves, gradient.to(z.dtype))
        if self._metrics is not None:
            gradients = [metric * one for metric, one in zip(self._metrics, gradients, strict=True)]
        present = [leaf.detach() for leaf in leaves]
        for p, v, one in zip(present, self._velocities, gradients, strict=True):
            v.mul_(self.momentum).add_(one).add_(p, alpha=self.weight_decay)
            p.sub_(v, alpha=self.lr)
        half, old = len(present) // 2, self.network
        self.network = replace(
            old, weights=old.weights[:1] + tuple(present[:half]), biases=old.biases[:1] + tuple(present[half:])
        )


def _metrics(masked: Network, squares: Sequence[Tensor]) -> list[Tensor]:
    """Return the factors of the exact update for W~_2 .. W~_L and b~_2 .. b~_L."""
    units = [(len(weight),) for weight in masked.weights[:-1]]
    if [tuple(square.shape) for square in squares] != units or not all((square > 0).all() for square in squares):
        raise InputError("squares", [tuple(s.shape) for s in squares], f"positive numbers of shapes {units}")
    outer = [square.to(masked.dtype) for square in squares] + [torch.ones(len(masked.weights[-1]), dtype=masked.dtype)]
    weights = [
        _down(weight, above) / _along(weight, below)
        for weight, above, below in zip(masked.weights[1:], outer[1:], outer, strict=False)
    ]
    return weights + outer[1:]


def _down(weight: Tensor, unit: Tensor) -> Tensor:
    """Shape one number for each unit so that it multiplies the rows (outputs) of a weight."""
    return unit.reshape(-1, *[1] * (weight.dim() - 1))


def _along(weight: Tensor, unit: Tensor) -> Tensor:
    """Shape one number for each unit of the layer before so that it multiplies the columns (inputs) of a weight."""
    return unit.repeat_interleave(weight.shape[1] // len(unit)).reshape(1, -1, *[1] * (weight.dim() - 2))


def _columns(weight: Tensor, order: Tensor) -> Tensor:
    """Turn a permutation of the units before a layer into one of its weight's columns."""
    positions = weight.shape[1] // len(order)
    return (order[:, None] * positions + torch.arange(positions)).flatten()


def _same(architecture: Architecture, masks: Masks) -> None:
    if architecture != masks.architecture:
        raise InputError("masks", masks.architecture, f"masks of the architecture {architecture}")


def _orthogonal(stream: Stream, size: int) -> Tensor:
    """Draw from the Haar measure on orthogonal matrices (Mezzadri 2007).

    The result is Q of a Gaussian matrix whose R has a positive diagonal.
    """
    uniform = 1 - _uniform(stream, (2, size, size))  # in (0, 1], since Box and Muller (1958) take its logarithm
    gaussian = torch.sqrt(-2 * torch.log(uniform[0])) * torch.cos(2 * math.pi * uniform[1])
    q, r = torch.linalg.qr(gaussian)
    return q * torch.sign(torch.diagonal(r))


def _uniform(stream: Stream, shape: tuple[int, ...]) -> Tensor:
    """Draw uniformly from [0, 1), float64, with 53 bits of each ring element."""
    return (stream.ring(shape) >> 11 & (2**53 - 1)).to(torch.float64) / 2**53
