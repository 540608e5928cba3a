"""Sizes and rows of `transformations_attacks`: MNIST (full), or scikit-learn's digits (small), and models of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mpc_appraisal.data import Dataset, DataSource, Digits, Mnist
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit

L2 = 1e-2


@dataclass(frozen=True)
class Size:
    """own: the model's training rows. batch: rows seen at once. batches: the helper's own, to learn from. candidates:
    appraised. epochs, tracked: of linking. known, outputs: of known rows; kernel: size and stride of a convolution;
    shown: rows that are recovered. shared: images whose shares are averaged, times how often."""

    source: DataSource
    highest: int
    own: int
    batch: int
    batches: int
    candidates: int
    epochs: int
    tracked: int
    known: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, int]
    shown: int
    shared: int
    times: tuple[int, ...]


def size_of(name: str) -> Size:
    if name == "small":
        times = (1, 10, 100, 1000)
        return Size(Digits(), 16, 150, 200, 20, 10, 6, 200, (3, 10, 30, 100, 300), (1, 10, 30), (3, 1), 20, 50, times)
    times = (1, 10, 100, 1000, 10_000)
    known, outputs = (3, 10, 30, 100, 300, 1000, 3000), (1, 10, 100, 400)
    return Size(Mnist(), 255, 600, 2000, 60, 30, 12, 1000, known, outputs, (4, 2), 50, 20, times)


@dataclass(frozen=True, eq=False)
class Setting:
    """hidden: private rows; public: labelled rows of the same kind that the attacker has. model, other: trained on rows
    of their own; zero, other_zero: on the same, "is it a 0"."""

    size: Size
    hidden: Dataset
    public: Dataset
    model: SoftmaxRegression
    other: SoftmaxRegression
    zero: SoftmaxRegression
    other_zero: SoftmaxRegression

    @staticmethod
    def build(size: Size) -> Setting:
        train, test = size.source.load()
        first, second = (train.subset(range(k * size.own, (k + 1) * size.own)) for k in (0, 1))
        zeros = [Dataset(data.x, (data.y == 0).long(), 2) for data in (first, second)]
        hidden = train.subset(range(2 * size.own, train.rows))
        return Setting(size, hidden, test, *(fit(data, L2) for data in (first, second, *zeros)))

    def logits(self, x: Tensor, classes: int, own: bool = True) -> Tensor:
        """(n, 10), or (n, 1) of the probability that it is a 0 where classes = 2; of the other model unless `own`."""
        if classes > 2:
            return (self.model if own else self.other).logits(x)
        z = (self.zero if own else self.other_zero).logits(x)
        return z[:, 1:] - z[:, :1]

    @property
    def side(self) -> int:
        return round(self.public.features**0.5)
