"""The layers after the first on masked weights: a diagonal times a permutation for each layer.

    M_l = D_l P_l,  l < L    D_l a positive diagonal, P_l a permutation, per channel: both commute with ReLU and pooling
    M_L = C                  orthogonal, for the output layer has no ReLU
    W~_l = M_l W_l M_{l-1}^-1,  b~_l = M_l b_l,  M_0 = I        =>        z~_l = M_l z_l

So the cloud runs the plain network's code on masked weights, and the shopper alone turns z~_L into z_L = C' z~_L. A
gradient is covariant, g~ = M^-T g. For the logits' mean cross-entropy g_L = (p - e_y) / n, and g~_L = C g_L since C is
orthogonal; by back propagation grad W~_l = g~_l' a~_{l-1} = M_l^-T grad W_l M_{l-1}^T. One step of SGD in two modes:

    exact             W~_l -= lr (M_l M_l') grad W~_l (M_{l-1} M_{l-1}')^-1,    b~_l -= lr (M_l M_l') grad b~_l
    which masks       W_l -= lr grad W_l,    b_l -= lr grad b_l
    preconditioned    W~_l -= lr grad W~_l,    b~_l -= lr grad b~_l
    which masks       W_l -= lr (M_l' M_l)^-1 grad W_l (M_{l-1}' M_{l-1}),    b_l -= lr (M_l' M_l)^-1 grad b_l

M_l M_l' is D_l^2 for a hidden layer and I for the output. The exact mode needs these squares at the cloud and so tells
it D_l: what stays hidden then are the permutations and C. The preconditioned mode tells nothing more, and scales the
step of each weight by a square of D_{l-1} over one of D_l, between spread^-4 and spread^4: it takes another path and
diverges at rates at which plain SGD converges. With spread = 1 (permutations and C alone) both are plain SGD. Momentum
and weight decay transform like the step itself. The first layer is frozen: its gradient would need x.

Slides "Try before you buy" (Song, Cao, Sun, Li, Ke); the group, C, the exact update and freezing fill their gaps.

What it leaks: see LEAKAGE, which whoever offers this must print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.networks import Architecture, Network, first_bias, remaining
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
    """The shopper's secret. For every layer but the last, scales[l] (units,) positive float64 and orders[l] (units,) a
    permutation: (M_l z)_i = scales[l][i] z[orders[l][i]], a channel being a unit. output: C (C, C), orthogonal."""

    architecture: Architecture
    scales: tuple[Tensor, ...]
    orders: tuple[Tensor, ...]
    output: Tensor

    @staticmethod
    def draw(architecture: Architecture, key: bytes | None = None, spread: float = SPREAD) -> Masks:
        """Scales log-uniform in [1 / spread, spread], uniform permutations, C uniform on the orthogonal group.

        key: 32 bytes, never used twice; by default fresh from the operating system. Raises InputError for another
        length or spread < 1.
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
        """The diagonals of M_l M_l', in masked order: what the exact mode tells the cloud."""
        return tuple(scale.square() for scale in self.scales)


def mask(network: Network, masks: Masks) -> Network:
    """W~_l = M_l W_l M_{l-1}^-1 and b~_l = M_l b_l, a network of the same architecture and floating type."""
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
    """The network that `mask` made `masked` of: W_l = M_l^-1 W~_l M_{l-1}, b_l = M_l^-1 b~_l."""
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
    """z~ (n, C) -> z = C' z~ (n, C), float64."""
    return masked.to(torch.float64) @ masks.output


def masked_gradient(gradient: Tensor, masks: Masks) -> Tensor:
    """Gradient with respect to the logits (n, C) -> with respect to z~ (n, C), float64: C^-T g = C g."""
    return gradient.to(torch.float64) @ masks.output.T


