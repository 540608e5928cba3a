"""What goes into a computation of `ife_shares`, and what comes out.

`SharesPlan` is public. `Shopper` and `Cloud` are the private sides; each is read by its owner alone, and `check`
compares a side with the plan before anything is shared. `OpenedResults` is what the shopper gets. In the shapes, n is a
number of rows, d of pixels, k of first-layer outputs and C of classes; w (k, d) is the quantised first layer, and a
share is an integer mod 2^64 that gives the shared number when it is added to the other role's share.

A field with a default may be added to the plan, together with its check. Both sides have to give shares of the same
number: what `Shopper.share` subtracts for the centre, `Shopper.bias` adds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mpc_appraisal.common.checks import integer, one_of
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.marketplace.encryption.lwe import FRACTION_BITS, LWE
from mpc_appraisal.marketplace.encryption.scheme import PIXEL, Ciphertext, FunctionKey
from mpc_appraisal.marketplace.protocols.quantised import Quantised
from mpc_appraisal.models.networks import Architecture, Conv, Network, first_bias
from mpc_appraisal.models.secret_layers import activated

# The largest |<W, x - 1/2>| and the largest first bias: their sum with 48 fractional bits stays below 2^62.
LARGEST = 2.0**12
OPENS = ("logits", "errors")


@dataclass(frozen=True)
class Training:
    """Retraining by SGD on all layers but the first.

    Attributes:
        rows: the numbers of the ciphertexts to train on, which are public.
        batches: for each step, the places of its rows in 0 .. len(rows) + own - 1.
        lr: the learning rate.
        own: the number of the shopper's own rows, which follow the ciphertexts.

    Raises InputError for batches that are empty or out of range, and for a rate that is not above 0.
    """

    rows: tuple[int, ...]
    batches: tuple[tuple[int, ...], ...]
    lr: float
    own: int = 0

    def __post_init__(self) -> None:
        if not self.batches or not all(self.batches):
            raise InputError("training.batches", self.batches, "one step or more, one row or more in each")
        places = {place for batch in self.batches for place in batch}
        if min(places) < 0 or max(places) >= len(self.rows) + self.own:
            raise InputError("training.batches", f"places {min(places)} .. {max(places)}", "places of the rows given")
        if not math.isfinite(self.lr) or self.lr <= 0:
            raise InputError("training.lr", self.lr, "a finite number above 0")


@dataclass(frozen=True)
class SharesPlan:
    """What all roles know of one session.

    Attributes:
        architecture: the architecture of the network.
        predicted: the numbers of the ciphertexts whose logits the shopper gets, from the retrained network where there
            is a training.
        training: the retraining; None for none.
        validation: the number of the shopper's rows, in the clear at the shopper, that the retrained network predicts.
        opens: what is opened of a validation, 'logits', or 'errors' for the number of wrong predictions alone.
        batch: the number of images that are computed together.
        scheme: the lattice scheme of the ciphertexts.

    Raises InputError for a field that is out of range, and for a plan that computes nothing.
    """

    architecture: Architecture
    predicted: tuple[int, ...] = ()
    training: Training | None = None
    validation: int = 0
    opens: str = "logits"
    batch: int = 64
    scheme: LWE = LWE()

    def __post_init__(self) -> None:
        one_of("opens", self.opens, OPENS)
        integer("batch", self.batch, 1)
        integer("validation", self.validation, 0)
        if self.validation and self.training is None:
            raise InputError("validation", self.validation, "0: the shopper can evaluate its own network alone")
        if not self.predicted and not self.validation:
            raise InputError("predicted", self.predicted, "one row or more, or validation rows")

    @property
    def outputs(self) -> int:
        """Return the number k of rows of the first layer's matrix."""
        return math.prod(self.architecture.shapes()[0])

    @property
    def classes(self) -> int:
        """Return the number C of classes."""
        return self.architecture.classes


