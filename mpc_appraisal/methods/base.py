"""What every appraisal method states about itself, and its plaintext run.

A method has two halves. `prepare` runs in the clear in the model owner's process; in go the model and the model owner's
data, and out come tensors that stay the model owner's. `score` is the formula; in go these tensors and the candidate's
rows, and out comes one number, which the run opens, that is, makes known. `paper_value` and `value` are public
arithmetic on the opened number.

`score` is written once and runs on plain float64 tensors (the baseline) and on secret tensors, which are shared between
the two owners (the product). So it may use only what both have: matmul, t, + and -, secret * secret, secret * float,
secret / float, sum() and sum(1), square, softmax(1), log_softmax(1) and rows picked by a LongTensor.

In this file D_tr and D_te are the model owner's training and test rows, and D_a is the candidate. d is the number of
features, C that of classes, and theta (d + 1, k) are the weights, with the bias as the last row: k is C for softmax
regression and 1 for linear and logistic regression. New optional
attributes may be added. The names of the attributes and methods have to stay, since sessions and releases call them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, Resolution, with_bias
from mpc_appraisal.methods.metrics import Measure
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import LINKS, SOFTMAX, Link
from mpc_appraisal.mpc.ops import blocks


@dataclass(frozen=True)
class Facts:
    """Hold the public sizes and norms, which all parties know before anything is shared.

    Attributes:
        features: d, the number of features without the bias.
        classes: C, the number of classes; 1 where the target is a number.
        train_rows: The number of rows of D_tr; 0 where the model owner brings a trained model only.
        test_rows: The number of rows of D_te; 0 where the model owner has no test set.
        rows: The number of rows of D_a, the candidate.
        l2: The strength of the regulariser in the model's objective.
        row_norm: A bound on the Euclidean norm of the rows of D_a, each with its constant feature 1. The data owner
            announces it.
        longest: The same bound for the rows of both owners.
        logit_bound: A bound on the size of a centred logit, which is a logit less the mean over its row's classes.
        spread: A bound on the influence direction, which the model owner announces; None where it announces none.
        link: The name of the model's link (`models.links`), which states the loss.
        target: A bound on the size of a target that is a number, which both owners announce; 0 for labels.
        resolution: The resolution of D_a, where its rows are shared as integers; None where they are not.
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
    link: str = SOFTMAX.name
    target: float = 0.0
    resolution: Resolution | None = None

    @property
    def ratio(self) -> float:
        """The factor that the rows of D_a have on shares, where all the model owner's tensors are divided by it."""
        return 1.0 if self.resolution is None else self.resolution.ratio

    @property
    def outputs(self) -> int:
        """The number k of columns of the model's weights and of the targets."""
        return self.classes if self.link == SOFTMAX.name else 1

    @property
    def loss(self) -> Link:
        """The link, which computes residuals and losses from outputs."""
        return LINKS[self.link]

    @property
    def largest_residual(self) -> float:
        """A bound on the size of an entry of a residual."""
        return self.loss.largest_residual(self.logit_bound, self.target)

    @staticmethod
    def of(model: LinearModel, train: Dataset | None, test: Dataset | None, candidate: Dataset) -> Facts:
        """Return the sizes of one appraisal. The norms keep their defaults."""
        rows = [0 if data is None else data.rows for data in (train, test)]
        return Facts(model.features, model.classes, *rows, candidate.rows, model.l2, link=model.link.name)


