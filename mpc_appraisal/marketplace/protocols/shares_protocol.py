"""`ife_shares`: predictions and retraining on encrypted images, where the first layer's output continues as shares.

    v = c W' + (-a sk) = 2^39 <w, x> + noise   (mod 2^64)      c W' at the shopper, -a sk at the cloud: already shares
    z_1 = (<w, x> - <w, 255/2>) s + (b + <w, 255/2> s),   s = step / 255,    then ReLU and the other layers on shares

The shopper has W, the quantised first layer with rows w, its bias b and its steps, and the bodies c of the ciphertexts
of rows x; the cloud has the function key sk = S W' for the seller's secret S, and the public seeds of a, see
`encryption.lwe`. W x takes neither a message nor a triple, and nobody sees it. The centre <w, 255/2> moves from the
shopper's share to the bias, so that `|v| < 2^62` and the truncation is exact. Labels are one-hot vectors, of which the
same sum gives shares.

In go a `SharesPlan` and this role's side; out come `OpenedResults`. The selected rows are public. Images, labels,
first-layer outputs, hidden values and retrained weights stay shared; LEAKAGE states what does not, and has to be
changed with whatever is opened. Both roles have to make the same calls in the same order. docs/protocols/marketplace.md
has the bounds and the measured error. The protocol is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from mpc_appraisal.marketplace.encryption.lwe import FRACTION_BITS
from mpc_appraisal.marketplace.encryption.scheme import PIXEL
from mpc_appraisal.marketplace.protocols.shares_plan import (
    Cloud,
    OpenedResults,
    SharesPlan,
    Shopper,
    activation_shape,
    check,
    flat,
    shaped,
)
from mpc_appraisal.marketplace.roles import CLOUD, SHOPPER
from mpc_appraisal.models.secret_layers import (
    BITS,
    REACH,
    Layer,
    activated,
    bilinear,
    errors,
    forward,
    moved,
    rounded,
    sgd,
)
from mpc_appraisal.mpc import ops
from mpc_appraisal.mpc.session import Session

# Fractional bits of <w, x> in the product with its step; `ops.high_precision` takes 40 bits of 2^4 times the step.
Z_BITS = 4

LEAKAGE = (
    "The shopper learns the logits of the images that are predicted and, after retraining, the logits of its own "
    "validation images or the number of errors on them. Logits reveal something of an image to whoever knows the "
    "model, and logits of chosen images reveal much of retrained weights; a number of errors reveals little. "
    "The cloud learns nothing of images or labels. Of the model it learns linear relations among the rows of W (a row "
    "of zeros, equal rows), also between runs with one seller, because the same relations hold among function keys. It "
    "knows the architecture, the learning rate, how many rows there are, which ciphertexts are used (so which were "
    "selected), and the batches in order. "
    "The authority learns the quantised first layer W, from the request for keys, and the shapes of all that is "
    "computed. Sellers learn nothing; they are offline. "
    "Shopper and cloud together have <w, x> for every row of W, so x itself where W has as many independent rows as an "
    "image has pixels, and every label. "
    "Authority and shopper together have every image and label, because the authority has S and the shopper c. "
    "Authority and cloud together have the model and every first-layer output, from which pixels follow, because the "
    "authority deals the masks under which the cloud sees them. "
    "All of this holds against parties that follow the protocol; nothing reveals that a result was tampered with."
)


def run_shares(
    session: Session, plan: SharesPlan, shopper: Shopper | None = None, cloud: Cloud | None = None
) -> OpenedResults:
    """Run one session: predict, or retrain and validate, as the plan says.

    A purchase takes two kinds of sessions. The first kind has a plan that predicts all rows, after which the shopper
    selects rows and announces them. Each later session has a plan that trains on some of these rows and predicts the
    validation rows.

    Args:
        session: the session of the engine.
        plan: the public plan.
        shopper, cloud: this role's own side. A plain session, which is the baseline, is given both; a dry run neither.

    Returns what was opened to this role. Raises InputError where a side does not fit the plan.
    """
    check(plan, shopper, cloud)
    inputs = _Inputs(session, plan, shopper, cloud)
    layers = inputs.layers()
    if plan.training is not None:
        layers = _retrained(session, plan, layers, inputs)
    predicted = [
        session.reveal(
            rounded(forward(plan.architecture, layers, inputs.activation(rows)).logits, BITS),
            "logits of encrypted images",
            "the shopper selects by them",
            to=(SHOPPER,),
        )
        for rows in _chunks(plan.predicted, plan.batch)
    ]
    validation, wrong = _validated(session, plan, layers, inputs) if plan.validation else (None, None)
    if session.role == CLOUD:
        return OpenedResults()
    return OpenedResults(torch.cat(predicted) if predicted else None, validation, wrong)


class _Inputs:
    """The shared numbers that come into a session from either side."""

    def __init__(self, session: Session, plan: SharesPlan, shopper: Shopper | None, cloud: Cloud | None):
        self.session, self.plan, self.shopper, self.cloud = session, plan, shopper, cloud
        width = plan.outputs
        self.step = self._private(
            lambda: torch.from_numpy(shopper.quantised.step)[None] / PIXEL * 2.0**Z_BITS, (1, width), "step"
        )
        self.bias = self._private(lambda: shopper.bias, (1, width), "first bias")

    def _private(self, read: Callable[[], torch.Tensor], shape: Sequence[int], name: str) -> Any:
        return self.session.input(SHOPPER, read, shape, f"{name} of party.model")

    def layers(self) -> list[Layer]:
        """Share all of the shopper's layers but the first."""
        found = []
        for place, shape in enumerate(self.plan.architecture.weight_shapes()[1:], 1):
            weight = self._private(lambda k=place: self.shopper.network.weights[k], shape, f"weight {place}")
            bias = self._private(lambda k=place: self.shopper.network.biases[k][None], (1, shape[0]), f"bias {place}")
            found.append(Layer(weight, bias))
        return found

    def activation(self, rows: Sequence[int]) -> Any:
        """Compute the first layer's activation of encrypted images, in the shape that the next layer takes."""
        plan, scheme = self.plan, self.plan.scheme
        v = self.session.adopt(
            {
                SHOPPER: lambda: self.shopper.share(scheme, rows),
                CLOUD: lambda: self.cloud.share(scheme, rows),
            },
            (len(rows), plan.outputs),
            FRACTION_BITS,
            "first-layer products",
        )
        z = bilinear(rounded(v, Z_BITS), "mul", ops.high_precision(self.step)) / 2.0**Z_BITS + ops.high_precision(
            self.bias
        )
        first = plan.architecture.layers[0]
        z = moved(z, lambda t: shaped(plan.architecture, t))
        return moved(activated(first, z)[0], lambda t: flat(plan.architecture, t))

    def labels(self, rows: Sequence[int]) -> Any:
        """Return the one-hot labels of encrypted rows, (n, C)."""
        scheme, classes = self.plan.scheme, self.plan.architecture.classes
        return self.session.adopt(
            {
                SHOPPER: lambda: self.shopper.label_share(scheme, rows, classes),
                CLOUD: lambda: self.cloud.label_share(scheme, rows),
            },
            (len(rows), classes),
            FRACTION_BITS,
            "labels",
        )

    def own(self, start: int, count: int) -> tuple[Any, Any]:
        """Share `count` of the shopper's own rows from `start` on, and return their activations and one-hot labels."""
        rows, architecture = slice(start, start + count), self.plan.architecture
        shape = activation_shape(architecture, count)
        a = self._private(lambda: self.shopper.activation(rows), shape, "own rows")
        y = self._private(lambda: self.shopper.one_hot(rows), (count, architecture.classes), "own labels")
        return a, y