@dataclass(frozen=True, eq=False)
class Shopper:
    """What the shopper brings.

    Attributes:
        network: the shopper's network.
        quantised: its quantised first layer.
        images: the encrypted images, of which the headers are not read.
        labels: the encrypted labels, of which the headers are not read; None where nothing is trained.
        x: the shopper's own rows, (own + validation, d) integers 0 .. 255: first those to train on, then those to
            validate on.
        y: the labels of x.

    Raises InputError for a quantised layer that does not fit the network, and for outputs that may exceed LARGEST.
    """

    network: Network
    quantised: Quantised
    images: Ciphertext
    labels: Ciphertext | None = None
    x: Tensor | None = None
    y: Tensor | None = None

    def __post_init__(self) -> None:
        rows = math.prod(self.network.architecture.shapes()[0])
        if self.quantised.w.shape != (rows, self.network.architecture.features):
            raise InputError("quantised", f"a first matrix of shape {self.quantised.w.shape}", f"{rows} rows")
        if self.quantised.pixel != PIXEL:
            raise InputError("quantised", f"quantised for pixels up to {self.quantised.pixel}", f"up to {PIXEL}")
        size = self.quantised.step * np.abs(self.quantised.w).sum(1) / 2
        bias = self.bias
        if max(size.max(), float(bias.abs().max())) > LARGEST:
            raise InputError("network", f"first-layer outputs up to {size.max():g}", f"at most {LARGEST:g}")

    @property
    def bias(self) -> Tensor:
        """Return the first layer's bias plus <w, 255/2> step / 255, (1, k) float64."""
        centre = torch.from_numpy(self.quantised.w.sum(1) * self.quantised.step / 2)
        return (first_bias(self.network).to(torch.float64) + centre)[None]

    def share(self, scheme: LWE, rows: Sequence[int]) -> Tensor:
        """Return this side's share of 2^39 <w, x - 255/2>, (n, k) int64 modulo 2^64."""
        w = self.quantised.w
        centre = (w.sum(1) * PIXEL) << (FRACTION_BITS - 1)
        return torch.from_numpy(scheme.shopper_share(w, self.images.rows(list(rows))) - centre)

    def label_share(self, scheme: LWE, rows: Sequence[int], classes: int) -> Tensor:
        """Return this side's share of the one-hot labels, (n, C) int64 modulo 2^64."""
        return torch.from_numpy(scheme.shopper_share(label_rows(classes), self.labels.rows(list(rows))).copy())

    def activation(self, rows: slice) -> Tensor:
        """Return the first layer's activation of own rows, float64, in the shape that the next layer takes."""
        architecture = self.network.architecture
        z = self.quantised.real(self.x[rows].numpy() @ self.quantised.w.T) + first_bias(self.network)
        return flat(architecture, activated(architecture.layers[0], shaped(architecture, z))[0])

    def one_hot(self, rows: slice) -> Tensor:
        """Return the labels of own rows as one-hot vectors, (n, C) float64."""
        return torch.from_numpy(one_hot(self.y[rows].numpy(), self.network.architecture.classes)).to(torch.float64)


@dataclass(frozen=True, eq=False)
class Cloud:
    """What the cloud brings.

    Attributes:
        key: the function key of the first layer.
        seeds: the headers of the encrypted images, (n, 32) uint8, which are public seeds.
        label_key: the function key of labels; None where nothing is trained.
        label_seeds: the headers of the encrypted labels, (n, 32) uint8; None where nothing is trained.
    """

    key: FunctionKey
    seeds: np.ndarray
    label_key: FunctionKey | None = None
    label_seeds: np.ndarray | None = None

    def share(self, scheme: LWE, rows: Sequence[int]) -> Tensor:
        """Return this side's share of 2^39 <w, x>, (n, k) int64 modulo 2^64."""
        return torch.from_numpy(scheme.cloud_share(self.key, self.seeds[list(rows)]))

    def label_share(self, scheme: LWE, rows: Sequence[int]) -> Tensor:
        """Return this side's share of the one-hot labels, (n, C) int64 modulo 2^64."""
        return torch.from_numpy(scheme.cloud_share(self.label_key, self.label_seeds[list(rows)]))


