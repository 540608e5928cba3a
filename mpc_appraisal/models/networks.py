"""Small neural networks in plaintext: what a shopper trains, masks and shares.

    z_l = W_l a_{l-1} + b_l,    a_l = average pool(ReLU(z_l)),    a_0 = x in [0, 1],    p = softmax(z_L)

A shopper is the model owner of the encrypted marketplace. W_l is a convolution (cross-correlation, zero padding) or a
matrix, b_l a bias, and z_l the output of layer l before its ReLU; a network has L layers. n is a number of rows, d of
pixels, C of classes, and k1 of the first layer's outputs. `Architecture` says which layers there are, `Network` holds
their weights and its file, and `train` runs plain SGD: images and labels go in, a new network comes out.

To add a network, add its layers to `ARCHITECTURES`. Only ReLU and average pooling may occur between layers, because
both commute with a positive diagonal and a permutation of channels, on which the marketplace's matrix transformation
rests. The arrays of the file have to stay, since `load` reads files of earlier runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.checks import integer, is_integer, number
from mpc_appraisal.common.errors import InputError

ARRAYS = "a .npz file that Network.save wrote: 'architecture', 'weight0', 'bias0', 'weight1', ..."

LARGEST = 1 << 24  # the most pixels of an image, and the most units or channels of a layer


@dataclass(frozen=True)
class Conv:
    """Describe a convolution of `channels` filters kernel x kernel, then ReLU, then averages over pool x pool."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: int = 1


@dataclass(frozen=True)
class Dense:
    """Describe a matrix of `units` rows, then ReLU unless it is the last layer."""

    units: int


def _size(value: object, least: int) -> bool:
    return is_integer(value) and least <= value <= LARGEST