def _retrained(session: Session, plan: SharesPlan, layers: list[Layer], inputs: _Inputs) -> list[Layer]:
    training = plan.training
    session.bound_logits(REACH)
    a = [inputs.activation(rows) for rows in _chunks(training.rows, plan.batch)]
    y = [inputs.labels(rows) for rows in _chunks(training.rows, plan.batch)]
    if training.own:
        own_a, own_y = inputs.own(0, training.own)
        a, y = [*a, rounded(own_a, BITS)], [*y, rounded(own_y, BITS)]
    return sgd(plan.architecture, layers, ops.cat(a), ops.cat(y), training.batches, training.lr)


def _validated(session: Session, plan: SharesPlan, layers: list[Layer], inputs: _Inputs) -> tuple[Any, Any]:
    """Open the logits of the validation rows, or the number of errors on them. Returns both, one of which is None."""
    start, parts = plan.training.own, []
    why = "the shopper's verdict on the retrained network"
    for rows in _chunks(range(start, start + plan.validation), plan.batch):
        a, y = inputs.own(rows[0], len(rows))
        z = forward(plan.architecture, layers, a).logits
        parts.append(rounded(z, BITS) if plan.opens == "logits" else errors(z, y).reshape(1))
    if plan.opens == "logits":
        return session.reveal(ops.cat(parts), "logits of validation rows", why, to=(SHOPPER,)), None
    total = session.reveal(ops.cat(parts).sum(), "errors on validation rows", why, to=(SHOPPER,))
    return None, None if total is None else round(total.item())


def _chunks(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
