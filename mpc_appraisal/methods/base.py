"""What every appraisal method states about itself, and its plaintext run.

A method has two halves. `prepare` runs in the clear in the model owner's process, and the tensors that it returns stay
the model owner's. `score` is the formula. It is written once and runs on plain float64 tensors (the baseline) and on
secret tensors (the product), so it uses only what both have: matmul, t, + and -, secret * secret, secret * float,
secret / float, sum() and sum(1), square, softmax(1), log_softmax(1) and rows picked by a LongTensor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.mpc.ops import blocks


@dataclass(frozen=True)
class Facts:
    """Public sizes and norms, which all parties know before anything is shared.

    Attributes:
        features: d, the number of features without the bias.
        classes: C, the number of classes.
        train_rows: `|D_tr|`; 0 where the model owner brings a trained model only.
        test_rows: `|D_te|`; 0 where the model owner has no test set.
        rows: `|D_a|`, the number of the candidate's rows.
        l2: The strength of the regulariser in the model's objective.
        row_norm: No row of D_a, its constant feature included, is longer; the data owner announces it.
        longest: No row of either owner is longer.
        logit_bound: No centred logit is larger in size.
        spread: A bound on the influence direction, which the model owner announces where noise is scaled to it.
    """

    features: int
    classes: int
    train_rows: int
    test_rows: int
    rows: int
    l2: float
    row_norm: float = 1.0
    longest: float = 1.0
    logit_bound: float = 0.0
    spread: float | None = None

    @staticmethod
    def of(model: SoftmaxRegression, train: Dataset | None, test: Dataset | None, candidate: Dataset) -> Facts:
        """The sizes of one appraisal; its norms keep their defaults."""
        rows = [0 if data is None else data.rows for data in (train, test)]
        return Facts(model.features, model.classes, *rows, candidate.rows, model.l2)


class Appraiser(ABC):
    """One appraisal method.

    Attributes:
        name: The method's name in configurations and records.
        needs: What the model owner must have beside the model: a subset of "train" and "test".
        opens: A description of the one number that is opened, in plain words.
        streams: Whether one pass over blocks of rows is enough; otherwise x and y are kept whole.
        rising: Whether a larger opened number is a higher value.
        incomparable: Why the method can be released as a value only; empty where other releases can have it too.
        logit_growth: By what factor the method's training may raise the bound on logits; 1 for no training.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    opens: ClassVar[str]
    streams: ClassVar[bool] = True
    rising: ClassVar[bool] = False
    incomparable: ClassVar[str] = ""
    logit_growth: ClassVar[float] = 1.0

    @abstractmethod
    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        """The names and public shapes of the tensors that the model owner contributes, in order."""

    @abstractmethod
    def prepare(self, model: SoftmaxRegression, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        """The model owner's float64 tensors, with the names and shapes of `private_shapes`, computed in the clear."""

    @abstractmethod
    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        """The formula on plain or secret tensors: a scalar from the candidate's rows.

        owned: the tensors of `prepare`. x: (n, d + 1), with the constant feature. y: (n, C), one-hot.
        """

    def reach(self, norm: float, facts: Facts) -> float:
        """The largest norm that a class's centred weights can have after one step of training from weights of `norm`.

        A method that trains states it. It makes the private check of the logits' bound sure; see `logit_check`.
        """
        return math.inf

    def summed_rows(self, facts: Facts) -> int:
        """The number of rows whose gradients are summed before a division; the ring must have room for the sum."""
        return facts.rows

    def opened_at(self, value: float, facts: Facts) -> float:
        """The number that would be opened if the result were `value`, so that thresholds can be compared with it.

        Raises InputError for a method that does not state it: such a method can only release the value itself.
        """
        raise InputError("release", f"a comparison of {self.name}", f"release=value: {self.name} has no opened_at")

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        """A number from a candidate's `score`, plain or secret, that compares with those of candidates of other sizes.

        Raises InputError for a method that does not state it.
        """
        raise InputError("release", f"a comparison of {self.name}", f"release=value: {self.name} has no comparable")

    @abstractmethod
    def paper_value(self, opened: float, facts: Facts) -> float:
        """The number of the published equation, from the opened one."""

    def value(self, opened: float, facts: Facts) -> float:
        """The value, from the opened number: higher is better data for this model owner.

        The published numbers are lower for better data.
        """
        return 0.0 - self.paper_value(opened, facts)  # never -0.0

    def require(self, train: Dataset | None, test: Dataset | None) -> None:
        """Raises InputError that names the data set which the method needs and the model owner lacks."""
        for key, data, what in (("train", train, "a training set"), ("test", test, "a test set")):
            if key in self.needs and data is None:
                raise InputError(f"party.{key}", "nothing", f"{what}, which the method {self.name} needs")


def summed_gradient(weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The sum over rows of grad L, X' (softmax(X W) - Y), of shape (d + 1, C).

    Rows that come in blocks are taken block by block. (R' X)' gives the same numbers as X' R, several times faster on
    int64 shares.
    """
    total = None
    for rows, labels in blocks(x, y):
        term = (rows.matmul(weights).softmax(1) - labels).t().matmul(rows).t()
        total = term if total is None else total + term
    return total


def centred(theta: torch.Tensor) -> torch.Tensor:
    """Weights (d + 1, C) less their mean over the classes, which changes no softmax, gradient or step of training.

    Apart from rounding, logits then sum to zero over the classes, on which fixed point relies where it takes their
    mean. A regulariser, 2 l2 theta at each step, shrinks the mean that is left out and has no other effect on it.
    """
    return theta - theta.mean(1, keepdim=True)


def scaled(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """tensor * factor for a public factor > 0, without the loss of precision that a small factor suffers in 16 bits.

    In 16 fractional bits 1e-6 is 0. A small factor is therefore split as m / 2^k with m in [1, 2): the division by a
    public power of two is exact, and m keeps 16 bits of its own.
    """
    if factor >= 1.0:
        return tensor if factor == 1.0 else tensor * float(factor)
    k = 1 - math.frexp(factor)[1]
    tensor = tensor / float(2**k)
    m = math.ldexp(factor, k)
    return tensor if m == 1.0 else tensor * m


def plaintext(
    appraiser: Appraiser, model: SoftmaxRegression, train: Dataset | None, test: Dataset | None, candidate: Dataset
) -> tuple[float, float]:
    """(value, paper_value) of one candidate in float64 and in the clear: the baseline of the private run.

    Raises InputError where the model owner lacks a data set that the method needs.
    """
    appraiser.require(train, test)
    facts = Facts.of(model, train, test, candidate)
    x = with_bias(candidate.x.to(torch.float64))
    opened = appraiser.score(appraiser.prepare(model, train, test), x, candidate.one_hot(), facts).item()
    return appraiser.value(opened, facts), appraiser.paper_value(opened, facts)
