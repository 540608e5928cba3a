"""Networks of RTAS and RTAS-fast and one step on them: one formula for plain tensors and for shares.

    z_l = a_{l-1} W_l + b_l,   a_l = relu or sigmoid of z_l,   loss = mean over rows of sum over outputs (a_L - y)^2
    g_L = c (a_L - y) f'(z_L),   g_{l-1} = (g_l W_l') f'(z_{l-1}),   W_l <- W_l - a_{l-1}' g_l,   c = 2 lr / n

W_l, b_l, z_l, a_l and g_l are the weights, biases, outputs, activations and gradients of layer l = 1 .. L, a_0 = x (n,
d) are the rows, y (n, outputs) the labels, f is relu or sigmoid, and lr the learning rate. In go layers and rows,
shared or plain; out come layers after one step, or outputs. These are the networks of "Private machine learning by
random transformations" (anonymous), sections 4.2 to 5.4, in which the first layer may be a convolution. f goes to the
session's helper (engine rtas), a third party that applies functions to permuted values and gives relu's slope too; a
sigmoid's slope is a (1 - a), on shares.

In fixed point, weights, relu and g have BITS fractional bits, and a sigmoid has 16. c = m 2^e with m of RATE_BITS bits:
(a_L - y) m times a (1 - a) has 62 bits and is truncated once. 2^e moves the binary point of the gradients, which are
truncated all in one message, straight to the weights' precision. So the rate in effect is lr (1 +- 2^-RATE_BITS).

A network may be added as a `Model`. BITS, SIGMOID_BITS and RATE_BITS may change only together, because a product has to
fit the ring; and the plain code has to stay the same formula, because it is the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.networks import Conv, Dense
from mpc_appraisal.models.secret_layers import BITS, Layer, bilinear, moved, rounded
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.backends.rtas import NAME
from mpc_appraisal.mpc.session import PlainSession, Session

RATE_BITS = 14
SIGMOID_BITS = 16
RELU, SIGMOID = "relu", "sigmoid"


@dataclass(frozen=True)
class Model:
    """A network.

    Attributes:
        name: Its name in tables.
        image: The shape (channels, height, width) of an input.
        layers: Each layer with the name of its function; a convolution may be the first.

    Raises InputError for other functions, a convolution elsewhere or with a pool, or a last function but a sigmoid.
    """

    name: str
    image: tuple[int, int, int]
    layers: tuple[tuple[Conv | Dense, str], ...]

    def __post_init__(self) -> None:
        names = [name for _, name in self.layers]
        if not names or names[-1] != SIGMOID or not set(names) <= {RELU, SIGMOID}:
            raise InputError("model.layers", names, "relu or sigmoid after every layer, a sigmoid after the last")
        kinds = [isinstance(layer, Conv) for layer, _ in self.layers]
        if any(kinds[1:]) or (kinds[0] and (len(kinds) < 2 or self.layers[0][0].pool > 1)):
            raise InputError("model.layers", self.layers, "one convolution at most: the first of several, with no pool")
        if kinds[0] and min(self.first_shape()) < 1:
            raise InputError("model.layers", self.layers[0][0], f"a convolution that fits its input {self.image}")

    @property
    def outputs(self) -> int:
        """Return the number of outputs of the last layer."""
        return self.layers[-1][0].units

    def input_shape(self, rows: int) -> tuple[int, ...]:
        """Return the shape of x: images before a convolution, otherwise a matrix."""
        return (rows, *self.image) if isinstance(self.layers[0][0], Conv) else (rows, math.prod(self.image))

    def first_shape(self) -> tuple[int, ...]:
        """Return the shape of the first layer's z of one row."""
        layer = self.layers[0][0]
        if isinstance(layer, Dense):
            return (layer.units,)
        sides = [(side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in self.image[1:]]
        return (layer.channels, *sides)

    def shapes(self) -> list[tuple[tuple[int, ...], tuple[int, int]]]:
        """Return the shapes of each layer's weight and bias.

        A convolution has a weight (out, in, k, k), a dense layer (in, out), and both have a bias (1, out).
        """
        found, inputs = [], math.prod(self.image)
        for layer, _ in self.layers:
            if isinstance(layer, Conv):
                found.append(((layer.channels, self.image[0], layer.kernel, layer.kernel), (1, layer.channels)))
                inputs = math.prod(self.first_shape())
            else:
                found.append(((inputs, layer.units), (1, layer.units)))
                inputs = layer.units
        return found


MNIST = (1, 28, 28)
LOGISTIC = Model("logistic regression", MNIST, ((Dense(1), SIGMOID),))
# The first layer has 4 x 13 x 13 outputs; the paper's "13 x 13 x 5" is not what its 4 filters give.
CNN = Model("CNN", MNIST, ((Conv(4, 4, stride=2), RELU), (Dense(100), SIGMOID), (Dense(10), SIGMOID)))


def initial(model: Model, seed: int, scale: float = 1.0) -> list[Layer]:
    """Draw initial float64 layers: uniform weights (Glorot and Bengio 2010) times `scale`, and biases of 0.

    Equal seeds give equal layers.
    """
    generator, found = torch.Generator().manual_seed(seed), []
    for shape, bias in model.shapes():
        taps = math.prod(shape[2:])
        limit = scale * math.sqrt(6 / ((shape[0] + shape[1]) * taps))
        weight = (2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1) * limit
        found.append(Layer(weight, torch.zeros(bias, dtype=torch.float64)))
    return found


def halves(layers: Sequence[Layer], seed: int) -> tuple[list[Layer], Layer]:
    """Split layers for RTAS-fast into the label owner's layers and the data owner's part of the first layer.

    The first of the label owner's layers is its part of the first layer. Both parts add up to the first of `layers`, so
    that a run begins where another one did. In use each owner draws its part itself, and nobody else learns it.
    """
    generator = torch.Generator().manual_seed(seed)
    part = Layer(*(torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in layers[0]))
    rest = Layer(*(p - own for p, own in zip(layers[0], part, strict=True)))
    return [part, *layers[1:]], rest


# -- one step ------------------------------------------------------------------------------------------------------
class LaterForwardPass(NamedTuple):
    """What the layers after the first made of z_1.

    Attributes:
        inputs: The input of each layer after the first.
        slopes: The slope of each function, that of the first layer included.
        output: The output (n, outputs).
    """

    inputs: list[Any]
    slopes: list[Any]
    output: Any


def activated(session: Session, z: Any, name: str, slope: bool) -> tuple[Any, Any]:
    """Return f(z), and f'(z) where `slope` asks for it, otherwise None. `name` is RELU or SIGMOID."""
    if session.engine in (NAME, PlainSession.engine):
        a, *steps = session.applied(z, (RELU, "step") if slope and name == RELU else (name,))
    elif name == RELU and not slope:
        a = ops.relu(z, BITS)
    elif name == RELU:
        steps = [ops.negative(z * -1.0)]
        a = ops.choose(steps[0], z)
    else:
        a, steps = z.sigmoid(), []
    if name == RELU:
        return rounded(a, BITS), steps[0] if slope else None
    a = rounded(a, SIGMOID_BITS)
    return a, a - a.square() if slope else None


def first(model: Model, layer: Layer, x: Any) -> Any:
    """Return z_1 of x, which has the shape `input_shape`; weights may be private, shared or plain."""
    return _multiplied(model.layers[0][0], layer, x)


def _multiplied(kind: Conv | Dense, layer: Layer, a: Any) -> Any:
    bias = rounded(layer.bias, BITS)
    if isinstance(kind, Conv):
        options = {"stride": kind.stride, "padding": kind.padding}
        z = bilinear(rounded(a, BITS), "conv2d", rounded(layer.weight, BITS), **options)
        return z + moved(bias, lambda t: t.reshape(1, -1, 1, 1))
    return a.matmul(layer.weight) + bias


def onward(session: Session, model: Model, layers: Sequence[Layer], z: Any, slopes: bool) -> LaterForwardPass:
    """Compute the way from z_1 through the first function and `layers`, which are all but the first."""
    a, slope = activated(session, z, model.layers[0][1], slopes)
    inputs, found = [], [slope]
    for (kind, name), layer in zip(model.layers[1:], layers, strict=True):
        a = moved(a, lambda t: t.flatten(1)) if a.dim() > 2 else a
        inputs.append(a)
        a, slope = activated(session, _multiplied(kind, layer, a), name, slopes)
        found.append(slope)
    return LaterForwardPass(inputs, found, a)


def backward(
    model: Model, layers: Sequence[Layer], done: LaterForwardPass, y: Any, mantissa: int
) -> tuple[Any, list[Layer]]:
    """Return g_1 and the gradients of `layers`, without the factor 2^e.

    Args:
        model: The network.
        layers: All layers but the first.
        done: What `onward` returned, with slopes.
        y: The labels (n, outputs).
        mantissa: m, as an integer; it is divided by 2^RATE_BITS.
    """
    g = moved(done.output - y, lambda t: t * mantissa) / 2.0**RATE_BITS
    found, slope = [], done.slopes[-1]
    for place in range(len(layers) - 1, -1, -1):
        g = rounded(bilinear(g, "mul", slope), BITS)
        found.append(Layer(done.inputs[place].t().matmul(g), g.sum(0, keepdim=True)))
        g, slope = g.matmul(layers[place].weight.t()), done.slopes[place]
        g = rounded(g, BITS)
    shape = (-1, *model.first_shape())
    g = moved(g, lambda t: t.reshape(shape))
    relu = model.layers[0][1] == RELU
    return ops.choose(slope, g) if relu else rounded(bilinear(g, "mul", slope), BITS), found[::-1]


def first_gradient(model: Model, x: Any, g: Any) -> Layer:
    """Return the gradients of W_1 and b_1 for g_1 (n, ...), which may be private."""
    kind = model.layers[0][0]
    if isinstance(kind, Dense):
        return Layer(x.t().matmul(g), rounded(g.sum(0, keepdim=True), BITS))
    g = rounded(g, BITS)
    # dW[o, i] is the sum over rows and positions of x[i] g[o]: a convolution with rows and channels exchanged.
    swapped, by = (moved(t, lambda t: t.transpose(0, 1)) for t in (rounded(x, BITS), g))
    out = bilinear(swapped, "conv2d", by, padding=kind.padding, dilation=kind.stride)
    weight = moved(out, lambda t: t[:, :, : kind.kernel, : kind.kernel].transpose(0, 1))
    return Layer(weight, moved(g.sum((0, 2, 3)), lambda t: t.reshape(1, -1)))


def rate(lr: float, rows: int) -> tuple[int, int]:
    """Return (mantissa, e) such that mantissa 2^(e - RATE_BITS) is nearly 2 lr / rows."""
    mantissa, exponent = math.frexp(2 * lr / rows)
    return round(mantissa * 2**RATE_BITS), exponent


def updated(layers: Sequence[Layer], gradients: Sequence[Layer], exponent: int) -> list[Layer]:
    """Return the layers less 2^exponent times the gradients, which are truncated in one message."""
    flat = ops.cat([moved(d, lambda t: t.reshape(-1)) for layer in gradients for d in layer])
    flat, start, found = rounded(flat / 2.0**-exponent, BITS), 0, []
    for layer in layers:
        moves = []
        for p in layer:
            size = p.shape.numel()
            moves.append(moved(flat[start : start + size], lambda t, shape=p.shape: t.reshape(shape)))
            start += size
        found.append(Layer(*(p - move for p, move in zip(layer, moves, strict=True))))
    return found


def step(session: Session, model: Model, layers: Sequence[Layer], x: Any, y: Any, lr: float) -> list[Layer]:
    """Make one step of RTAS, and return all layers after it, shared with BITS fractional bits."""
    mantissa, exponent = rate(lr, x.shape[0])
    done = onward(session, model, layers[1:], first(model, layers[0], x), True)
    g, found = backward(model, layers[1:], done, y, mantissa)
    return updated(layers, [first_gradient(model, x, g), *found], exponent)
