"""Retraining, the baseline that all methods approximate; in the clear, for experiments only.

    -U(D_a) = mean over D_te of  L(x, y; theta) - L(x, y; theta*),   theta* fitted on D_tr and D_a together

Xu, van der Maaten and Hannun (2022), eq. 2, negated: higher is better. It sees everything; nothing is private.
"""

from __future__ import annotations

from functools import cached_property

from mpc_appraisal.data import Dataset
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit, utility


class Retraining:
    """Values candidates by what they are worth; the fit on `train` alone is made once."""

    name = "retraining"

    def __init__(
        self,
        train: Dataset,
        test: Dataset,
        l2: float,
        model: SoftmaxRegression | None = None,
        tolerance: float = 1e-7,
    ):
        self.train, self.test, self.l2, self.tolerance = train, test, l2, tolerance
        self._given = model

    @cached_property
    def model(self) -> SoftmaxRegression:
        """The model before: the given one or the fit on `train`."""
        return self._given if self._given is not None else fit(self.train, self.l2, self.tolerance)

    def value(self, candidate: Dataset) -> float:
        """Fall of the mean test loss by retraining with the candidate."""
        return utility(self.train, self.test, candidate, self.l2, self.model, self.tolerance)