@dataclass(frozen=True)
class OpenedResults:
    """What a session opened to the shopper. A field is None at every other role, and where it was not asked for.

    Attributes:
        predicted: the logits of the plan's `predicted` rows, (n, C) float64.
        validation: the logits of the validation rows, (n, C) float64.
        errors: the number of wrong predictions on the validation rows.
    """

    predicted: Tensor | None = None
    validation: Tensor | None = None
    errors: int | None = None


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    """Turn labels (n,) into what a seller encrypts under a master key of dimension `classes`, (n, classes) int64.

    Raises InputError for labels outside 0 .. classes - 1.
    """
    y = np.asarray(y)
    if y.ndim != 1 or (len(y) and not (y.min() >= 0 and y.max() < classes)):
        raise InputError("labels", y.shape, f"a vector of labels 0 .. {classes - 1}")
    return np.eye(classes, dtype=np.int64)[y]


def label_rows(classes: int) -> np.ndarray:
    """Return the rows for which the authority issues the cloud's key of labels, (classes, classes) int64."""
    return np.eye(classes, dtype=np.int64)


def check(plan: SharesPlan, shopper: Shopper | None, cloud: Cloud | None) -> None:
    """Raise InputError where a side does not fit the plan. This happens before anything is shared.

    A role passes its own side and None for the other; with None for both, nothing is checked.
    """
    training = plan.training
    used = (*plan.predicted, *(training.rows if training else ()))
    sealed = max((*(training.rows if training else ()), -1))
    for name, side, images, labels in (
        ("images", shopper, shopper and shopper.images, shopper and shopper.labels),
        ("seeds", cloud, cloud and cloud.seeds, cloud and cloud.label_seeds),
    ):
        if side is None:
            continue
        if used and (min(used) < 0 or max(used) >= len(images)):
            raise InputError(name, f"{len(images)} rows", f"rows {min(used)} .. {max(used)}, which the plan uses")
        if sealed >= 0 and (labels is None or len(labels) <= sealed):
            raise InputError(name, "labels that are missing", f"encrypted labels of rows up to {sealed}")
    if cloud is not None and len(cloud.key) != plan.outputs:
        raise InputError("key", f"keys of {len(cloud.key)} rows", f"{plan.outputs}, the first layer's outputs")
    if cloud is not None and sealed >= 0 and (cloud.label_key is None or len(cloud.label_key) != plan.classes):
        raise InputError("label_key", "no such key", f"the key of {plan.classes} label rows")
    if shopper is None:
        return
    if shopper.network.architecture != plan.architecture:
        raise InputError("network", shopper.network.architecture.name, f"architecture {plan.architecture}")
    own = plan.validation + (training.own if training else 0)
    if own and (shopper.x is None or shopper.y is None or len(shopper.x) != own or len(shopper.y) != own):
        raise InputError("x", "own rows", f"{own} rows and labels: for training, then for validation")


def shaped(architecture: Architecture, z: Tensor) -> Tensor:
    """Shape first-layer outputs z (n, k): (n, channels, height, width) for a convolution, (n, k) for a matrix."""
    return z.reshape(len(z), *architecture.shapes()[0])


def flat(architecture: Architecture, a: Tensor) -> Tensor:
    """Shape activations `a` as the second layer takes them: images for a convolution, rows for a matrix."""
    return a if isinstance(architecture.layers[1], Conv) else a.flatten(1)


def activation_shape(architecture: Architecture, count: int) -> tuple[int, ...]:
    """Return the shape of `count` first-layer activations as the second layer takes them."""
    first, shape = architecture.layers[0], architecture.shapes()[0]
    if isinstance(first, Conv):
        shape = (shape[0], *(side // first.pool for side in shape[1:]))
    return (count, *shape) if isinstance(architecture.layers[1], Conv) else (count, math.prod(shape))
