"""The views that protocols leave, from which attacks begin: of private learning, the marketplace and appraisals.

A view is made from the computation in the clear, which takes the same steps as the private one: it holds what a party
of the protocol is shown, and beside it the private rows, by which an attack is measured. So no view may be stored or
sent.
A field may be added with a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mpc_appraisal.data import Dataset
from mpc_appraisal.models.secret_layers import Layer
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.transformations.rtas_layers import Model


@dataclass(frozen=True, eq=False)
class HelperView:
    """What a helper is shown that computes functions of permuted values.

    Attributes:
        hidden: How the order is hidden: 'entries' for functions of elements, 'columns' for a softmax of rows.
        logits: A function from rows (n, d) to the values (n, C) that go to the helper, with the trained model.
        sights: A function that returns the values of each training row when it is used, (epochs, n, C).
        train: The private rows.
        test: Rows that are not among them; the helper may have such rows of its own.
    """

    hidden: str
    logits: Callable[[Tensor], Tensor]
    sights: Callable[[], Tensor]
    train: Dataset
    test: Dataset


@dataclass(frozen=True, eq=False)
class FirstLayerView:
    """What a label owner is shown that gets the first layer's outputs row by row.

    Attributes:
        model: The network.
        layer: The first layer as it was trained, which the label owner does not know.
        train: The private rows.
        test: Rows of the same kind that the label owner has.
    """

    model: Model
    layer: Layer
    train: Dataset
    test: Dataset


@dataclass(frozen=True, eq=False)
class FloatSharesView:
    """What an owner is shown that receives shares in floating point.

    Attributes:
        train: The private rows.
        deviation: The standard deviation of masks.
        sharings: How often each row is shared or masked anew in the run.
    """

    train: Dataset
    deviation: float
    sharings: int


@dataclass(frozen=True, eq=False)
class CloudView:
    """What the cloud of the marketplace is shown under `ife_transform`.

    Attributes:
        layer: The first layer as it is evaluated, integers (k, d).
        images: Sellers' images, integers (n, d) in 0 .. 255, which are private.
        masked: A function from images (n, d) in [0, 1] to the masked logits (n, C), which the cloud computes itself.
        own: A function from such images to the classes (n,) that the shopper's network says.
        known: Labelled rows of the same kind, which the cloud may have.
        test: Rows on which the copy of the network is compared with it.
    """

    layer: np.ndarray
    images: np.ndarray
    masked: Callable[[Tensor], Tensor]
    own: Callable[[Tensor], Tensor]
    known: Dataset
    test: Dataset


@dataclass(frozen=True, eq=False)
class NoisedAnswers:
    """What a data owner is told of the squared gradient norm under noise, once it has taken its own noise off.

    Attributes:
        answer: A function from one row and a number of copies of it to the square of the norm of these copies, with the
            model owner's noise.
        deviation: A function from a number of copies to the standard deviation of that noise.
        most: The largest number of copies that the release can tell of.
    """

    answer: Callable[[Dataset, int], float]
    deviation: Callable[[int], float]
    most: int


@dataclass(frozen=True, eq=False)
class AnswersView:
    """What a data owner is told that chooses the rows which are appraised by the gradient norm.

    Attributes:
        answer: A function from a data set to what is opened of it to the data owner: its value, or whether its value
            reaches the model owner's threshold.
        bits: Whether the answers are bits.
        model: The model owner's model, which is private.
        known: Rows of the data owner.
        test: Rows on which a copy of the model is compared with it.
        noised: What is told in place of `answer` where values have noise; None where they have none. Bits of noised
            values are told by `answer`.
        least: The smallest number of rows that is not refused.
    """

    answer: Callable[[Dataset], float | bool]
    bits: bool
    model: SoftmaxRegression
    known: Dataset
    test: Dataset
    noised: NoisedAnswers | None = None
    least: int = 1


@dataclass(frozen=True, eq=False)
class OffersView:
    """What sellers have that choose which rows they offer, and the values that these rows then get.

    Attributes:
        valued: For each method by its name, a function from a data set to its value for the buyer, in the clear.
        candidates: The data sets on offer, one for each seller.
        own: The buyer's rows, whose range and longest row bound what it admits.
        l2: The strength of the buyer's regulariser, which is public.
    """

    valued: Mapping[str, Callable[[Dataset], float]]
    candidates: tuple[Dataset, ...]
    own: Dataset
    l2: float


@dataclass(frozen=True, eq=False)
class MaskedProductView:
    """What a data owner has whose rows are multiplied by the model owner's weights on shares that masks hide.

    Attributes:
        x: The rows with the constant feature, (n, d + 1), which the data owner knows.
        weights: The model owner's weights (d + 1, C), which are private.
    """

    x: Tensor
    weights: Tensor
