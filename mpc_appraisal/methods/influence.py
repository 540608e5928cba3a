"""Influence functions estimate how much a candidate's rows would lower the model owner's test loss.

    f_if(D_a) = - 1 / (|D_a| |D_te|)  sum over D_te, D_a of  grad L_te' H^-1 grad L_a
              = - 1 / |D_a|  < X' (softmax(X theta) - Y), V >,    V = H^-1 grad (mean test loss)

D_tr and D_te are the model owner's training and test rows, and theta (d + 1, C) are its weights for d features, a
constant one and C classes. D_a is the candidate: X (n, d + 1) are its rows and Y (n, C) its one-hot labels. H is the
Hessian of the objective on D_tr: that of the mean cross-entropy, with 2 * l2 + damping added to its diagonal. The value
is -f_if, so that a higher value means better data.

In place of the mean test loss, V may hold the gradient of another metric of the test predictions (`metrics`), whose
fall the value then estimates; all that follows stays as it is.

The model owner computes V in the clear, and no gradient of a single row is ever formed. The sum over D_a is opened. The
gradient costs two products with X, a softmax over D_a, and products of (d + 1) x C numbers. The engine fast computes
the same for softmax regression as <softmax(X theta), X V> - <X' Y, V>, which costs one product X [theta, V], where its
softmax has a bound and no noise is added (`ops.slope`). With a small l2 the inverse amplifies the rounding of fixed
point: with an l2 below about 2e-3 on MNIST, one run may rank candidates wrongly.

This is equation 7 of Xu, van der Maaten and Hannun, "Data Appraisal Without Data Sharing" (2022). Their equations 6 and
7 differ in sign, and this file follows equation 7. The paper's H leaves the regulariser out, and such an H is singular
with more weights than rows. `damping` and the solver may change; the formula is pinned by tests against autograd. For
other models than softmax regression, the residuals softmax(X theta) - Y and the loss are those of the model's link
(`models.links`): `linear_regression` has R = 2 (X theta - Y), with one column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy  # it loads `scipy.sparse.linalg` at its first use, so that most processes do not pay for it
import torch

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.methods.base import Appraiser, Facts, centred, scaled, summed_gradient
from mpc_appraisal.methods.metrics import LOG_LOSS, ByMetric
from mpc_appraisal.models.base import LinearModel
from mpc_appraisal.models.links import SOFTMAX
from mpc_appraisal.models.training import objective
from mpc_appraisal.mpc.ops import blocks, slope, takes_slopes


@dataclass(frozen=True, repr=False)
class Influence(ByMetric, Appraiser):
    """Appraise by equation 7; the value is -f_if.

    Attributes:
        damping: What is added to the diagonal of H beside 2 * l2, a finite number of 0 or more.
        metric, group, class_weights: The metric in place of the mean test loss; see `ByMetric`.

    Raises InputError for any other damping, or for what `ByMetric` refuses.
    """

    damping: float = 0.0

    name: ClassVar[str] = "influence"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "test"})
    rising: ClassVar[bool] = True
    narrow: ClassVar[bool] = True
    opens: ClassVar[str] = "influence on the mean test loss, summed over the candidate's rows"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric != LOG_LOSS:
            words = f"influence on the {self.measure.words} of the test rows, summed over the candidate's rows"
            object.__setattr__(self, "opens", words)
        number("damping", self.damping, "a finite number, 0 or more", least=0)

    def private_shapes(self, facts: Facts) -> dict[str, tuple[int, ...]]:
        shape = (facts.features + 1, facts.outputs)
        return {"weights": shape, "direction": shape}

    def prepare(self, model: LinearModel, train: Dataset | None, test: Dataset | None) -> dict[str, torch.Tensor]:
        self.require(train, test)
        if self.metric == LOG_LOSS:
            gradient = objective(model.theta, with_bias(test.x.to(torch.float64)), test.y, 0.0, model.link)[1]
        else:
            gradient = self.measure.gradient(model, test)
        return {
            "weights": centred(model.theta),
            "direction": centred(inverse_hessian_product(model, train, gradient, self.damping)),
        }

    def score(self, owned: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor, facts: Facts) -> torch.Tensor:
        weights, direction = owned["weights"], owned["direction"]
        sizes = (facts.row_norm * facts.ratio, None if facts.spread is None else facts.spread / facts.ratio)
        if facts.loss is not SOFTMAX or facts.spread is None or not takes_slopes(weights, *sizes):
            return (summed_gradient(weights, x, y, facts.loss) * direction).sum()
        total = None
        for rows, labels in blocks(x, y):
            term = slope(weights, direction, rows, labels, facts.rows, *sizes)
            total = term if total is None else total + term
        return total

    def mixes_rows(self, facts: Facts) -> bool:
        return True

    def opened_at(self, value: float, facts: Facts) -> float:
        return value * facts.rows

    def comparable(self, score: torch.Tensor, facts: Facts) -> torch.Tensor:
        return scaled(score, 1.0 / facts.rows)

    def paper_value(self, opened: float, facts: Facts) -> float:
        return -opened / facts.rows


def inverse_hessian_product(
    model: LinearModel,
    train: Dataset,
    gradient: torch.Tensor,
    damping: float = 0.0,
    tolerance: float = 1e-10,
    iterations: int = 20_000,
) -> torch.Tensor:
    """Solve H V = gradient for V, both (d + 1, C), by conjugate gradients with the diagonal of H as preconditioner.

    H is that of the mean loss on `train` with 2 l2 + damping added to its diagonal. The loop is
    `scipy.sparse.linalg.cg`. Raises AppraisalError where the relative residual does not reach `tolerance` within
    `iterations` iterations, or where H is singular.
    """
    curvature, constant, shape = loss_hessian(model, train), 2 * model.l2 + damping, gradient.shape
    x, second = with_bias(train.x.to(torch.float64)), model.link.curvature(model.logits(train.x))
    diagonal = (second.t().matmul(x.square()).t() / train.rows + constant).clamp_min(1e-300)
    diagonal, right = diagonal.reshape(-1).numpy(), gradient.reshape(-1).numpy()
    latest = np.zeros_like(right)

    def product(flat: np.ndarray) -> np.ndarray:
        v = torch.from_numpy(np.ascontiguousarray(flat)).reshape(shape)
        return (curvature(v) + constant * v).reshape(-1).numpy()

    def curved(flat: np.ndarray) -> np.ndarray:
        found = product(flat)
        if flat.any() and not 0 < flat @ found < math.inf:  # scipy would continue with NaN
            raise ZeroDivisionError
        return found

    def keep(solution: np.ndarray) -> None:
        latest[:] = solution

    size = (len(right), len(right))
    hessian = scipy.sparse.linalg.LinearOperator(size, matvec=curved, dtype=np.float64)
    scaling = scipy.sparse.linalg.LinearOperator(size, matvec=lambda flat: flat / diagonal, dtype=np.float64)
    options = {"rtol": tolerance, "atol": 0.0, "maxiter": iterations, "M": scaling, "callback": keep}
    try:
        solution, missed = scipy.sparse.linalg.cg(hessian, right, **options)
    except ZeroDivisionError:
        missed = True
    if missed:
        residual, bound = np.linalg.norm(right - product(latest)), tolerance * np.linalg.norm(right)
        raise AppraisalError(
            f"influence: H V = gradient was not solved: residual {residual:.1e}, expected at most {bound:.1e}; the "
            f"Hessian on {train.name} is singular or nearly so, which a larger model.l2 (now {model.l2}) or "
            "appraisal.damping mends"
        )
    return torch.from_numpy(solution).reshape(shape)


def loss_hessian(model: LinearModel, train: Dataset) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that multiplies V (d + 1, k) by the Hessian of the mean loss on `train`.

    For softmax regression it computes X'(P * XV - P * rowsum(P * XV)) / n, P being the probabilities: two products with
    X. The matrix of ((d + 1) k)^2 numbers is never formed.
    """
    x, z = with_bias(train.x.to(torch.float64)), model.logits(train.x)

    def product(v: torch.Tensor) -> torch.Tensor:
        return model.link.curved(z, x.matmul(v)).t().matmul(x).t() / train.rows

    return product
