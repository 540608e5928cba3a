"""Public feature extractors: a bigger model whose last layer alone is private.

    phi(x) = the body of a public network,   p(y | x) = softmax(theta' [phi(x), 1])

x are the d features of a row, phi(x) the k features that the extractor makes of them, y is the class, and theta are the
private weights. Both owners apply the same phi in the clear to their own rows, and everything else runs on phi(x) as it
does on x. Random features are those of Rahimi and Recht (2007), and with relu those of Cho and Saul (2009).

The weights have the same bits at both owners. They come from numpy's PCG64, whose raw stream is frozen (NEP 19), by
integer arithmetic: (ones among 64 random bits - 32) / 4 is binomial, of mean 0 and variance 1, and exact in a float.
Owners compare `digest`. phi(x) is a float64 sum, whose last bits depend on the processor and on the block of rows. That
is harmless, because each row is at one owner alone and enters the fixed-point ring (integers modulo 2^64 that stand for
real numbers) rounded to 2^-16.

A new extractor is a class here and an entry in the configuration. The weights and the digest of an existing extractor
have to stay, bit by bit, because the other owner may run another version.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from mpc_appraisal.common.archives import read_arrays
from mpc_appraisal.common.checks import boolean, integer
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data.dataset import Dataset
from mpc_appraisal.data.files import StoredDataset

BLOCK = 256  # rows at a time
LARGEST = 1 << 31  # the most bytes of a file of layers, unpacked
REFERENCE = 16  # rows of random weights that the digest of a RandomRelu looks at


class Extractor(ABC):
    """Map rows by a public function, (n, d) -> (n, k) float64."""

    @abstractmethod
    def outputs(self, features: int) -> int:
        """Return k for rows of d features. Raises InputError for a d that the extractor does not take."""

    @abstractmethod
    def block(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features of a few rows, (b, d) float64 -> (b, k) float64."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256, in hexadecimal, of all that determines the function. The public configuration holds it."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the features of x, (n, d) float32 or float64 -> (n, k) float64, block by block."""
        features = torch.empty(len(x), self.outputs(x.shape[1]), dtype=torch.float64)
        for start in range(0, len(x), BLOCK):
            features[start : start + BLOCK] = self.block(x[start : start + BLOCK].to(torch.float64))
        return features


@dataclass(frozen=True)
class NoFeatures(Extractor):
    """Leave the rows as they are: phi(x) = x."""

    def outputs(self, features: int) -> int:
        return features

    def block(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @property
    def digest(self) -> str:
        return _digest(self, [])


@dataclass(frozen=True)
class RandomRelu(Extractor):
    """Map rows by one random layer: phi(x) = relu(W x + b) / sqrt(width), with k = width.

    W and b are random, and ||phi(x)|| is about ||[x, 1]|| / sqrt(2).

    Attributes:
        width: k, the number of features, 1 or more.
        seed: the seed of the public weights, 0 or more.
    """

    width: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, width=1, seed=0)

    def outputs(self, features: int) -> int:
        return self.width

    def block(self, x: torch.Tensor) -> torch.Tensor:
        weights = _random(self.seed, (x.shape[1] + 1, self.width))
        return torch.addmm(weights[-1], x, weights[:-1]).relu() / math.sqrt(self.width)

    @property
    def digest(self) -> str:
        return _digest(self, [_random(self.seed, (REFERENCE, self.width))])


