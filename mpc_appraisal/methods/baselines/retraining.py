"""Retraining, the baseline that all methods approximate; it serves experiments and the pre-flight.

    -U(D_a) = mean over D_te of  L(x, y; theta) - L(x, y; theta*),   theta* fitted on D_tr and D_a together

D_tr and D_te are the model owner's training and test rows, D_a is the candidate, L is the loss of a row (cross-entropy
or squared error, by the model), and theta are the weights before retraining. This is eq. 2 of Xu, van der Maaten and
Hannun (2022), negated, so that a higher number means better data. Training rows, test rows and candidates go in, all in
the clear, and one number for each candidate comes out. The formula stands in `models.training.utility` and has to stay
what the pre-flight and `leave_one_out` take it for.
"""

from __future__ import annotations

from functools import cached_property

from mpc_appraisal.data import Dataset
from mpc_appraisal.methods.metrics import Measure
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.softmax_regression import SoftmaxRegression
from mpc_appraisal.models.training import fit, model_for, refit, utility


class Retraining:
    """Value each candidate by the fall of the test loss that it brings; the fit on `train` alone is made once.

    Args:
        train, test: The model owner's rows.
        l2: The strength of the regulariser.
        model: The model before the retraining; None fits it on `train`.
        tolerance: The largest entry of the gradient at which a fit counts as converged.
    """

    name = "retraining"

    def __init__(
        self,
        train: Dataset,
        test: Dataset,
        l2: float,
        model: LinearModel | None = None,
        tolerance: float = 1e-7,
    ):
        self.train, self.test, self.l2, self.tolerance = train, test, l2, tolerance
        self._given = model

    @cached_property
    def model(self) -> LinearModel:
        """The model before the retraining: the given one, or the fit on `train`."""
        if self._given is not None:
            return self._given
        kind = model_for(self.train)
        if kind is SoftmaxRegression:
            return fit(self.train, self.l2, self.tolerance)
        return refit(self.train, self.l2, self.tolerance, kind)

    def value(self, candidate: Dataset, measure: Measure | None = None) -> float:
        """Return the fall of the mean test loss, or of the metric `measure`, by retraining with the candidate.

        Raises InputError for another number of features or classes, and AppraisalError where a fit does not converge.
        """
        measured = (measure or Measure()).value
        return utility(self.train, self.test, candidate, self.l2, self.model, self.tolerance, measured)
