"""Small problems with a numeric target and with two classes, and their models' losses by torch's own functions."""

from __future__ import annotations

import torch

from mpc_appraisal.data import Dataset, with_bias
from mpc_appraisal.models.training import MODELS

LINEAR, LOGISTIC = MODELS["linear_regression"], MODELS["logistic_regression"]


def problem(model, rows: int, seed: int, features: int = 4, noise: float = 0.3, name: str | None = None) -> Dataset:
    """Rows of one linear truth; the target is a number, or the sign of it as a label."""
    truth = torch.linspace(-1, 1.5, features + 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, features, dtype=torch.float64, generator=generator)
    y = with_bias(x) @ truth + noise * torch.randn(rows, dtype=torch.float64, generator=generator)
    name = name or f"seed {seed}"
    if model is LOGISTIC:
        return Dataset(x, (y > 0).to(torch.int64), 2, name)
    return Dataset(x, y, 1, name)


def loss(model, theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    """The mean loss at theta (d + 1, 1), by torch's own functions."""
    z = (with_bias(data.x) @ theta)[:, 0]
    if model is LOGISTIC:
        return torch.nn.functional.binary_cross_entropy_with_logits(z, data.y.double())
    return torch.nn.functional.mse_loss(z, data.y)


def gradient(model, theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    leaf = theta.clone().requires_grad_()
    return torch.autograd.grad(loss(model, leaf, data), leaf)[0]


def hessian(model, theta: torch.Tensor, data: Dataset) -> torch.Tensor:
    flat = torch.autograd.functional.hessian(lambda t: loss(model, t.reshape(-1, 1), data), theta.reshape(-1))
    return flat
