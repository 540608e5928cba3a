"""`ife_transform`: the first layer by functional encryption, the remaining layers on masked weights.

W_l, b_l and z_l are weights, biases and outputs of layer l, M_l the masks, a tilde marks what is masked (see
`masked_layers`), Enc(x) is a seller's encrypted row, and f~ the masked layers after the first:

    shopper     W~_l = M_l W_l M_{l-1}^-1,  w = quantise(W~_1)    w to authority and cloud, W~_2.. and b~ to the cloud
    authority   sk = keygen(w), one for each seller                to the cloud
    cloud       z~ = f~(evaluate(sk, w, Enc(x)))                   (n, C) to the shopper, which has z = C' z~
    shopper     g~ = C (p - e_y) / n                               (n, C) to the cloud, which makes one step with it

Quantising commutes with M_1, whose scales are positive and act on rows. So the model is the one with the quantised
first layer, in float64. For its own rows the shopper sends the products W~_1 x, which it can compute itself.

This file holds what is computed and sent; roles/ says who is asked what, and when. What one side sends, the other side
has to receive in the same order and shape. `IfeTransform.leakage` has to name everything that is sent. Source: slides
"Try before you buy" (Song, Cao, Sun, Li, Ke); `masked_layers` says what fills their gaps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.checks import one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.scheme import Ciphertext, FunctionKey, Scheme
from mpc_appraisal.marketplace.protocols.masked_layers import LEAKAGE, CloudSide, Masks, ShopperSide, mask, unmask
from mpc_appraisal.marketplace.protocols.quantised import PIXEL, Quantised, quantise
from mpc_appraisal.marketplace.roles import AUTHORITY, CLOUD, SHOPPER
from mpc_appraisal.models.networks import Architecture, Network, batches, first_bias, first_matrix
from mpc_appraisal.mpc.net.messages import Messages

UPDATES = ("exact", "preconditioned")


@dataclass(frozen=True)
class IfeTransform:
    """The strategy in which the layers after the first run on masked weights.

    Attributes:
        scheme: the scheme of functional encryption.
        update: the mode of the cloud's updates, 'exact' or 'preconditioned', see `masked_layers`.
    """

    name: ClassVar[str] = "ife_transform"
    label: ClassVar[str] = "an obfuscation, not encryption: the cloud holds an equivalent model"
    scheme: Scheme
    update: str = "exact"

    def __post_init__(self) -> None:
        one_of("update", self.update, UPDATES)

    def check(self, validation: Any) -> None:
        """Accept every validation, as this strategy can compute each."""

    @property
    def leakage(self) -> tuple[str, ...]:
        """Return sentences that state what the strategy leaks."""
        return (
            LEAKAGE,
            "The cloud knows the masked first layer and its inner products with every record: from as many independent "
            "rows as pixels the records follow by linear algebra, from fewer, in part, by linear programming.",
            "The same holds for the shopper's own rows and validation rows: the cloud has the same products of them.",
            "In retraining the cloud sees rotated gradients: their clusters are the labels' classes, without names.",
            "The shopper learns the predictions of every record on offer and the labels of those selected.",
            "The authority sees the masked first layer, which rows were selected, and could decrypt every upload.",
            "The cloud sees which records were selected and which subsets were accepted.",
        )


@dataclass(frozen=True)
class Steps:
    """The settings of SGD in one retraining, as in `networks.train`, with the first layer frozen."""

    steps: int
    lr: float
    batch_size: int
    momentum: float
    seed: int


class TransformShopper:
    """The shopper's side, which has the masks.

    Args:
        messages: the shopper's messages to the other roles.
        network: the shopper's network.
        exact: True if the cloud is sent what exact updates need.
        batch: the number of rows in one message.
    """

    def __init__(self, messages: Messages, network: Network, exact: bool, batch: int):
        self._messages, self._batch, self._exact = messages, batch, exact
        network = network.to(torch.float64)
        self._masks = Masks.draw(network.architecture)
        self._masked = mask(network, self._masks)
        self._side = ShopperSide(self._masks)
        self._first = quantise(first_matrix(self._masked))
        self.gradients = 0  # rows of gradients sent so far

    def send_model(self) -> None:
        """Send the masked first layer to authority and cloud, and the other masked layers to the cloud."""
        w = torch.from_numpy(self._first.w).to(torch.int32)
        self._messages.send(AUTHORITY, w)
        self._messages.send(CLOUD, w)
        self._messages.send(CLOUD, torch.from_numpy(self._first.step))
        for values in (*self._masked.weights[1:], *self._masked.biases):
            self._messages.send(CLOUD, values)
        if self._exact:
            for square in self._side.squares():
                self._messages.send(CLOUD, square)

    def logits(self, rows: int) -> Tensor:
        """Receive z~ of `rows` records that the cloud predicts, and return their logits (rows, C), float64."""
        classes = self._masked.architecture.classes
        found = [self._messages.receive(CLOUD, (size, classes)) for size in _parts(rows, self._batch)]
        return self._side.logits(torch.cat(found))

    def own_logits(self, x: Tensor) -> Tensor:
        """Compute the logits (m, C), float64, of own rows x (m, d) in 0 .. 255, as the cloud would."""
        z1 = self._products(x) + first_bias(self._masked)
        return self._side.logits(self._masked.from_hidden(z1))

    def _products(self, x: Tensor) -> Tensor:
        """Return the first layer's products (m, k1); they are exact, as integers below 2^24 in float64."""
        return self._first.real(x.to(torch.float64) @ torch.from_numpy(self._first.w.T).to(torch.float64))

    def send_products(self, x: Tensor) -> None:
        """Send the products of the masked first layer with own rows x (m, d) in 0 .. 255."""
        for part in self._products(x).split(self._batch):
            self._messages.send(CLOUD, part)

    def retrain(self, y: Tensor, how: Steps) -> None:
        """Answer each forward pass of a retraining with its gradient.

        Args:
            y: the labels (n,) of all rows that the cloud trains on, in the cloud's order.
            how: the settings of SGD, equal at the cloud.
        """
        for index in batches(len(y), how.batch_size, how.steps, how.seed):
            z = self._messages.receive(CLOUD, (len(index), self._masked.architecture.classes))
            self._messages.send(CLOUD, self._side.gradient(z, y[index]))
            self.gradients += len(index)

    def network(self) -> Network:
        """Receive the cloud's present network and unmask it. Its first layer is the one before quantising."""
        weights, biases = _receive_layers(self._messages, CLOUD, self._masked.architecture)
        masked = Network(self._masked.architecture, self._masked.weights[:1] + weights, biases)
        return unmask(masked, self._masks)


