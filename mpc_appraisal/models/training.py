"""Training and evaluation of softmax regression in the clear.

    theta = arg min  mean over D of L(x, y; theta)  +  l2 ||theta||^2

D are the training rows, L is the cross-entropy of a row, and theta (d + 1, C) are the weights of d features and the
bias for C classes. Data sets go in; models, losses and utilities come out. `fit` minimises by L-BFGS in float64, from
zero to convergence (Xu, van der Maaten and Hannun 2022, eq. 1, with the mean in place of the sum, so that l2 means the
same for any number of rows). `utility` is their eq. 2 with the sign turned: the mean test loss before retraining with
the candidate, a data set on offer, less the loss after retraining.

The solver may change. The objective has to stay, because `methods.influence` differentiates it. `fit` is also the
`_target_` of conf/model, and its name there is part of stored digests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # it imports `scipy.optimize` at its first use, half a second that most parties need not spend
import torch

from mpc_appraisal.common.errors import AppraisalError, InputError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.softmax_regression import SoftmaxRegression, check_l2


def objective(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, l2: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective, a tensor without dimensions, and its gradient (d + 1, C) at theta (d + 1, C).

    x is (n, d + 1) with the constant feature, and y is (n,) int64.
    """
    logp = x.matmul(theta).log_softmax(1)
    rows = torch.arange(len(y))
    value = l2 * theta.square().sum() - logp[rows, y].mean()
    residual = logp.exp()
    residual[rows, y] -= 1.0
    return value, residual.t().matmul(x).t() / len(y) + 2 * l2 * theta


def fit(train: Dataset, l2: float, tolerance: float = 1e-7, iterations: int = 20_000) -> SoftmaxRegression:
    """Return the minimiser of the objective on `train`.

    Args:
        train: The training rows.
        l2: The factor of ||theta||^2.
        tolerance: The largest entry of the gradient at which the fit counts as converged.
        iterations: The most iterations of one run of L-BFGS, of which there are three at most.

    Raises InputError for a bad l2 or tolerance, and AppraisalError if the tolerance is not reached. Separable data
    without a regulariser, for instance, have no minimiser.
    """
    check_l2(l2)
    if not 0 < tolerance < 1:
        raise InputError("model.tolerance", tolerance, "a number between 0 and 1")
    x = with_bias(train.x.to(torch.float64))
    shape = (x.shape[1], train.classes)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = objective(torch.from_numpy(flat).reshape(shape), x, train.y, l2)
        return value.item(), gradient.reshape(-1).numpy()

    flat, largest = np.zeros(shape[0] * shape[1]), np.inf
    # Near the optimum the loss no longer changes in its last digits, and the line search may give up while the gradient
    # can still shrink. A restart forgets the curvature that led there.
    for _ in range(3):
        options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 50, "ftol": 0.0, "gtol": tolerance}
        result = scipy.optimize.minimize(value_and_gradient, flat, jac=True, method="L-BFGS-B", options=options)
        flat, largest = result.x, float(np.abs(result.jac).max())
        if largest <= tolerance:
            return SoftmaxRegression(torch.from_numpy(flat.copy()).reshape(shape), float(l2))
    raise AppraisalError(
        f"the fit on {train.name} ({train.rows} rows) did not converge: largest gradient entry {largest:.1e}, expected "
        f"at most {tolerance:.1e}; a larger model.l2 (now {l2}) or standardised features make it easier"
    )


def mean_loss(model: SoftmaxRegression, data: Dataset) -> float:
    """Return the mean cross-entropy on `data`, without the regulariser."""
    return torch.nn.functional.cross_entropy(model.logits(data.x), data.y).item()


def accuracy(model: SoftmaxRegression, data: Dataset) -> float:
    """Return the fraction of rows whose most probable class is the label."""
    return (model.logits(data.x).argmax(1) == data.y).double().mean().item()


def union(first: Dataset, second: Dataset) -> Dataset:
    """Return the rows of both, in order and in float64. Raises InputError if their features or classes differ.

    The names of columns and classes are those of `first`.
    """
    for what in ("features", "classes"):
        expected, got = getattr(first, what), getattr(second, what)
        if got != expected:
            raise InputError(f"{what} of {second.name}", got, f"{expected}, as {first.name}")
    x = torch.cat([first.x.to(torch.float64), second.x.to(torch.float64)])
    y, name = torch.cat([first.y, second.y]), f"{first.name} and {second.name}"
    return Dataset(x, y, first.classes, name, first.columns, first.class_names)


def utility(
    train: Dataset,
    test: Dataset,
    candidate: Dataset,
    l2: float,
    model: SoftmaxRegression | None = None,
    tolerance: float = 1e-7,
    measured: Callable[[SoftmaxRegression, Dataset], float] = mean_loss,
) -> float:
    """Return how much the mean test loss falls by retraining with the candidate (eq. 2 negated). Higher is better.

    `measured` is the metric of a model on the test rows whose fall is returned, in place of the mean test loss.
    `model` is the fit on `train` alone, if the caller has it already. Otherwise it is fitted here. l2 and tolerance are
    those of `fit`, whose errors are raised.
    """
    before = model if model is not None else fit(train, l2, tolerance)
    after = fit(union(train, candidate), l2, tolerance)
    return measured(before, test) - measured(after, test)
