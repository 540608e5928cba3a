"""The norm of the parameter gradient on the candidate's rows: how far the model is from fitting them.

    f_gn(D_a) = || sum over D_a of grad L(x, y; theta) ||_2 = || X' R ||_F,    R = softmax(X theta) - Y

D_a is the candidate: X (n, d + 1) are its rows, with the constant feature, and Y (n, C) its one-hot labels.
theta (d + 1, C) are the model's weights and L is the cross-entropy of a row. For other models the loss L and the
residuals R = dL/d(X theta) are those of the model's link (`models.links`). The value is -f_gn.

This is eq. 3 of Xu, van der Maaten and Hannun (2022): a sum over D_a, without the regulariser. The method needs the
model alone. It opens the squared norm, times a public power of two and, where the rows are shared as integers, times
the square of `Facts.ratio`. The root and the scale are public arithmetic on the opened number. The method costs two
products with X, a softmax over D_a, and the squares of (d + 1) x C numbers.

The power of two may change if the squares keep inside the ring; the formula has to stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.base import Appraiser, Facts, centred, scaled, summed_gradient
from mpc_appraisal.models.base import LinearModel


@dataclass(frozen=True)
class GradientNorm(Appraiser):
    """Equation 3 is the method, and the value is -f_gn."""

    name: ClassVar[str] = "gradient_norm"
    needs: ClassVar[frozenset[str]] = frozenset()
    opens: ClassVar[str] = "squared norm of the summed gradient, times a public power of two"
    narrow: ClassVar[bool] = True

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        return {"weights": (facts.features + 1, facts.outputs)}

    def prepare(
        self, model: LinearModel, train: Dataset | None = None, test: Dataset | None = None
    ) -> dict[str, torch.Tensor]:
        return {"weights": centred(model.theta)}

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        return scaled(summed_gradient(owned["weights"], x, y, facts.loss), self.scale(facts)).square().sum()

    def paper_value(self, opened: float, facts: Facts) -> float:
        # Rounding may leave a norm of zero a hair below zero.
        return math.sqrt(max(opened, 0.0)) / (self.scale(facts) * facts.ratio)

    def mixes_rows(self, facts: Facts) -> bool:
        return True

    def opened_at(self, value: float, facts: Facts) -> float:
        return (value * self.scale(facts) * facts.ratio) ** 2 if value <= 0 else -1.0  # no norm has a value above 0

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        return score / self.scale(facts) ** 2

    @staticmethod
    def scale(facts: Facts) -> float:
        """Return the public power of two by which the gradient is multiplied before it is squared.

        It lies between 2^7.5 / (n R) and 2^8.5 / (n R), where n is the number of rows and R the bound on their norms.
        Each row's gradient is (p - y) x', with p the probabilities and y the one-hot label. Its norm is at most sqrt(2)
        R, so the scaled norm is at most 2^9 and its square 2^18, which is inside the ring, the integers modulo 2^64,
        with 36 fractional bits. A mean gradient a thousandth of R long is still (0.2)^2 when squared, against a
        rounding of 2^-19 for each entry. For another link, R is the bound on a row's norm times the bound on a
        residual, where that is above 1.
        """
        longest = facts.row_norm * max(1.0, facts.largest_residual)
        return 2.0 ** math.floor(8.5 - math.log2(facts.rows * longest))
