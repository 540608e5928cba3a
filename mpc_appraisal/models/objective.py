"""The objective that every linear model minimises, its gradient, and the solver for models without a closed form.

    objective = mean over D of L(z, y) + l2 ||theta||^2,   z = theta' [x, 1]

D are the training rows, x the features of a row, y its target, and L the loss of the model's link (`links`).
theta (d + 1, k) are the weights of d features and the bias, with k columns. Data sets and weights go in; numbers,
gradients and minimisers come out. `minimised` is L-BFGS in float64, from zero to convergence (Xu, van der Maaten and
Hannun 2022, eq. 1, with the mean in place of the sum, so that l2 means the same for any number of rows). The solver may
change. The objective has to stay, because `methods.influence` differentiates it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # it imports `scipy.optimize` at its first use, half a second that most parties need not spend
import torch

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import AppraisalError
from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.base import check_l2
from mpc_appraisal.models.links import SOFTMAX, Link

Evaluation = Callable[[np.ndarray], tuple[float, np.ndarray]]  # flat weights to the objective and its flat gradient


def objective(
    theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, l2: float, link: Link = SOFTMAX
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the objective, a tensor without dimensions, and its gradient (d + 1, k) at theta (d + 1, k).

    x is (n, d + 1) with the constant feature, and y is (n,): labels in int64, or numbers. link: the model's link.
    """
    z = x.matmul(theta)
    if link is SOFTMAX:  # without one-hot labels, which take the memory of the logits once more
        logp, rows = z.log_softmax(1), torch.arange(len(y))
        value = l2 * theta.square().sum() - logp[rows, y].mean()
        residual = logp.exp()
        residual[rows, y] -= 1.0
    else:
        targets = y.to(torch.float64).reshape(-1, 1)
        value = l2 * theta.square().sum() + link.loss(z, targets).mean()
        residual = link.residual(z, targets)
    return value, residual.t().matmul(x).t() / len(y) + 2 * l2 * theta


def minimised(
    train: Dataset,
    l2: float,
    outputs: int,
    link: Link,
    tolerance: float = 1e-7,
    iterations: int = 20_000,
    evaluation: Evaluation | None = None,
) -> torch.Tensor:
    """Return the minimiser of the objective on `train`, (d + 1, outputs).

    Args:
        train: The training rows.
        l2: The factor of ||theta||^2.
        outputs: The number of columns of theta.
        link: The model's link.
        tolerance: The largest entry of the gradient at which the fit counts as converged.
        iterations: The most iterations of one run of L-BFGS, of which there are three at most.
        evaluation: Computes the objective and its gradient in another way; None computes them here.

    Raises InputError for a bad l2 or tolerance, and AppraisalError if the tolerance is not reached. Separable data
    without a regulariser, for instance, have no minimiser.
    """
    check_l2(l2)
    number("model.tolerance", tolerance, "a number between 0 and 1", above=0, below=1)
    shape = (train.features + 1, outputs)
    if evaluation is None:
        x = with_bias(train.x.to(torch.float64))

        def evaluation(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = objective(torch.from_numpy(flat).reshape(shape), x, train.y, l2, link)
            return value.item(), gradient.reshape(-1).numpy()

    flat, largest = np.zeros(shape[0] * shape[1]), np.inf
    # Near the optimum the loss no longer changes in its last digits, and the line search may give up while the gradient
    # can still shrink. A restart forgets the curvature that led there.
    for _ in range(3):
        options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 50, "ftol": 0.0, "gtol": tolerance}
        result = scipy.optimize.minimize(evaluation, flat, jac=True, method="L-BFGS-B", options=options)
        flat, largest = result.x, float(np.abs(result.jac).max())
        if largest <= tolerance:
            return torch.from_numpy(flat.copy()).reshape(shape)
    raise AppraisalError(
        f"the fit on {train.name} ({train.rows} rows) did not converge: largest gradient entry {largest:.1e}, expected "
        f"at most {tolerance:.1e}; a larger model.l2 (now {l2}) or standardised features make it easier"
    )