class Appraiser(ABC):
    """State what a run has to know of an appraisal method; every method derives from this class.

    Attributes:
        name: The method's name in configurations and records.
        needs: What the model owner must have beside the model: a subset of "train" and "test".
        opens: A description of the one number that is opened, in plain words.
        streams: Whether one pass over blocks of rows is enough; otherwise x and y are kept whole.
        rising: Whether a larger opened number is a higher value.
        incomparable: Why the method can be released as a value only; empty where other releases can have it too.
        logit_growth: The factor by which the method's training may raise the bound on logits; 1 for no training.
        uses_model: Whether the method reads the model; no model is trained for methods that do not.
        uses_labels: Whether the method reads labels; the candidate's are not shared for methods that do not.
        narrow: Whether the candidate's rows x enter products x W, with weights of `prepare` that are centred over the
            classes, and x' R, with residuals within 1, and nothing else. Such rows are shared in a narrow ring where
            they have a resolution: as x times `Facts.ratio`, while the tensors of `prepare` are divided by it. What the
            method states of the opened number has to take that into account.
        without_noise: Why the method cannot be released with noise; empty where it can be.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    opens: ClassVar[str]
    streams: ClassVar[bool] = True
    rising: ClassVar[bool] = False
    incomparable: ClassVar[str] = ""
    logit_growth: ClassVar[float] = 1.0
    uses_model: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = True
    narrow: ClassVar[bool] = False
    without_noise: ClassVar[str] = ""

    @property
    def settings(self) -> dict[str, Any] | None:
        """The public settings by name; None for a method whose settings are not known."""
        return {each.name: getattr(self, each.name) for each in fields(self)} if is_dataclass(self) else None

    @property
    def measure(self) -> Measure:
        """The metric of the test predictions whose fall by retraining the value is to agree with; the log loss here."""
        return Measure()

    @abstractmethod
    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        """Return the names and public shapes of the tensors that the model owner contributes, in order."""

    @abstractmethod
    def prepare(self, model: LinearModel, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        """Compute the model owner's float64 tensors in the clear, with the names and shapes of `private_shapes`.

        Raises InputError where a data set is missing that the method needs.
        """

    @abstractmethod
    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        """Compute the formula on plain or secret tensors, and return one number as a tensor without dimensions.

        Args:
            owned: The tensors of `prepare`.
            x: The candidate's rows (n, d + 1), with the constant feature.
            y: The candidate's targets (n, k): labels (one-hot), or one column.
            facts: The public sizes and norms.
        """

    def reach(self, norm: float, facts: Facts) -> float:
        """Bound the norm of a class's centred weights after one step of training from weights of norm `norm`.

        A method that trains overrides this. The bound makes the private check of the logits sure; see `logit_check`. By
        default it is infinite.
        """
        return math.inf

    def summed_rows(self, facts: Facts) -> int:
        """Return how many rows' gradients are summed before a division; the ring must have room for the sum.

        The ring is the integers modulo 2^64, in which shares are added.
        """
        return facts.rows

    def mixes_rows(self, facts: Facts) -> bool:
        """Return whether the score of a squared error stays where an orthogonal matrix mixes the candidate's rows.

        This holds for a score that is made of sums over all rows alone. Then fewer rows can be shared.
        """
        return False

    def opened_at(self, value: float, facts: Facts) -> float:
        """Return the number that would be opened if `value` were the value, so that thresholds compare with it.

        Raises InputError for a method that does not state it: such a method can only release the value itself.
        """
        raise InputError("release", f"a comparison of {self.name}", f"release=value: {self.name} has no opened_at")

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        """Return a number from a candidate's `score` that compares with those of candidates of other sizes.

        The score is plain or secret, and the number is of the same kind. Raises InputError for a method that does not
        state it.
        """
        raise InputError("release", f"a comparison of {self.name}", f"release=value: {self.name} has no comparable")

    @abstractmethod
    def paper_value(self, opened: float, facts: Facts) -> float:
        """Return the number of the published equation, from the opened number."""

    def value(self, opened: float, facts: Facts) -> float:
        """Return the value, from the opened number: a higher value means better data for this model owner.

        By default the value is minus `paper_value`, because the published numbers are lower for better data.
        """
        return 0.0 - self.paper_value(opened, facts)  # never -0.0

    def require(self, train: Dataset | None, test: Dataset | None) -> None:
        """Raise InputError that names the data set which the method needs and the model owner lacks."""
        for key, data, what in (("train", train, "a training set"), ("test", test, "a test set")):
            if key in self.needs and data is None:
                raise InputError(f"party.{key}", "nothing", f"{what}, which the method {self.name} needs")


def summed_gradient(weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, link: Link = SOFTMAX) -> torch.Tensor:
    """Return the sum over rows of the gradient of the loss L, X' R with the residuals R = dL/d(X W), (d + 1, k).

    For softmax regression R = softmax(X W) - Y and L is the cross-entropy of one row; `models.links` states the others.
    X (n, d + 1) are the rows `x`, W (d + 1, k) the `weights` and Y (n, k) the targets `y`. Rows that come in blocks are
    taken block by block. (R' X)' gives the same numbers as X' R, several times faster on int64 shares.
    """
    total = None
    for rows, labels in blocks(x, y):
        term = link.residual(rows.matmul(weights), labels).t().matmul(rows).t()
        total = term if total is None else total + term
    return total


def centred(theta: torch.Tensor) -> torch.Tensor:
    """Return weights (d + 1, C) less their mean over the classes; no softmax, gradient or step of training changes.

    Apart from rounding, logits then sum to zero over the classes, on which fixed point relies where it takes their
    mean. A regulariser, which adds 2 l2 theta to the gradient at each step, shrinks the mean that is left out and has
    no other effect on it. The single column of a model without a softmax stays as it is.
    """
    return theta - theta.mean(1, keepdim=True) if theta.shape[1] > 1 else theta


def scaled(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """Return tensor * factor for a public factor > 0, without the loss that a small factor suffers in 16 bits.

    Fixed point has 16 fractional bits, in which 1e-6 is 0. A small factor is therefore split as m / 2^k with m in [1,
    2): the division by a public power of two is exact, and m keeps 16 bits of its own.
    """
    if factor >= 1.0:
        return tensor if factor == 1.0 else tensor * float(factor)
    k = 1 - math.frexp(factor)[1]
    tensor = tensor / float(2**k)
    m = math.ldexp(factor, k)
    return tensor if m == 1.0 else tensor * m


def plaintext(
    appraiser: Appraiser, model: LinearModel, train: Dataset | None, test: Dataset | None, candidate: Dataset
) -> tuple[float, float]:
    """Return (value, paper_value) of one candidate in float64 and in the clear: the baseline of the private run.

    Raises InputError where the model owner lacks a data set that the method needs.
    """
    appraiser.require(train, test)
    owned = appraiser.prepare(model, train, test)
    return plaintext_of(appraiser, owned, Facts.of(model, train, test, candidate), candidate)


def plaintext_of(
    appraiser: Appraiser, owned: dict[str, torch.Tensor], facts: Facts, candidate: Dataset
) -> tuple[float, float]:
    """Return (value, paper_value) of one candidate as `plaintext` does, with tensors that were prepared before.

    Args:
        appraiser: The method.
        owned: The tensors of the method's `prepare`; they serve any number of candidates.
        facts: The sizes of this appraisal.
        candidate: The candidate's rows, with the model's number of classes.
    """
    x = with_bias(candidate.x.to(torch.float64))
    opened = appraiser.score(owned, x, candidate.targets(facts.outputs), facts).item()
    return appraiser.value(opened, facts), appraiser.paper_value(opened, facts)
