"""Slow and independent answers: autograd for each example, the full Hessian, another library's fit.

Nothing here calls the package's mathematics: models are bare (d + 1, C) tensors with the bias in the last row, data are
bare tensors, and losses come from torch's own cross-entropy.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression


def problem(n: int, d: int, classes: int, seed: int, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A small random task: x (n, d) float64, y (n,) int64 from one fixed linear rule; `noise` of the labels redrawn."""
    rule = torch.randn(d, classes, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = (x @ rule + 0.5 * torch.randn(n, classes, generator=g, dtype=torch.float64)).argmax(1)
    redrawn = torch.rand(n, generator=g) < noise
    return x, torch.where(redrawn, torch.randint(classes, (n,), generator=g), y)


def loss(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy of the affine model; x (n, d) without a constant feature."""
    return torch.nn.functional.cross_entropy(x @ theta[:-1] + theta[-1], y, reduction=reduction)


def penalised(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, l2: float) -> torch.Tensor:
    return loss(theta, x, y) + l2 * (theta**2).sum()


def example_gradients(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(n, d + 1, C): the gradient of each example's loss, by autograd, one example at a time."""
    gradients = []
    for i in range(len(x)):
        leaf = theta.clone().requires_grad_()
        gradients.append(torch.autograd.grad(loss(leaf, x[i : i + 1], y[i : i + 1]), leaf)[0])
    return torch.stack(gradients)


def hessian(theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, l2: float) -> np.ndarray:
    """The full Hessian of the penalised loss, ((d + 1) C, (d + 1) C), by autograd."""
    size = theta.numel()
    return torch.autograd.functional.hessian(lambda t: penalised(t, x, y, l2), theta).reshape(size, size).numpy()


def influence(theta, train, test, candidate, l2: float, damping: float = 0.0) -> float:
    """Eq. 7 as printed: the double sum over test and candidate examples, with a dense solve."""
    h = hessian(theta, *train, l2) + damping * np.eye(theta.numel())
    of_test = example_gradients(theta, *test).reshape(len(test[0]), -1).numpy()
    of_candidate = example_gradients(theta, *candidate).reshape(len(candidate[0]), -1).numpy()
    pairs = of_test @ np.linalg.solve(h, of_candidate.T)
    return -pairs.sum() / pairs.size


def fitted(x: torch.Tensor, y: torch.Tensor, classes: int, l2: float) -> torch.Tensor:
    """(d + 1, C) by scikit-learn, the bias penalised as the weight of a constant feature 1.

    scikit-learn minimises C * (sum of losses) + ||theta||^2 / 2, hence C = 1 / (2 l2 n). Three classes or more.
    """
    assert classes > 2, "scikit-learn fits two classes by one weight vector, which is another objective"
    ones = np.hstack([x.numpy(), np.ones((len(x), 1))])
    strength = 1 / (2 * l2 * len(x))
    solver = LogisticRegression(C=strength, fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=9999)
    solver.fit(ones, y.numpy())
    return torch.from_numpy(solver.coef_.T.copy())


def descended(x: torch.Tensor, y: torch.Tensor, classes: int, l2: float, weights: torch.Tensor | None = None):
    """(d + 1, C) by Newton's method on autograd's full Hessian, each example weighted: for small problems."""
    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64) if weights is None else weights

    def f(t: torch.Tensor) -> torch.Tensor:
        t = t.reshape(-1, classes)
        return (weights * loss(t, x, y, "none")).sum() + l2 * (t**2).sum()

    theta = torch.zeros((x.shape[1] + 1) * classes, dtype=torch.float64)
    for _ in range(50):
        leaf = theta.clone().requires_grad_()
        gradient = torch.autograd.grad(f(leaf), leaf)[0]
        if gradient.norm() < 1e-13:
            break
        theta = theta - torch.linalg.solve(torch.autograd.functional.hessian(f, theta), gradient)
    assert gradient.norm() < 1e-11
    return theta.reshape(-1, classes)


def finetuned(theta, x, y, l2: float, lr: float, batches: list[torch.Tensor]) -> torch.Tensor:
    """torch.optim.SGD on the penalised loss of each batch, one batch a step."""
    leaf = theta.clone().requires_grad_()
    optimiser = torch.optim.SGD([leaf], lr=lr)
    for batch in batches:
        optimiser.zero_grad()
        penalised(leaf, x[batch], y[batch], l2).backward()
        optimiser.step()
    return leaf.detach()
