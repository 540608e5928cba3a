"""The layers of a network after the first, and gradient descent on them: one formula for plain tensors and for shares.

    z_l = W_l a_{l-1} + b_l,   a_l = pool([z_l > 0] z_l),   g_L = (softmax(z_L) - y) lr / n
    dW_l = g_l a_{l-1}',   db_l = sum g_l,   g_{l-1} = [z_{l-1} > 0] unpool(W_l' g_l),   theta_l <- theta_l - d theta_l

z_l, a_l, W_l and b_l are as in `networks`; n is the number of rows of a batch, y (n, C) their one-hot labels, lr the
rate, and theta_l stands for W_l and b_l. A share is one of two ring elements, one at each owner, that add up to a
secret value. These are `networks.remaining` and the gradient of its mean cross-entropy, in plain SGD without momentum.
`sgd` trains, `forward` gives logits, and `errors` counts wrong rows; nothing is opened here.

A matrix that an owner knows enters its products masked once for all batches; two shared matrices are opened under
masks of the dealer for each of their products. The bit [z > 0] is computed once, by an exact comparison, and serves the
gradient too. The softmax is that with a bound, of logits that comparisons have brought within REACH of their row's
largest. With lr / n = m 2^e and m in [1/2, 1), g_L is multiplied by m, and 2^e moves the binary point of dW, so that a
large gradient is truncated once, straight to the precision of the weights.

Values between products have BITS fractional bits, and sums of products must stay below 2^(62 - 2 BITS) = 2^26. BITS may
change within that bound; the formulas have to stay those of `networks`, which the plain run is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import torch

from mpc_appraisal.models.networks import Architecture, Conv, Dense
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.protocols.tensors import PrivateTensor, Secret

BITS = 18
REACH = 16.0  # a logit further below its row's largest is put there, since e^-16 is below 16 fractional bits


class Layer(NamedTuple):
    """Hold one layer, plain, private or shared: weight (out, in, k, k) or (out, in), and bias (1, out)."""

    weight: Any
    bias: Any


class ForwardPass(NamedTuple):
    """Hold what a forward pass leaves for the backward pass.

    Attributes:
        inputs: The input of each layer.
        positive: The bits [z > 0] of each layer but the last, or None where no backward pass follows.
        logits: The logits (n, C).
    """

    inputs: list[Any]
    positive: list[Any]
    logits: Any


# -- what plain tensors and shares do differently ------------------------------------------------------------------
@singledispatch
def rounded(value: Any, bits: int) -> Any:
    """Return shares of `bits` fractional bits, within one unit of the last. Plain tensors stay as they are."""
    return value


@rounded.register(PrivateTensor)
def _(value: PrivateTensor, bits: int) -> Secret:
    return value.secret(bits)


@rounded.register(Secret)
def _(value: Secret, bits: int) -> Secret:
    return value.to_bits(bits)


@singledispatch
def moved(value: Any, move: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply a torch function that only picks and rearranges elements, to the tensor or to the shares."""
    return move(value)


@moved.register(Secret)
def _(value: Secret, move: Callable[[torch.Tensor], torch.Tensor]) -> Secret:
    return Secret(value.context, move(value.share), value.bits)


@singledispatch
def bilinear(left: Any, op: str, right: Any, **options: Any) -> Any:
    """Apply torch.mul, conv2d or conv_transpose2d to two plain or two shared tensors.

    On shares it takes one round, and the fractional bits add up.
    """
    return getattr(torch, op)(left, right, **options)


@bilinear.register(Secret)
def _(left: Secret, op: str, right: Secret, **options: Any) -> Secret:
    from mpc_appraisal.mpc.protocols import crypten_adapter as bridge

    share = bridge.bilinear(left.context.engine, op, left.share, right.share, **options)
    return Secret(left.context, share, left.bits + right.bits)


# -- forward -------------------------------------------------------------------------------------------------------
def room(layer: Conv | Dense) -> int:
    """Return the fractional bits of z with which the result of the average pool has BITS without a truncation.

    The division by a power of two only moves the binary point.
    """
    power = math.log2(layer.pool**2) if isinstance(layer, Conv) else 0.0
    return BITS - int(power) if power.is_integer() else BITS