@dataclass(frozen=True, eq=False)
class ShopperSide:
    """What the shopper computes: it holds the masks and the labels, and needs neither x nor a hidden value."""

    masks: Masks

    def logits(self, masked: Tensor) -> Tensor:
        """From the cloud's z~ (n, C): z (n, C) float64."""
        return unmask_logits(masked, self.masks)

    def probabilities(self, masked: Tensor) -> Tensor:
        return self.logits(masked).softmax(dim=1)

    def gradient(self, masked: Tensor, y: Tensor) -> Tensor:
        """z~ (n, C) and labels (n,) -> what goes to the cloud: C (p - e_y) / n, (n, C) float64."""
        classes = self.masks.architecture.classes
        if y.shape != masked.shape[:1] or y.dtype != torch.int64 or not ((y >= 0) & (y < classes)).all():
            raise InputError("y", tuple(y.shape), f"{len(masked)} labels 0 .. {classes - 1} in torch.int64")
        error = self.probabilities(masked) - functional.one_hot(y, classes)
        return masked_gradient(error / len(y), self.masks)

    def squares(self) -> tuple[Tensor, ...]:
        """What the exact mode sends to the cloud, once."""
        return self.masks.squares()


class CloudSide:
    """What the cloud computes: it holds masked layers and first-layer inner products, and never labels or masks.

    masked: from `mask`. squares: from `ShopperSide.squares` for exact updates, None for preconditioned ones. lr,
    momentum, weight_decay: as `networks.train`. `network` is the present masked model; its first layer stays.
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
        if not lr > 0 or not 0 <= momentum < 1 or not weight_decay >= 0:
            raise InputError("lr", (lr, momentum, weight_decay), "lr > 0, momentum in [0, 1), weight_decay >= 0")
        self.network, self.lr, self.momentum, self.weight_decay = masked, lr, momentum, weight_decay
        self._metrics = None if squares is None else _metrics(masked, squares)
        self._velocities = [torch.zeros_like(p) for p in (*masked.weights[1:], *masked.biases[1:])]
        self._kept: tuple[list[Tensor], Tensor] | None = None

    def forward(self, products: Tensor) -> Tensor:
        """First-layer inner products W~_1 x (n, k1), without bias -> z~ (n, C), kept for one `backward`."""
        bias = first_bias(self.network)
        if products.dim() != 2 or products.shape[1] != len(bias):
            raise InputError("products", tuple(products.shape), f"shape (rows, {len(bias)})")
        leaves = [p.clone().requires_grad_() for p in (*self.network.weights[1:], *self.network.biases[1:])]
        half = len(leaves) // 2
        z = remaining(self.network.architecture, leaves[:half], leaves[half:], products.to(bias.dtype) + bias)
        self._kept = leaves, z
        return z.detach()

    def backward(self, gradient: Tensor) -> None:
        """One update from the gradient with respect to the last `forward`'s z~ (n, C), as the shopper sends it."""
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
    """Factors of the exact update for W~_2 .. W~_L and b~_2 .. b~_L: (M_l M_l') beside (M_{l-1} M_{l-1}')^-1."""
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
    """One number a unit, shaped to multiply the rows (outputs) of a weight."""
    return unit.reshape(-1, *[1] * (weight.dim() - 1))


def _along(weight: Tensor, unit: Tensor) -> Tensor:
    """One number a unit of the layer before, shaped to multiply the columns: several a channel in a matrix."""
    return unit.repeat_interleave(weight.shape[1] // len(unit)).reshape(1, -1, *[1] * (weight.dim() - 2))


def _columns(weight: Tensor, order: Tensor) -> Tensor:
    """A permutation of the units before a layer -> of its weight's columns."""
    positions = weight.shape[1] // len(order)
    return (order[:, None] * positions + torch.arange(positions)).flatten()


def _same(architecture: Architecture, masks: Masks) -> None:
    if architecture != masks.architecture:
        raise InputError("masks", masks.architecture, f"masks of the architecture {architecture}")


def _orthogonal(stream: Stream, size: int) -> Tensor:
    """Uniform (Haar) on the orthogonal matrices: Q of a Gaussian matrix, R's diagonal made positive (Mezzadri 2007)."""
    uniform = 1 - _uniform(stream, (2, size, size))  # in (0, 1]: Box and Muller (1958) take its logarithm
    gaussian = torch.sqrt(-2 * torch.log(uniform[0])) * torch.cos(2 * math.pi * uniform[1])
    q, r = torch.linalg.qr(gaussian)
    return q * torch.sign(torch.diagonal(r))


def _uniform(stream: Stream, shape: tuple[int, ...]) -> Tensor:
    """Uniform in [0, 1), float64: 53 bits of each ring element."""
    return (stream.ring(shape) >> 11 & (2**53 - 1)).to(torch.float64) / 2**53
