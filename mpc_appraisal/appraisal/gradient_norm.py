"""Norm of the parameter gradient.

    f_gn(D_a) = || sum over D_a of grad L(x, y; theta) ||_2 = || X' (softmax(X theta) - Y) ||_F

Xu, van der Maaten and Hannun (2022), eq. 3: a sum over D_a, without the regulariser.
Needs the model alone. Opens the squared norm; the root and the scale are public arithmetic on it.
Costs two products with X, a softmax over D_a, and squares of (d + 1) x C numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from mpc_appraisal.appraisal.base import Appraiser, Facts, scaled, summed_gradient
from mpc_appraisal.data import Dataset
from mpc_appraisal.models import SoftmaxRegression


@dataclass(frozen=True)
class GradientNorm(Appraiser):
    """Eq. 3; value = -f_gn."""

    name: ClassVar[str] = "gradient_norm"
    needs: ClassVar[frozenset[str]] = frozenset()
    opens: ClassVar[str] = "squared norm of the summed gradient, times a public power of two"

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        return {"weights": (facts.features + 1, facts.classes)}

    def prepare(
        self, model: SoftmaxRegression, train: Dataset | None = None, test: Dataset | None = None
    ) -> dict[str, torch.Tensor]:
        return {"weights": model.theta}

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        return scaled(summed_gradient(owned["weights"], x, y), self.scale(facts)).square().sum()

    def paper_value(self, opened: float, facts: Facts) -> float:
        # Rounding may leave a norm of zero a hair below zero.
        return math.sqrt(max(opened, 0.0)) / self.scale(facts)

    @staticmethod
    def scale(facts: Facts) -> float:
        """The public power of two between 128 / n and 256 / n.

        A sum over n rows grows with n. This scale turns it into about 2^7 to 2^8 mean gradients for any n: squares then
        stay below 2^31 up to a mean gradient entry of 180, and a norm of the mean gradient of 0.05 is still some
        hundreds when squared, against a rounding of 2^-17 for each entry.
        """
        return 2.0 ** (8 - math.ceil(math.log2(facts.rows)))