def activated(layer: Conv | Dense, z: Any, derivative: bool = False) -> tuple[Any, Any]:
    """Return a = pool(relu(z)) and the bits [z > 0], of z (n, channels, height, width) or (n, units).

    The bits are None unless `derivative` asks for them; the backward pass then has to take them.
    """
    positive = None
    if derivative:
        a, positive = ops.rectified(z, room(layer))
    else:
        a = ops.relu(z, room(layer))
    if isinstance(layer, Conv) and layer.pool > 1:
        n, channels, height, width = a.shape
        p = layer.pool
        a = moved(a, lambda t: t.reshape(n, channels, height // p, p, width // p, p)).sum((3, 5)) / float(p * p)
    return rounded(a, BITS), positive


def multiplied(layer: Conv | Dense, weight: Any, a: Any) -> Any:
    """Return the product W a of a (n, ...), which is (n, out, height, width) or (n, out)."""
    if isinstance(layer, Conv):
        a, weight = rounded(a, BITS), rounded(weight, BITS)
        return bilinear(a, "conv2d", weight, stride=layer.stride, padding=layer.padding)
    flat = moved(a, lambda t: t.flatten(1)) if a.dim() > 2 else a
    return weight.matmul(flat.t()).t()


def forward(architecture: Architecture, layers: Sequence[Layer], a: Any, derivative: bool = False) -> ForwardPass:
    """Evaluate `layers`, which are all but the first, from the first layer's activation a (n, ...) to logits (n, C).

    `derivative` says whether a backward pass follows, which takes the bits [z > 0].
    """
    inputs, positive = [], []
    for place, (layer, (weight, bias)) in enumerate(zip(architecture.layers[1:], layers, strict=True), 2):
        inputs.append(a)
        shape = (1, -1, 1, 1) if isinstance(layer, Conv) else (1, -1)
        z = multiplied(layer, weight, a) + moved(ops.high_precision(bias), lambda t, shape=shape: t.reshape(shape))
        if place < len(architecture.layers):
            a, bits = activated(layer, z, derivative)
            positive.append(bits)
    z = rounded(z, BITS)
    return ForwardPass(inputs, positive, z)


# -- backward ------------------------------------------------------------------------------------------------------
def probabilities(z: Any) -> Any:
    """Return the softmax of logits (n, C) less the row's largest; what is below -REACH is put at -REACH.

    The engine's bound on logits has to be REACH.
    """
    top = z.t()
    while top.shape[0] > 1:
        half = top.shape[0] // 2
        first, second, odd = top[:half], top[half : 2 * half], top[2 * half :]
        larger = second + ops.relu(first - second, BITS)
        top = ops.cat([larger, odd]) if odd.shape[0] else larger
    return (ops.relu(z - top.t() + REACH, BITS) - REACH).softmax(1)


def gradients(architecture: Architecture, layers: Sequence[Layer], done: ForwardPass, g: Any) -> list[Layer]:
    """Return the gradients of every layer's weight and bias, for the gradient g (n, C) with respect to the logits."""
    found: list[Layer] = []
    for place in range(len(layers) - 1, -1, -1):
        layer, before, a = architecture.layers[place + 1], architecture.layers[place], done.inputs[place]
        weight = layers[place].weight
        if isinstance(layer, Conv):
            found.append(Layer(_kernel_gradient(layer, a, g), g.sum((0, 2, 3)).reshape(1, -1)))
        else:
            flat = moved(a, lambda t: t.flatten(1))
            found.append(Layer(g.t().matmul(flat), g.sum(0).reshape(1, -1)))
        if place == 0:
            break
        if isinstance(layer, Conv):
            g = bilinear(g, "conv_transpose2d", weight, **_undone(layer, a.shape, g.shape))
        else:
            g = moved(g.matmul(weight), lambda t, shape=a.shape: t.reshape(shape))
        if isinstance(before, Conv) and before.pool > 1:
            p = before.pool
            g = moved(g, lambda t, p=p: _spread(t, p)) / float(p * p)
        g = ops.gated(done.positive[place - 1], g, BITS)
    return found[::-1]


def _kernel_gradient(layer: Conv, a: Any, g: Any) -> Any:
    """Return dW[o, i] = sum over rows and positions of a[i] g[o], a convolution with rows and channels exchanged."""
    swapped, by = (moved(t, lambda t: t.transpose(0, 1)) for t in (a, g))
    out = bilinear(swapped, "conv2d", by, padding=layer.padding, dilation=layer.stride)
    return moved(out, lambda t: t[:, :, : layer.kernel, : layer.kernel].transpose(0, 1))


def _undone(layer: Conv, inputs: torch.Size, outputs: torch.Size) -> dict[str, Any]:
    """Return the options with which the transposed convolution's output has the shape of the convolution's input."""
    reached = [(side - 1) * layer.stride + layer.kernel - 2 * layer.padding for side in outputs[2:]]
    missing = [side - found for side, found in zip(inputs[2:], reached, strict=True)]
    return {"stride": layer.stride, "padding": layer.padding, "output_padding": missing}


def _spread(t: torch.Tensor, p: int) -> torch.Tensor:
    """Return t (n, c, h, w) with each element repeated p by p times, (n, c, p h, p w)."""
    n, c, h, w = t.shape
    return t.reshape(n, c, h, 1, w, 1).expand(n, c, h, p, w, p).reshape(n, c, h * p, w * p)


def step(architecture: Architecture, layers: Sequence[Layer], a: Any, y: Any, lr: float) -> list[Layer]:
    """Return the layers after one step on a batch: a (n, ...), the first layer's activation, and y (n, C), one-hot."""
    done = forward(architecture, layers, a, derivative=True)
    mantissa, exponent = math.frexp(lr / a.shape[0])
    g = rounded((probabilities(done.logits) - y) * mantissa, BITS)
    return [
        Layer(*(p - rounded(d / 2.0**-exponent, BITS) for p, d in zip(layer, found, strict=True)))
        for layer, found in zip(layers, gradients(architecture, layers, done, g), strict=True)
    ]


def sgd(
    architecture: Architecture, layers: Sequence[Layer], a: Any, y: Any, batches: Sequence[Sequence[int]], lr: float
) -> list[Layer]:
    """Return the layers after one step for each of `batches`, which are public row numbers of a and y.

    The result is shared if the layers, a or y are.
    """
    layers = [Layer(*(rounded(p, BITS) for p in layer)) for layer in layers]
    for batch in batches:
        index = torch.tensor(batch, dtype=torch.int64)
        layers = step(architecture, layers, a[index], y[index], lr)
    return layers


def errors(z: Any, y: Any) -> Any:
    """Count the rows of logits z (n, C) that have a larger logit than that of their label, as a secret number.

    y (n, C) is one-hot. For plain tensors the number is plain.
    """
    z = rounded(z, BITS)
    own = (z * y).sum(1, keepdim=True)
    above = ops.negative(own - z).sum(1)
    return ops.negative(above * -1.0).sum()