@dataclass(frozen=True)
class ConvRandom(Extractor):
    """Map images by random filters of size x size, relu, and means over a grid x grid of windows; k = filters * grid^2.

    The images are square, of `channels` planes, as `Dataset.of` flattens them: d = channels * side^2, plane by plane.
    The features are scaled so that ||phi(x)|| is of the order of ||x||: the relu of the sum over a filter, divided by
    size sqrt(channels), then the mean over a window, times the window's side / sqrt(filters). There is no bias, so that
    phi(a x) = a phi(x) for a > 0.

    Attributes:
        filters: the number of filters, 1 or more.
        size: the side of a filter in pixels.
        grid: the number of windows along a side.
        channels: the number of planes of an image.
        seed: the seed of the public weights, 0 or more.
    """

    filters: int = 32
    size: int = 5
    grid: int = 4
    channels: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, filters=1, size=1, grid=1, channels=1, seed=0)

    def outputs(self, features: int) -> int:
        side = math.isqrt(features // self.channels)
        if features != self.channels * side * side or side - self.size + 1 < self.grid:
            least = self.size + self.grid - 1
            expected = f"rows of {self.channels} square planes of a side of {least} or more, for this size and grid"
            raise InputError("features", f"{features} features a row", expected)
        return self.filters * self.grid**2

    def block(self, x: torch.Tensor) -> torch.Tensor:
        side = math.isqrt(x.shape[1] // self.channels)
        mapped = torch.nn.functional.conv2d(x.reshape(len(x), self.channels, side, side), self._weights).relu()
        pooled = torch.nn.functional.adaptive_avg_pool2d(mapped, self.grid).flatten(1)
        window = mapped.shape[-1] / self.grid
        return pooled * (window / (self.size * math.sqrt(self.channels * self.filters)))

    @property
    def _weights(self) -> torch.Tensor:
        return _random(self.seed, (self.filters, self.channels, self.size, self.size))

    @property
    def digest(self) -> str:
        return _digest(self, [self._weights])


@dataclass(frozen=True)
class Layers(Extractor):
    """Map rows by dense layers of a public network from a .npz file: phi(x) = relu(... relu(x w0 + b0) w1 + b1 ...).

    Args:
        path: the file, of arrays w0 (d, k0), b0 (k0,), w1 (k0, k1), b1 (k1,), ...; nothing is unpickled. The path is no
            public fact and no part of the digest, which is over last_relu and all numbers as float64.
        last_relu: whether a relu follows the last layer too.
        sha256: the `digest` that the file must have, where it is stated.

    Raises InputError, under "path", for any other file, and under "sha256" for another digest.
    """

    path: str
    last_relu: bool = True
    sha256: str | None = None
    _stack: tuple[tuple[torch.Tensor, torch.Tensor], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, Path)):
            raise InputError("path", self.path, "the path of a .npz file")
        boolean("last_relu", self.last_relu)
        object.__setattr__(self, "_stack", _read_layers(Path(self.path)))
        if self.sha256 is not None and self.sha256 != self.digest:
            raise InputError("sha256", self.digest, f"{self.sha256}, as stated")

    def outputs(self, features: int) -> int:
        expected = len(self._stack[0][0])
        if features != expected:
            raise InputError("features", f"{features} features a row", f"{expected}, as w0 of the file has rows")
        return len(self._stack[-1][1])

    def block(self, x: torch.Tensor) -> torch.Tensor:
        for k, (weights, bias) in enumerate(self._stack, start=1):
            x = torch.addmm(bias, x, weights)
            x = x.relu() if self.last_relu or k < len(self._stack) else x
        return x

    @property
    def digest(self) -> str:
        return _digest(self, [tensor for layer in self._stack for tensor in layer])


def mapped(data: Dataset | StoredDataset, extractor: Extractor) -> Dataset | StoredDataset:
    """Return the same rows and labels with the extractor's features, which have no names.

    A data set that stays in its file is mapped as it is read. Raises InputError where the rows do not fit, or features
    are not finite.
    """
    if isinstance(extractor, NoFeatures):
        return data
    if isinstance(data, StoredDataset):
        features = extractor.outputs(data.features)
        return data.changed(partial(mapped, extractor=extractor), features=features, columns=None)
    return replace(data, x=extractor(data.x), columns=None)


@lru_cache(maxsize=4)
def _random(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return numbers of mean 0 and variance 1, the same on every machine: (ones among 64 bits of PCG64 - 32) / 4."""
    n = np.random.PCG64(seed).random_raw(math.prod(shape))
    for shift, mask in ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F)):
        n = (n & np.uint64(mask)) + ((n >> np.uint64(shift)) & np.uint64(mask))
    ones = n.view(np.uint8).reshape(-1, 8).sum(1)  # each byte holds its own count
    return torch.from_numpy((ones.astype(np.float64) - 32.0) / 4.0).reshape(shape)


def _digest(extractor: Extractor, weights: list[torch.Tensor]) -> str:
    hidden = ("path", "sha256", "_stack")
    settings = {f.name: getattr(extractor, f.name) for f in fields(extractor) if f.name not in hidden}
    text = json.dumps([type(extractor).__name__, settings, [list(w.shape) for w in weights]], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for tensor in weights:
        digest.update(np.ascontiguousarray(tensor.numpy(), dtype="<f8").tobytes())
    return digest.hexdigest()


def _check(extractor: Extractor, **least: int) -> None:
    for key, lowest in least.items():
        integer(key, getattr(extractor, key), lowest, 2**31 - 1, f"an integer of {lowest} or more")


def _read_layers(path: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    expected = "a .npz file of arrays w0 (d, k0), b0 (k0,), w1 (k0, k1), b1 (k1,), ..., finite real numbers"
    found = read_arrays(path, "path", expected, LARGEST)
    count = len(found) // 2
    if not count or set(found) != {f"{letter}{k}" for letter in "wb" for k in range(count)}:
        raise InputError("path", f"{path} with arrays {sorted(found)[:20]}", expected)
    stack, width = [], None
    for k in range(count):
        weights, bias = found[f"w{k}"], found[f"b{k}"]
        fits = weights.ndim == 2 and weights.size and bias.shape == weights.shape[1:]
        if not fits or width not in (None, len(weights)) or {weights.dtype.kind, bias.dtype.kind} - set("iuf"):
            shown = f"{path} with w{k} {weights.shape} {weights.dtype} and b{k} {bias.shape} {bias.dtype}"
            raise InputError("path", shown, expected)
        weights, bias = (torch.from_numpy(array.astype(np.float64)) for array in (weights, bias))
        if not (torch.isfinite(weights).all() and torch.isfinite(bias).all()):
            raise InputError("path", f"{path} with NaN or infinity in w{k} or b{k}", expected)
        stack.append((weights, bias))
        width = weights.shape[1]
    return tuple(stack)