@dataclass(frozen=True)
class Architecture:
    """Describe the shape of a network.

    Raises InputError for layers that do not fit: fewer than two, a convolution after a dense layer or at the end, a
    kernel larger than its padded input, or a pool that does not divide its input.

    Attributes:
        name: The name in `ARCHITECTURES`.
        image: The channels, height and width of an input.
        layers: The convolutions, and after them the dense layers. The last layer is Dense(classes).
    """

    name: str
    image: tuple[int, int, int]
    layers: tuple[Conv | Dense, ...]

    def __post_init__(self) -> None:
        sides = self.image if isinstance(self.image, tuple) else ()
        if len(sides) != 3 or not all(_size(side, 1) for side in sides) or math.prod(sides) > LARGEST:
            raise InputError("architecture", self.image, f"an image of three sides and at most {LARGEST} pixels")
        for layer in self.layers:
            stated = asdict(layer)
            wrong = [key for key, value in stated.items() if not _size(value, 0 if key == "padding" else 1)]
            if wrong:
                expected = f"whole numbers of 1 (padding: 0) to {LARGEST} for {', '.join(stated)}"
                raise InputError("architecture", f"{wrong[0]} {stated[wrong[0]]!r:.60}", expected)
        kinds = [isinstance(layer, Conv) for layer in self.layers]
        if len(kinds) < 2 or kinds[-1] or kinds != sorted(kinds, reverse=True):
            raise InputError("architecture", self.layers, "two layers or more: convolutions first, a dense one last")
        if self.classes < 2:
            raise InputError("architecture", self.classes, "two classes or more in the last layer")
        size = self.image[1:]
        for layer in self.layers[: sum(kinds)]:
            sides = [(side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in size]
            if min(sides) < 1 or any(side % layer.pool for side in sides):
                raise InputError("architecture", layer, f"a convolution and pool that fit its input {size}")
            size = tuple(side // layer.pool for side in sides)

    @property
    def features(self) -> int:
        """The number d of pixels of an image."""
        return math.prod(self.image)

    @property
    def classes(self) -> int:
        """The number C of classes."""
        return self.layers[-1].units

    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shape of each layer's z: (channels, height, width), before any pool, or (units,)."""
        found, shape = [], self.image
        for layer in self.layers:
            if isinstance(layer, Conv):
                sides = [(side + 2 * layer.padding - layer.kernel) // layer.stride + 1 for side in shape[1:]]
                found.append((layer.channels, *sides))
                shape = (layer.channels, *(side // layer.pool for side in sides))
            else:
                found.append((layer.units,))
                shape = (layer.units,)
        return tuple(found)

    def weight_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shape of each W: (out, in, kernel, kernel) or (out, in)."""
        found, inputs, flat = [], self.image[0], self.features
        for layer, shape in zip(self.layers, self.shapes(), strict=True):
            if isinstance(layer, Conv):
                found.append((layer.channels, inputs, layer.kernel, layer.kernel))
                inputs, flat = layer.channels, math.prod(shape) // layer.pool**2
            else:
                found.append((layer.units, flat))
                flat = layer.units
        return tuple(found)


MNIST = (1, 28, 28)
ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture("mlp", MNIST, (Dense(100), Dense(10))),
    # padding 1 as in CryptoNets: 4 x 13 x 13 first-layer outputs
    "cnn": Architecture("cnn", MNIST, (Conv(4, 5, stride=2, padding=1), Dense(100), Dense(10))),
    # six layers: convolution, average pool, convolution, average pool, dense, dense
    "cnn6": Architecture("cnn6", MNIST, (Conv(4, 5, pool=2), Conv(12, 5, pool=2), Dense(100), Dense(10))),
}

IMAGES = {64: (1, 8, 8), 784: MNIST, 3072: (3, 32, 32)}  # by number of features


def fitted_to(name: str, features: int, classes: int) -> Architecture:
    """Return the architecture `name` of ARCHITECTURES, for other images and classes.

    Raises InputError for images of a size that is not in IMAGES.
    """
    if features not in IMAGES:
        sizes = ", ".join(f"{each} ({'x'.join(map(str, size))})" for each, size in IMAGES.items())
        raise InputError("data", f"{features} features", f"images of {sizes}")
    found = ARCHITECTURES[name]
    *layers, last = found.layers
    return replace(found, image=IMAGES[features], layers=(*layers, replace(last, units=classes)))


def remaining(architecture: Architecture, weights: Sequence[Tensor], biases: Sequence[Tensor], z1: Tensor) -> Tensor:
    """Evaluate the layers after the first, from the first layer's z (n, k1).

    `weights` and `biases` are those of the second layer and of the next ones, in order. The result is z of the layer
    that the last of them belongs to: the logits (n, C) where all layers are given.
    """
    z = z1.reshape(len(z1), *architecture.shapes()[0])
    before = architecture.layers[0]
    for layer, weight, bias in zip(architecture.layers[1:], weights, biases, strict=False):
        a = torch.relu(z)
        if isinstance(before, Conv) and before.pool > 1:
            a = functional.avg_pool2d(a, before.pool)
        if isinstance(layer, Conv):
            z = functional.conv2d(a, weight, bias, layer.stride, layer.padding)
        else:
            z = functional.linear(a.flatten(1), weight, bias)
        before = layer
    return z


def first(architecture: Architecture, weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Return the first layer's z (n, k1) before ReLU from images x (n, d), row-major (channel, height, width)."""
    layer = architecture.layers[0]
    if isinstance(layer, Dense):
        return functional.linear(x, weight, bias)
    images = x.reshape(len(x), *architecture.image)
    return functional.conv2d(images, weight, bias, layer.stride, layer.padding).flatten(1)


@dataclass(frozen=True, eq=False)
class Network:
    """Hold a network with its weights, all finite and of one floating type.

    Raises InputError for a shape that is not the architecture's, or for another type.

    Attributes:
        architecture: The layers.
        weights: One tensor for each layer, (out, in, k, k) of a convolution with kernel k and (out, in) of a matrix.
        biases: One tensor (out,) for each layer.
    """

    architecture: Architecture
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        expected = self.architecture.weight_shapes()
        for name, found, shapes in (
            ("weights", self.weights, expected),
            ("biases", self.biases, tuple(shape[:1] for shape in expected)),
        ):
            if tuple(tuple(one.shape) for one in found) != shapes:
                raise InputError(name, [tuple(one.shape) for one in found], f"shapes {shapes}")
            if any(one.dtype != self.dtype for one in found) or not self.dtype.is_floating_point:
                raise InputError(name, [one.dtype for one in found], "one floating type")
            if not all(torch.isfinite(one).all() for one in found):
                raise InputError(name, "NaN or infinity", "finite numbers")

    @property
    def dtype(self) -> torch.dtype:
        """The floating type of all weights."""
        return self.weights[0].dtype

    def to(self, dtype: torch.dtype) -> Network:
        """Return the same network in another floating type."""
        return Network(self.architecture, *(tuple(p.to(dtype) for p in ps) for ps in (self.weights, self.biases)))

    def hidden(self, x: Tensor) -> Tensor:
        """Return the first layer's z (n, k1) before ReLU, of x (n, d) in [0, 1], in the network's type.

        Raises InputError for another shape of x.
        """
        _check(x, self.architecture.features, "x")
        return first(self.architecture, self.weights[0], self.biases[0], x.to(self.dtype))

    def from_hidden(self, z1: Tensor) -> Tensor:
        """Return the logits (n, C) from the first layer's z, which is z1 (n, k1).

        Raises InputError for another shape of z1.
        """
        _check(z1, math.prod(self.architecture.shapes()[0]), "z1")
        return remaining(self.architecture, self.weights[1:], self.biases[1:], z1.to(self.dtype))

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (n, C) of x (n, d) in [0, 1]. Raises InputError for another shape."""
        return self.from_hidden(self.hidden(x))

    def probabilities(self, x: Tensor) -> Tensor:
        """Return the probabilities (n, C) of x (n, d) in [0, 1]. Every row sums to 1."""
        return self.logits(x).softmax(dim=1)

    def save(self, path: str | Path) -> None:
        """Write the network to a .npz file at exactly this path."""
        arrays = {f"weight{i}": weight.numpy() for i, weight in enumerate(self.weights)}
        arrays |= {f"bias{i}": bias.numpy() for i, bias in enumerate(self.biases)}
        kinds = [type(layer).__name__ for layer in self.architecture.layers]
        with open(path, "wb") as file:
            np.savez(file, architecture=json.dumps(asdict(self.architecture) | {"kinds": kinds}), **arrays)

    @staticmethod
    def load(path: str | Path, name: str = "party.model") -> Network:
        """Read what `save` writes. Raises InputError, under `name`, if the file holds no such network."""
        arrays = read_arrays(path, name, ARRAYS)
        try:
            stated = json.loads(str(arrays["architecture"]))
            pairs = zip(stated.pop("kinds"), stated["layers"], strict=True)
            layers = tuple({"Conv": Conv, "Dense": Dense}[kind](**layer) for kind, layer in pairs)
            architecture = Architecture(stated["name"], tuple(stated["image"]), layers)
            weights, biases = (
                tuple(torch.from_numpy(arrays[f"{kind}{i}"].copy()) for i in range(len(layers)))
                for kind in ("weight", "bias")
            )
            return Network(architecture, weights, biases)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(name, f"{path} ({type(error).__name__})", ARRAYS) from error
        except InputError as error:
            raise InputError(f"{name} {error.name}", error.value, error.expected) from error


def initial(architecture: Architecture, seed: int, dtype: torch.dtype = torch.float32) -> Network:
    """Return an untrained network, the same for the same seed.

    The weights are normal with variance 2 / fan-in, the number of inputs of one output, and the biases are 0 (He,
    Zhang, Ren and Sun 2015).
    """
    generator = torch.Generator().manual_seed(seed)
    weights = tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64) * math.sqrt(2 / math.prod(shape[1:]))
        for shape in architecture.weight_shapes()
    )
    return Network(architecture, weights, tuple(weight.new_zeros(len(weight)) for weight in weights)).to(dtype)


def check_descent(lr: float, momentum: float, weight_decay: float = 0.0) -> None:
    """Raise InputError, which names the argument, for a setting of stochastic gradient descent that does not fit."""
    number("lr", lr, above=0, kind=Real)
    number("momentum", momentum, "a number from 0 to below 1", least=0, below=1, kind=Real)
    number("weight_decay", weight_decay, least=0, kind=Real)


def train(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    lr: float = 0.02,
    batch_size: int = 32,
    momentum: float = 0.9,
    seed: int = 0,
    freeze_first: bool = False,
    weight_decay: float = 0.0,
) -> Network:
    """Return a new network, after SGD on the mean softmax cross-entropy.

        v <- momentum v + grad + weight_decay w,    w <- w - lr v        (as torch.optim.SGD)

    Every epoch shuffles the rows anew, and its last batch may be smaller. The same seed gives the same network on one
    machine. Raises InputError for bad arguments.

    Args:
        network: The network to start from. It stays as it is.
        x: The images (n, d), in [0, 1].
        y: The labels (n,), int64.
        epochs: The number of epochs. It is 10 if neither `epochs` nor `steps` is given, and not both may be.
        steps: The number of batches.
        lr: The learning rate.
        batch_size: The rows of a batch.
        momentum: The momentum, in [0, 1).
        seed: The seed of the shuffles.
        freeze_first: Whether the first layer stays as it is. Its n k1 outputs are then computed once and kept.
        weight_decay: The weight decay, 0 or more.
    """
    _check_training(network, x, y, epochs, steps)
    check_descent(lr, momentum, weight_decay)
    integer("batch_size", batch_size, 1, kind=Integral)
    if steps is None:
        steps = (10 if epochs is None else epochs) * -(-len(x) // batch_size)
    frozen = 1 if freeze_first else 0
    inputs = network.hidden(x) if freeze_first else x.to(network.dtype)
    parameters = [[p.clone().requires_grad_() for p in ps[frozen:]] for ps in (network.weights, network.biases)]
    flat = parameters[0] + parameters[1]
    velocities = [torch.zeros_like(p) for p in flat]
    for index in batches(len(x), batch_size, steps, seed):
        z1 = inputs[index]
        weights, biases = parameters
        if not freeze_first:
            z1 = first(network.architecture, weights[0], biases[0], z1)
        z = remaining(network.architecture, weights[1 - frozen :], biases[1 - frozen :], z1)
        gradients = torch.autograd.grad(functional.cross_entropy(z, y[index]), flat)
        with torch.no_grad():
            for p, v, gradient in zip(flat, velocities, gradients, strict=True):
                v.mul_(momentum).add_(gradient)
                if weight_decay:
                    v.add_(p, alpha=weight_decay)
                p.sub_(v, alpha=lr)
    found = [tuple(p.detach() for p in ps) for ps in parameters]
    return replace(network, weights=network.weights[:frozen] + found[0], biases=network.biases[:frozen] + found[1])


def _check_training(network: Network, x: Tensor, y: Tensor, epochs: int | None, steps: int | None) -> None:
    """Raise InputError for rows or labels that do not fit the network, or for a bad number of epochs or steps."""
    _check(x, network.architecture.features, "x")
    if y.shape != (len(x),) or y.dtype != torch.int64 or len(x) == 0:
        raise InputError("y", f"{tuple(y.shape)} {y.dtype}", f"({len(x)},) labels in torch.int64, one row or more")
    if y.min() < 0 or y.max() >= network.architecture.classes:
        raise InputError("y", "labels out of range", f"labels 0 .. {network.architecture.classes - 1}")
    if epochs is not None and steps is not None:
        raise InputError("epochs", epochs, "epochs or steps, not both")
    if any(count is not None and count < 1 for count in (epochs, steps)):
        raise InputError("epochs", epochs or steps, "1 or more")


def batches(rows: int, batch_size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the row numbers of `steps` successive batches, shuffled anew every epoch by one seeded generator."""
    generator = torch.Generator().manual_seed(seed)
    while steps > 0:
        for index in torch.randperm(rows, generator=generator).split(batch_size)[:steps]:
            yield index
            steps -= 1


def first_matrix(network: Network) -> Tensor:
    """Return the first layer as a matrix (k1, d), so that hidden(x) = x @ first_matrix.T + first_bias.

    For a convolution the rows are those of its Toeplitz matrix.
    """
    weight = network.weights[0]
    return first(network.architecture, weight, None, torch.eye(network.architecture.features, dtype=weight.dtype)).T


def first_bias(network: Network) -> Tensor:
    """Return the first layer's bias (k1,), repeated for every position of a convolution."""
    return network.biases[0].repeat_interleave(math.prod(network.architecture.shapes()[0][1:]))


def _check(x: Tensor, width: int, name: str) -> None:
    if x.dim() != 2 or x.shape[1] != width:
        raise InputError(name, tuple(x.shape), f"shape (rows, {width})")
