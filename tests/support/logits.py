"""Logits of a model of two classes, as the attacks on RTAS see them."""

from __future__ import annotations

import torch

from mpc_appraisal.models.softmax_regression import SoftmaxRegression


def one_logit(model: SoftmaxRegression, x: torch.Tensor) -> torch.Tensor:
    """The second logit less the first, (n, 1), for rows x (n, d)."""
    z = model.logits(x)
    return z[:, 1:] - z[:, :1]
