"""InstaHide: mixed images with a random sign for every pixel, to train on in place of the images.

    z = s * (l_1 x_1 + ... + l_k x_k),    s_p = -1 or 1 for every pixel p,    l >= 0,  sum l = 1,  every l <= c1
    cross     x_1, x_2 private, x_3 .. x_k public,  l_1 + l_2 >= c2;      label  l_1 y_1 + l_2 y_2
    inside    all private;                                                label  l_1 y_1 + ... + l_k y_k
    inference x_1 private, x_2 .. x_k public,  l_1 the largest;           no label

z is an encoding, s are its signs, x_i the k images in it, y_i their one-hot labels and l_i their coefficients. In go
private images with labels, and public images; out come encodings, or a network that was trained on encodings. The
source is Huang, Song, Li and Arora, "InstaHide: Instance-hiding Schemes for Private Distributed Learning", ICML 2020.
An image has mean 0, because for pixels that are never negative `|z|` is the mixture itself, and the signs hide nothing.
In every epoch each private image is x_1 of one encoding. Where the paper is open, this file reads it so: l is uniform
on the simplex, under c1 and c2 by rejection; the other images are drawn uniformly, all k different; labels of public
images count nothing, so that those of a cross-dataset encoding sum to less than 1, as in the authors' program;
encodings are in random order, or their place would name their image. Signs are uniform and independent, so that `|z|`
has all the information of z: `fit` trains on `|z|`.

Every number of a key comes from AES in counter mode under a fresh key of the operating system. The authors' challenge
drew from numpy's Mersenne Twister and was broken by a search of its seeds (`attacks.instahide.seed`).

The parameters and the training may change. A key must never be used for two epochs, and its generator has to stay
cryptographic. LEAKAGE states what an encoding leaks; a program that offers InstaHide must print it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.checks import integer, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.networks import Network, batches, first, remaining
from mpc_appraisal.mpc.ring.prg import Stream, new_key

LEAKAGE = (
    "InstaHide is an obfuscation, not encryption, and not for private data. Encodings of some tens of epochs are "
    "grouped by private image on one processor core within a minute, and most images are then recovered up to the "
    "signs of pixels. A single encoding tells which of many candidate images it was made of, so that inference is not "
    "safe either. Labels travel in the clear, with the weights of the private images where their classes differ."
)
MIXINGS = ("cross", "inside")
CENTRED = 1e-3  # the largest mean of an image's pixels, as a share of their root mean square
MOST = 8  # the most images in a mixture, because coefficients are drawn by rejection


@dataclass(frozen=True, eq=False)
class Encoding:
    """What is published.

    Attributes:
        z: The encodings (rows, d).
        labels: Their label weights (rows, C), whose sum is at most 1 in each row; None for inference.
    """

    z: Tensor
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class Key:
    """The secret of one epoch, which is never used again.

    Attributes:
        coefficients: (rows, k) float64.
        private: (rows, 1, 2 or k) int64, the row numbers of private images.
        public: (rows, the rest of k) int64, the row numbers of public images.
        signs: (rows, d) int8, -1 or 1.
    """

    coefficients: Tensor
    private: Tensor
    public: Tensor
    signs: Tensor

    def __repr__(self) -> str:
        return f"Key(rows={len(self.signs)})"


@dataclass(frozen=True)
class InstaHide:
    """The parameters of InstaHide; the defaults are the authors'.

    Attributes:
        k: The number of images in a mixture, 2 .. 8.
        mixing: "cross", with k of 3 or more, or "inside".
        bound: c1, the largest coefficient, 1.3 / k .. 1.
        least: c2, the least sum of the private images' coefficients in a cross-dataset mixture, 0 .. 0.8 and at most
            1.5 * bound.

    Raises InputError for other values.
    """

    k: int = 4
    mixing: str = "cross"
    bound: float = 0.65
    least: float = 0.3

    def __post_init__(self) -> None:
        one_of("mixing", self.mixing, MIXINGS)
        lowest = 3 if self.mixing == "cross" else 2
        integer("k", self.k, lowest, MOST)
        if not 1.3 / self.k <= self.bound <= 1:
            raise InputError("bound", self.bound, f"1.3 / k = {1.3 / self.k:.3f} .. 1")
        if not 0 <= self.least <= 0.8 or (self.mixing == "cross" and self.least > 1.5 * self.bound):
            raise InputError("least", self.least, "0 .. 0.8 and at most 1.5 times the bound")

    @property
    def mixed(self) -> int:
        """Return the number of private images in a training mixture."""
        return 2 if self.mixing == "cross" else self.k

    def encrypt(self, x: Tensor, y: Tensor, public: Tensor | None = None) -> Encoding:
        """Encode one epoch: make an encoding of each private image, in random order, under a new key that is not kept.

        Args:
            x: The private images (n, d), each of mean 0.
            y: Their label weights (n, C), one-hot rows.
            public: The public images (m, d), for cross-dataset mixing.

        Raises InputError for images that are not of mean 0, for too few of them, and for shapes that do not fit.
        """
        _images("x", x)
        if y.dim() != 2 or len(y) != len(x) or not y.is_floating_point():
            raise InputError("y", f"{tuple(y.shape)} {y.dtype}", f"({len(x)}, classes) label weights, floating")
        key = self.draw(Stream(new_key(), "instahide"), x.shape, self._public(x, public, self.k - self.mixed))
        _drawn(key, public)
        return apply(key, x, y, public)

    def infer(self, x: Tensor, public: Tensor, count: int = 10) -> Tensor:
        """Return `count` encodings of each image, (count, n, d), mixed with public images alone.

        `predict` averages the predictions of the encodings.

        Args:
            x: The private images (n, d), each of mean 0.
            public: The public images (m, d).
            count: The number of encodings of each image.

        Raises InputError as `encrypt` does, and for a count below 1.
        """
        if count < 1:
            raise InputError("count", count, "1 or more")
        _images("x", x)
        rows = self._public(x, public, self.k - 1)
        found = []
        for _ in range(count):
            key = self.draw(Stream(new_key(), "instahide"), x.shape, rows, alone=True)
            _drawn(key, public)
            found.append(apply(key, x, None, public).z)
        return torch.stack(found)

    def draw(self, stream: Stream, shape: Sequence[int], public: int, *, alone: bool = False) -> Key:
        """Draw a key under which each private image comes first in one row.

        Args:
            stream: The stream of random numbers.
            shape: The number n of images and d of pixels.
            public: The number of public images.
            alone: True to mix one private image, which gets the largest coefficient, with k - 1 public ones, in the
                order of the images; otherwise the order is random.
        """
        rows, width = shape
        mixed = 1 if alone else self.mixed
        # A stable sort makes a tie of two 64-bit numbers harmless.
        own = (torch.arange(rows) if alone else torch.argsort(stream.ring((rows,)), stable=True))[:, None]

        def partners(index: Tensor) -> Tensor:
            return torch.cat([own[index], stream.ring((len(index), mixed - 1)) % rows], dim=1)

        def outsiders(index: Tensor) -> Tensor:
            return stream.ring((len(index), self.k - mixed)) % max(public, 1)

        def allowed(weights: Tensor) -> Tensor:
            fits = weights.amax(dim=1) <= self.bound
            return fits & (weights[:, :2].sum(dim=1) >= self.least) if mixed == 2 and self.mixing == "cross" else fits

        coefficients = _redrawn(rows, lambda index: _simplex(stream, (len(index), self.k)), allowed)
        if alone:
            coefficients = coefficients.sort(dim=1, descending=True).values
        private, others = _redrawn(rows, partners, _different), _redrawn(rows, outsiders, _different)
        return Key(coefficients, private, others, _signs(stream, rows, width))

    def _public(self, x: Tensor, public: Tensor | None, needed: int) -> int:
        if self.mixed > len(x) and needed < self.k - 1:
            raise InputError("x", f"{len(x)} images", f"{self.mixed} or more, all different in a mixture")
        if needed == 0:
            return 0
        if public is None or public.dim() != 2 or public.shape[1] != x.shape[1] or len(public) < needed:
            shape = None if public is None else tuple(public.shape)
            raise InputError("public", shape, f"{needed} or more public images of {x.shape[1]} pixels")
        return len(public)


def apply(key: Key, x: Tensor, y: Tensor | None, public: Tensor | None) -> Encoding:
    """Return the encodings of images under a key.

    Args:
        key: The key, which must not be used again.
        x: The private images (n, d).
        y: Their label weights (n, C); None for inference.
        public: The public images (m, d); None where the key mixes in none.
    """
    weights, mixed = key.coefficients.to(x.dtype), key.private.shape[1]
    mixture, labels = torch.zeros_like(x), None if y is None else torch.zeros_like(y)
    for place in range(weights.shape[1]):
        weight = weights[:, place : place + 1]
        if place < mixed:
            mixture.addcmul_(weight, x[key.private[:, place]])
            if y is not None:
                labels += weight.to(y.dtype) * y[key.private[:, place]]
        else:
            mixture.addcmul_(weight, public[key.public[:, place - mixed]].to(x.dtype))
    return Encoding(mixture.mul_(key.signs), labels)


def centred(x: Tensor) -> Tensor:
    """Shift and scale each image (n, d) to mean 0 and standard deviation 1; a constant image becomes 0."""
    x = x - x.mean(dim=1, keepdim=True)
    return x / x.std(dim=1, keepdim=True, correction=0).clamp_min(torch.finfo(x.dtype).tiny ** 0.5)


def fit(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    hide: InstaHide | None = None,
    public: Tensor | None = None,
    lr: float = 0.02,
    batch_size: int = 32,
    momentum: float = 0.9,
    seed: int = 0,
) -> Network:
    """Train a network by SGD on the mean cross-entropy with label weights, and return it.

    Training uses |z| of fresh encodings in every epoch, or x where `hide` is None, with as many steps and images either
    way. The rate falls to a tenth for the last third of the epochs.

    Args:
        network: The network to start from.
        x: The private images (n, d).
        y: Their label weights (n, C).
        epochs: The number of epochs.
        hide: The parameters of the encodings; None to train on x itself.
        public: The public images (m, d), for cross-dataset mixing.
        lr, batch_size, momentum, seed: The settings of SGD.

    Raises InputError as `InstaHide.encrypt` does.
    """
    leaves = [p.clone().requires_grad_() for p in (*network.weights, *network.biases)]
    half, steps = len(leaves) // 2, -(-len(x) // batch_size)
    optimiser = torch.optim.SGD(leaves, lr, momentum=momentum)
    inputs, labels = x, y
    for epoch in range(epochs):
        if hide is not None:
            encoding = hide.encrypt(x, y, public)
            inputs, labels = encoding.z.abs_(), encoding.labels
        optimiser.param_groups[0]["lr"] = lr if 3 * epoch < 2 * epochs else lr / 10
        for index in batches(len(x), batch_size, steps, seed + epoch):
            z1 = first(network.architecture, leaves[0], leaves[half], inputs[index])
            z = remaining(network.architecture, leaves[1:half], leaves[half + 1 :], z1)
            optimiser.zero_grad()
            (-(labels[index] * z.log_softmax(dim=1)).sum(dim=1).mean()).backward()
            optimiser.step()
    found = [leaf.detach() for leaf in leaves]
    return replace(network, weights=tuple(found[:half]), biases=tuple(found[half:]))


def predict(network: Network, hide: InstaHide, x: Tensor, public: Tensor, count: int = 10) -> Tensor:
    """Predict probabilities (n, C) by a network that `fit` trained on encodings, averaged over `count` of each."""
    return torch.stack([network.probabilities(z.abs()) for z in hide.infer(x, public, count)]).mean(dim=0)


def _redrawn(rows: int, drawn: Callable[[Tensor], Tensor], allowed: Callable[[Tensor], Tensor]) -> Tensor:
    """Draw rows, and draw each again until it is allowed."""
    found = drawn(torch.arange(rows))
    while len(left := (~allowed(found)).nonzero().squeeze(1)):
        found[left] = drawn(left)
    return found


def _signs(stream: Stream, rows: int, width: int) -> Tensor:
    """Draw uniform signs -1 or 1, int8 (rows, width), each from one bit of the stream."""
    words = stream.ring((rows, -(-width // 64))).numpy()
    bits = np.unpackbits(words.view(np.uint8), axis=1, count=width)
    return torch.from_numpy(bits.view(np.int8)).mul_(2).sub_(1)


def _different(index: Tensor) -> Tensor:
    """Say which rows of (rows, c) have no number twice."""
    ordered = index.sort(dim=1).values
    return (ordered[:, 1:] != ordered[:, :-1]).all(dim=1)


def _simplex(stream: Stream, shape: tuple[int, int]) -> Tensor:
    """Draw uniform points on the simplex, float64 (rows, k): exponential numbers over their sum."""
    uniform = ((stream.ring(shape) >> 11 & (2**53 - 1)).to(torch.float64) + 0.5) / 2**53
    exponential = -torch.log(uniform)
    return exponential / exponential.sum(dim=1, keepdim=True)


def _drawn(key: Key, public: Tensor | None) -> None:
    """Check the public images that a key mixes in; a large set is not checked as a whole in every epoch."""
    if public is not None and key.public.numel():
        rows = key.public.unique()
        _images("public", public[rows] if 2 * len(rows) < len(public) else public)


def _images(name: str, x: Tensor) -> None:
    if x.dim() != 2 or 0 in x.shape or not x.is_floating_point():
        raise InputError(name, f"{tuple(x.shape)} {x.dtype}", "(rows, pixels), one of each or more, floating")
    root = torch.linalg.vector_norm(x, dim=1) / x.shape[1] ** 0.5  # it is not finite where a pixel is not finite
    if not torch.isfinite(root).all():
        raise InputError(name, "NaN, infinity or numbers too large to square", "finite numbers")
    off = (x.mean(dim=1).abs() > CENTRED * root) | (root == 0)
    if off.any():
        expected = "images of mean 0, not all of one value (`centred`): signs do not hide pixels of one sign"
        raise InputError(name, f"{int(off.sum())} of {len(x)} images off mean 0", expected)
