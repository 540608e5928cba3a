"""What every appraisal method states about itself, and its plaintext run.

A method has two halves. `prepare` runs in the clear in the model owner's process and gives tensors that stay the model
owner's. `score` is the formula: it is written once and runs on plain float64 tensors (the baseline) and on secret
tensors (the product), so it uses only what both have: matmul, t, + and -, secret * secret, secret * float,
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
    """Public sizes, known to all parties before anything is shared."""

    features: int  # d, without the bias
    classes: int  # C
    train_rows: int  # |D_tr|; 0 when the model owner brings a trained model only
    test_rows: int  # |D_te|; 0 when there is none
    rows: int  # |D_a| of the candidate
    l2: float  # of the model's objective
    row_norm: float = 1.0  # no row of D_a, its constant feature included, is longer; told between owners
    longest: float = 1.0  # no row of either owner is longer
    logit_bound: float = 0.0  # public, on centred logits
    spread: float | None = None  # of the influence direction, where noise is scaled to it; told by the model owner

    @staticmethod
    def of(model: SoftmaxRegression, train: Dataset | None, test: Dataset | None, candidate: Dataset) -> Facts:
        rows = [0 if data is None else data.rows for data in (train, test)]
        return Facts(model.features, model.classes, *rows, candidate.rows, model.l2)


class Appraiser(ABC):
    """One appraisal method."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]  # of "train", "test": what the model owner must have beside the model
    opens: ClassVar[str]  # in plain words, the one number that is opened
    streams: ClassVar[bool] = True  # whether one pass over blocks of rows is enough; if not, x and y are held whole
    rising: ClassVar[bool] = False  # whether a larger opened number is a higher value
    incomparable: ClassVar[str] = ""  # why it can be released as a value alone; empty where it can otherwise too
    logit_growth: ClassVar[float] = 1.0  # above 1 for a method that trains: how far it may raise the bound on logits

    @abstractmethod
    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        """Names and public shapes of what the model owner contributes, in order."""

    @abstractmethod
    def prepare(self, model: SoftmaxRegression, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        """Plaintext, in the model owner's process: float64 tensors with the keys and shapes of private_shapes."""

    @abstractmethod
    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        """The formula on plain or secret tensors; x (n, d + 1) with the constant feature, y (n, C) one-hot -> ()."""

    def reach(self, norm: float, facts: Facts) -> float:
        """For a method that trains: the largest norm of a class's centred weights after a step from one of `norm`.

        It is what makes the private check of the logits' bound sure; see `logit_check`.
        """
        return math.inf

    def summed_rows(self, facts: Facts) -> int:
        """How many rows' gradients are added up before they are divided; the ring must hold their sum."""
        return facts.rows

    def opened_at(self, value: float, facts: Facts) -> float:
        """The number that is opened where `value` is the result: what a threshold or a range of values is compared at.

        Raises InputError for a method that does not state it: of such a method only the value itself can be released.
        """
        raise InputError("release", f"a comparison of {self.name}", f"release=value: {self.name} has no opened_at")

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        """From `score` of a candidate, plain or secret, what can be compared with that of candidates of other sizes."""
        raise InputError("release", f"a comparison of {self.name}", f"release=value: {self.name} has no comparable")

    @abstractmethod
    def paper_value(self, opened: float, facts: Facts) -> float:
        """The equation's raw number from the opened one."""

    def value(self, opened: float, facts: Facts) -> float:
        """Higher is better data for this buyer; the paper's numbers are the lower the better."""
        return 0.0 - self.paper_value(opened, facts)  # never -0.0

    def require(self, train: Dataset | None, test: Dataset | None) -> None:
        """Raises InputError that names what the method needs and the model owner lacks."""
        for key, data, what in (("train", train, "a training set"), ("test", test, "a test set")):
            if key in self.needs and data is None:
                raise InputError(f"party.{key}", "nothing", f"{what}, which the method {self.name} needs")


def summed_gradient(weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The sum over rows of grad L: X' (softmax(X W) - Y), (d + 1, C); block by block where the rows come so.

    Written as (R' X)' rather than X' R: the same numbers, and several times faster on int64 shares.
    """
    total = None
    for rows, labels in blocks(x, y):
        term = (rows.matmul(weights).softmax(1) - labels).t().matmul(rows).t()
        total = term if total is None else total + term
    return total


def centred(theta: torch.Tensor) -> torch.Tensor:
    """Weights (d + 1, C) less their mean over the classes: no softmax, gradient or step of training sees a difference.

    Logits then sum to zero over the classes, but for rounding, which fixed point counts on where it takes their mean.
    A regulariser, 2 l2 theta at each step, shrinks the mean that is left out and does nothing else to it.
    """
    return theta - theta.mean(1, keepdim=True)


def scaled(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """tensor * factor for a public factor > 0, without the loss that 16 fractional bits mean for a small factor.

    1e-6 is 0 in 16 bits. A small factor is therefore split as m / 2^k with m in [1, 2): the division by a public power
    of two is exact in itself, and m keeps 16 bits of its own.
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
    """(value, paper_value) of one candidate in float64 and in the clear: the baseline of the private run."""
    appraiser.require(train, test)
    facts = Facts.of(model, train, test, candidate)
    x = with_bias(candidate.x.to(torch.float64))
    opened = appraiser.score(appraiser.prepare(model, train, test), x, candidate.one_hot(), facts).item()
    return appraiser.value(opened, facts), appraiser.paper_value(opened, facts)