class TransformCloud:
    """The cloud's side, which has ciphertexts, keys and the masked network. Making it receives the network.

    Args:
        messages: the cloud's messages to the other roles.
        scheme: the scheme of functional encryption.
        architecture: the architecture of the network.
        exact: True if the shopper sends what exact updates need.
        batch: the number of rows in one message.
    """

    def __init__(self, messages: Messages, scheme: Scheme, architecture: Architecture, exact: bool, batch: int):
        self._messages, self._scheme, self._batch, self._architecture = messages, scheme, batch, architecture
        k, d = math.prod(architecture.shapes()[0]), architecture.features
        self._w = messages.receive(SHOPPER, (k, d), torch.int32).to(torch.int64).numpy()
        step = messages.receive(SHOPPER, (k,))
        self._first = Quantised(self._w, step.numpy(), np.zeros(k))
        weights, biases = _receive_layers(messages, SHOPPER, architecture)
        unused = torch.zeros(architecture.weight_shapes()[0], dtype=torch.float64)  # the first layer is in `_first`
        self._uploaded = Network(architecture, (unused, *weights), biases)
        self._squares = None
        if exact:
            units = [shape[0] for shape in architecture.shapes()[:-1]]
            self._squares = tuple(messages.receive(SHOPPER, (n,)) for n in units)
        self._side = self._started(None)

    def _started(self, how: Steps | None) -> CloudSide:
        rates = {"lr": how.lr, "momentum": how.momentum} if how else {"lr": 1.0}  # predicting takes no step
        return CloudSide(self._uploaded, self._squares if how else None, **rates)

    def products(self, key: FunctionKey, ciphertext: Ciphertext) -> Tensor:
        """Return the first layer's products (n, k1) of all rows.

        Raises InputError where a row cannot be evaluated, or its products are none of pixels in 0 .. 255.
        """
        found, evaluate = [], self._scheme.evaluator(key, self._w)
        for start in range(0, len(ciphertext), self._batch):
            products = evaluate(ciphertext.rows(slice(start, start + self._batch)))
            self._check_products(products, start)
            found.append(self._first.real(products))
        return torch.cat(found)

    def _check_products(self, products: np.ndarray, start: int) -> None:
        """Raise InputError unless all products (n, k1) lie between those of the darkest and the brightest pixels."""
        least, most = (PIXEL * side.sum(1) for side in (self._w.clip(max=0), self._w.clip(min=0)))
        wrong = np.argwhere((products < least) | (products > most))
        if len(wrong):
            row, unit = wrong[0]
            expected = f"{least[unit]}..{most[unit]}, which pixels of 0..{PIXEL} give"
            raise InputError("ciphertext", f"a product {products[row, unit]} in row {start + row}", expected)

    def predict(self, key: FunctionKey, ciphertext: Ciphertext) -> Tensor:
        """Send the shopper z~ of all rows, and return the products (n, k1) for retraining."""
        found = self.products(key, ciphertext)
        self.send_logits(found)
        return found

    def receive_products(self, rows: int) -> Tensor:
        """Receive the products (rows, k1) of the shopper's own rows."""
        width = len(self._w)
        return torch.cat([self._messages.receive(SHOPPER, (n, width)) for n in _parts(rows, self._batch)])

    def retrain(self, products: Tensor, how: Steps) -> None:
        """Retrain from the network that was uploaded, with the gradients that the shopper sends."""
        self._side = self._started(how)
        for index in batches(len(products), how.batch_size, how.steps, how.seed):
            self._messages.send(SHOPPER, self._side.forward(products[index]))
            self._side.backward(self._messages.receive(SHOPPER, (len(index), self._architecture.classes)))

    def send_logits(self, products: Tensor) -> None:
        """Send the shopper z~ of the present network."""
        for part in products.split(self._batch):
            self._messages.send(SHOPPER, self._side.forward(part))

    def network(self) -> Network:
        """Return the present masked network."""
        return self._side.network

    def send_network(self, network: Network) -> None:
        """Send the shopper all layers of a masked network but the first weights."""
        for values in (*network.weights[1:], *network.biases):
            self._messages.send(SHOPPER, values)


def receive_first(messages: Messages, architecture: Architecture) -> np.ndarray:
    """At the authority: receive the rows (k, d) int64 for which the shopper asks for keys."""
    k = math.prod(architecture.shapes()[0])
    return messages.receive(SHOPPER, (k, architecture.features), torch.int32).to(torch.int64).numpy()


def quantised_first(network: Network) -> Quantised:
    """Return the quantised first layer of an unmasked network, with which the baseline and `ife_shares` compute."""
    return quantise(first_matrix(network.to(torch.float64)), pixel=PIXEL)


def _receive_layers(messages: Messages, source: str, architecture: Architecture):
    """Receive the weights of all layers but the first, and all biases."""
    shapes = architecture.weight_shapes()
    weights = tuple(messages.receive(source, shape) for shape in shapes[1:])
    return weights, tuple(messages.receive(source, shape[:1]) for shape in shapes)


def _parts(rows: int, batch: int) -> Iterator[int]:
    return (min(batch, rows - start) for start in range(0, rows, batch))
