"""Seconds and bytes of `ife_transform`, `ife_shares` and TenSEAL's CKKS, in turns of one run (table 1 of the slides).

data encryption     at the seller; its key is expanded beforehand
model encryption    masks, quantised first layer, function keys; once, for any number of images
first layer         ciphertexts and keys -> products (TenSEAL: -> encrypted products), with all rotations
feed forward        first layer, the others, and the shopper's logits
back propagation    the shopper's gradient and one step of all layers but the first (`ife_shares`: forward pass too)

Networks, with random weights and images, for none of these costs depends on values: cnn6 (table 1), cnn3 (that of
TenSEAL's tutorial: a convolution 4 x 7 x 7 stride 3, 64 units, 10 units; TenSEAL squares where others have ReLU) and
mlp (100 units, 10 units). One thread each; `ife_shares` is three processes, the dealer's work included. For quiet
timings run `marketplace.py --only cost` by itself; else it begins last, beside what is left of the other jobs.

Security is not the same: see marketplace_cost_page.NOTES, which the report prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import marketplace_cost_shares
import numpy as np
import tenseal_rival
import torch
from marketplace_cost_page import (
    ABSENT,
    BACK,
    CURVE,
    DIAGONALS,
    ENCRYPT,
    FIRST,
    FORWARD,
    IM2COL,
    MODEL,
    OPERATIONS,
    SHARES,
    TRANSFORM,
)
from marketplace_size import Job, Row, Size
from tenseal_rival import LAYER, NETWORK, Tenseal
from torch import Tensor

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.als16 import ALS16
from mpc_appraisal.marketplace.encryption.convolution import patches
from mpc_appraisal.marketplace.encryption.lwe import LWE
from mpc_appraisal.marketplace.encryption.scheme import PIXEL, Master, Scheme
from mpc_appraisal.marketplace.protocols.masked_layers import CloudSide, Masks, ShopperSide, mask
from mpc_appraisal.marketplace.protocols.quantised import quantise
from mpc_appraisal.models.networks import (
    ARCHITECTURES,
    MNIST,
    Architecture,
    Conv,
    Dense,
    Network,
    first_matrix,
    initial,
)
from mpc_appraisal.reporting.table import DASH

NETWORKS = {
    "cnn6": ARCHITECTURES["cnn6"],
    "cnn3": Architecture("cnn3", MNIST, (Conv(4, 7, stride=3), Dense(64), Dense(10))),
    "mlp": ARCHITECTURES["mlp"],
}
INK = 0.2  # share of pixels that are not 0, as in MNIST
LR = 0.01


@dataclass(frozen=True)
class Repeats:
    """Turns of each. rival: of TenSEAL. matrices: of its `mm` on a whole first layer. shares: of `ife_shares`."""

    ours: int
    curve: int
    rival: int
    matrices: int
    shares: int


FULL, SMALL = Repeats(7, 5, 5, 3, 5), Repeats(1, 0, 1, 0, 1)


def jobs(size: Size) -> list[Job]:
    repeats, images = (FULL, (1, 64)) if size.name == "full" else (SMALL, (1, 4))
    return [Job("cost", 1000, run, size, (repeats, images))]


@dataclass
class Book:
    """Seconds by (network, operation, system, images), and what was found beside them."""

    rows: dict[tuple[str, str, str, int], Row] = field(default_factory=dict)

    def time(self, network: str, operation: str, system: str, images: int, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        self.add(network, operation, system, images, time.perf_counter() - start)
        return result

    def add(self, network: str, operation: str, system: str, images: int, seconds: float) -> None:
        names = {"network": network, "operation": operation, "system": system, "images": images}
        row = self.rows.setdefault((network, operation, system, images), {"part": "cost", **names})
        row.setdefault("seconds", []).append(round(seconds, 7))
        row.setdefault("bytes", None)

    def note(self, network: str, operation: str, system: str, images: int, **facts: float) -> None:
        row = self.rows[network, operation, system, images]
        row |= {key: max(value, row.get(key) or 0) for key, value in facts.items()}


def run(size: Size, repeats: Repeats, images: Sequence[int]) -> list[Row]:
    generator = np.random.default_rng(0)
    shape = max(images), 784
    x = generator.integers(0, PIXEL + 1, shape) * (generator.random(shape) < INK)
    y = torch.from_numpy(generator.integers(0, 10, max(images)))
    book, rivals = Book(), Rivals.build(x[0]) if tenseal_rival.installed() else None
    seller = LWE().setup(shape[1])  # one for all networks: the scheme keeps few expanded keys
    ours = {name: Ours(initial(a, 0, torch.float64), LWE(), TRANSFORM, seller) for name, a in NETWORKS.items()}
    for one in ours.values():
        one.turn(Book(), x[:1], y[:1])  # expands it
    curve = _curve(repeats)
    for turn in range(max(repeats.ours, repeats.curve, repeats.rival, repeats.matrices)):
        for one in ours.values() if turn < repeats.ours else ():
            for count in images:
                one.turn(book, x[:count], y[:count])
        if rivals and turn < repeats.rival:
            rivals.turn(book)
        if rivals and turn < repeats.matrices:
            rivals.matrices(book)
        if curve and turn < repeats.curve:
            curve.turn(book, x[:1], y[:1])
    name, shared = ("cnn6", images) if size.name == "full" else ("cnn3", images[:1])
    for count in shared:
        for operation, seconds, sent in marketplace_cost_shares.measure(
            ours[name].network, x[:count], y[:count], repeats.shares, LR
        ):
            book.add(name, operation, SHARES, count, seconds)
            book.note(name, operation, SHARES, count, bytes=sent)
    lost = [] if rivals else [IM2COL]
    lost += [CURVE] if repeats.curve and not curve else []
    facts = {"network": DASH, "operation": ABSENT, "images": 0, "seconds": [], "bytes": None}
    return [*book.rows.values(), *({"part": "cost", "system": system, **facts} for system in lost)]


def _curve(repeats: Repeats) -> Ours | None:
    if not repeats.curve:
        return None
    try:
        return Ours(initial(NETWORKS["cnn6"], 0, torch.float64), ALS16(), CURVE, ALS16().setup(784))
    except InputError:
        return None


@dataclass(eq=False)
class Ours:
    """`ife_transform` with one seller."""

    network: Network
    scheme: Scheme
    system: str
    master: Master

    def __post_init__(self) -> None:
        self._key = self.scheme.encryption_key(self.master)

    def turn(self, book: Book, x: np.ndarray, y: Tensor) -> None:
        """Every operation once; bytes as numbers are sent. Raises AssertionError where products are not exact."""
        name, count = self.network.architecture.name, len(x)
        what = {operation: (name, operation, self.system, count) for operation in OPERATIONS}
        what[MODEL] = (name, MODEL, self.system, 0)
        c = book.time(*what[ENCRYPT], lambda: self.scheme.encrypt(self._key, x))
        masks, masked, q, key = book.time(*what[MODEL], self._hidden)
        evaluate = self.scheme.evaluator(key, q.w)
        if not np.array_equal(evaluate(c), x @ q.w.T):  # and so the key was used once
            raise AssertionError("inner products are not exact")
        cloud, shopper = CloudSide(masked, masks.squares(), lr=LR), ShopperSide(masks)

        def forward() -> tuple[Tensor, Tensor]:
            products = book.time(*what[FIRST], lambda: evaluate(c))
            z = cloud.forward(q.real(products))
            return z, shopper.logits(z)

        z, logits = book.time(*what[FORWARD], forward)
        book.time(*what[BACK], lambda: cloud.backward(shopper.gradient(z, y)))
        plain = self.network.logits(torch.from_numpy(x) / PIXEL)
        error = (logits - plain).abs().max() / plain.abs().max()
        others = sum(p.numel() * p.element_size() for p in (*masked.weights[1:], *masked.biases))
        book.note(*what[ENCRYPT], bytes=c.nbytes)
        book.note(*what[MODEL], bytes=key.nbytes + 2 * 4 * q.w.size + q.step.nbytes + others)
        book.note(*what[FORWARD], bytes=z.numel() * z.element_size(), error=float(error))
        book.note(*what[BACK], bytes=z.numel() * z.element_size())

    def _hidden(self) -> tuple:
        masks = Masks.draw(self.network.architecture)
        masked = mask(self.network, masks)
        q = quantise(first_matrix(masked))
        return masks, masked, q, self.scheme.keygen(self.master, q.w)


@dataclass(eq=False)
class Rivals:
    """TenSEAL on one image x (d,) in 0 .. 1."""

    x: np.ndarray
    whole: Tenseal
    layer: Tenseal

    @staticmethod
    def build(x: np.ndarray) -> Rivals:
        return Rivals(x / PIXEL, Tenseal(NETWORK), Tenseal(LAYER))

    def turn(self, book: Book) -> None:
        """The tutorial's network, and the first layers that are convolutions."""
        net = initial(NETWORKS["cnn3"], 0, torch.float64)
        weights, biases = ([p.numpy() for p in ps] for ps in (net.weights, net.biases))
        what = "cnn3", ENCRYPT, IM2COL, 1
        pieces = book.time(*what, lambda: self.whole.encrypt_patches(self._patches("cnn3")))
        book.note(*what, bytes=tenseal_rival.bytes_of([piece.vector for piece in pieces]))
        what = "cnn3", FORWARD, IM2COL, 1
        logits = book.time(*what, lambda: tenseal_rival.network(pieces, weights, biases).decrypt())
        exact = squared(net, self.x)
        book.note(*what, error=float(np.abs(np.array(logits) - exact).max() / np.abs(exact).max()))
        self._first(book, "cnn3", IM2COL, pieces, self.whole)
        for name in ("cnn3", "cnn6"):
            pieces = self.layer.encrypt_patches(self._patches(name))
            self._first(book, name, f"{IM2COL}, least modulus", pieces, self.layer)

    def _first(self, book: Book, name: str, system: str, pieces: list, context: Tenseal) -> None:
        kernels = initial(NETWORKS[name], 0, torch.float64).weights[0][:, 0].numpy()
        found = book.time(name, FIRST, system, 1, lambda: tenseal_rival.convolution(pieces, kernels))
        values = tenseal_rival.decrypted([vector for parts in found for vector in parts])
        self._check(book, name, system, values)

    def matrices(self, book: Book) -> None:
        """First layers as one matrix: dense, and the convolution of cnn6 by its Toeplitz rows."""
        for name in ("mlp", "cnn6"):
            w, c = first_matrix(initial(NETWORKS[name], 0, torch.float64)).numpy(), self.layer.encrypt(self.x)
            found = book.time(name, FIRST, f"{DIAGONALS}, least modulus", 1, lambda w=w, c=c: tenseal_rival.dense(c, w))
            self._check(book, name, f"{DIAGONALS}, least modulus", tenseal_rival.decrypted([found]))

    def _check(self, book: Book, name: str, system: str, values: np.ndarray) -> None:
        exact = first_matrix(initial(NETWORKS[name], 0, torch.float64)).numpy() @ self.x
        book.note(name, FIRST, system, 1, error=float(np.abs(values - exact).max() / np.abs(exact).max()))

    def _patches(self, name: str) -> np.ndarray:
        conv = NETWORKS[name].layers[0]
        return patches(self.x[None], MNIST, conv.kernel, conv.stride, conv.padding)


def squared(net: Network, x: np.ndarray) -> np.ndarray:
    """Logits (C,) with squares in place of ReLU."""
    a = net.hidden(torch.from_numpy(x)[None])
    for w, bias in zip(net.weights[1:], net.biases[1:], strict=True):
        a = a.square() @ w.T + bias
    return a[0].numpy()
