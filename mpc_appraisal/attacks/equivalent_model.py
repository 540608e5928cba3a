"""The attack that copies the shopper's classifier, used by the cloud that has its masked layers.

    z~ = M z,  M orthogonal (C, C) and unknown to the cloud, which has k labelled records (z~_i, y_i)
    minimise over orthogonal A    sum_i ||z~_i A - (e_{y_i} - 1 / C)||^2;    a record's class is argmax (z~ A)
    A = U V'  of  U S V' = sum_i z~_i (e_{y_i} - 1 / C)'    (Schoenemann 1966, orthogonal Procrustes problem)

The shopper is the model owner of this marketplace, and the cloud computes for the shopper. z are the logits of a
record, C the number of classes, and e_y the one-hot label. In go masked logits with a few labels; out come A, and with
A the classes of further records. The masked network is the shopper's up to M. A few labelled records of any origin,
which the cloud runs through the masked layers itself, therefore replace the shopper: the model is copied with fewer
records than would train one. If M were any invertible matrix, least squares over all A would do the same with somewhat
more records.

In retraining the shopper sends g~ = M (p - e_y) / n for each record, p being its probabilities. p - e_y is negative at
y alone, so the label is argmin (g~ A): the gradients disclose the labels of sellers and shopper.

The attack also works with no label at all. A positive diagonal times a permutation leaves a ReLU's zeros where they
are. The pattern of zeros of a hidden layer is then the plain one with its units reordered, and clusters of patterns are
classes.

The attack stops where the cloud has no masked layers. In the protocol `ife_shares` they are secret shares, and the
cloud sees neither z~ nor a zero. RIDGE and the way of clustering may change; the formula of A has to stay that of the
head.
"""

from __future__ import annotations

import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.models.networks import Network, remaining

RIDGE = 1e-2  # share of the mean square of z~ that is added to the diagonal where A is not orthogonal


def fit_output(masked_logits: Tensor, y: Tensor, *, orthogonal: bool = True) -> Tensor:
    """Fit A (C, C) float64 by least squares; classes are then the columns of z~ A.

    Args:
        masked_logits: z~ (k, C).
        y: the labels (k,) int64.
        orthogonal: True if A must be orthogonal; otherwise any A may be found, with a small ridge.

    Raises InputError for labels that do not fit.
    """
    classes = masked_logits.shape[1]
    if y.shape != masked_logits.shape[:1] or len(y) == 0 or not ((y >= 0) & (y < classes)).all():
        raise InputError("y", tuple(y.shape), f"{len(masked_logits)} labels 0 .. {classes - 1}, one or more")
    z = masked_logits.to(torch.float64)
    target = functional.one_hot(y, classes).to(torch.float64) - 1 / classes
    if orthogonal:
        u, _, v = torch.linalg.svd(z.T @ target)
        return u @ v
    gram = z.T @ z
    return torch.linalg.solve(
        gram + RIDGE * gram.diagonal().mean() * torch.eye(classes, dtype=gram.dtype), z.T @ target
    )


def predict(masked_logits: Tensor, fitted: Tensor) -> Tensor:
    """Return the labels (n,) of records, from z~ (n, C) and A of `fit_output`."""
    return (masked_logits.to(torch.float64) @ fitted).argmax(dim=1)


def labels_of(masked_gradient: Tensor, fitted: Tensor) -> Tensor:
    """Return the labels (n,) behind the gradients g~ (n, C) that the shopper sends, with A of `fit_output`."""
    return predict(-masked_gradient, fitted)


def zero_patterns(masked: Network, x: Tensor) -> Tensor:
    """Say which units of the last hidden layer a ReLU leaves above 0: (n, units) bool, from x (n, d) in [0, 1]."""
    z = remaining(masked.architecture, masked.weights[1:-1], masked.biases[1:-1], masked.hidden(x))
    return z.flatten(1) > 0


def clusters(patterns: Tensor, count: int, seed: int = 0) -> Tensor:
    """Return cluster numbers (n,) 0 .. count-1 of patterns (n, units), by k-means (k-means++) and without labels.

    Raises InputError for a count below 1 or above n.
    """
    if not 1 <= count <= len(patterns):
        raise InputError("count", count, f"1 .. {len(patterns)} clusters")
    _, labels = kmeans2(patterns.to(torch.float64).numpy(), count, minit="++", seed=seed, iter=30)
    return torch.from_numpy(labels).to(torch.int64)


def purity(found: Tensor, y: Tensor) -> float:
    """Return the share of records whose label is the commonest label of their cluster.

    Args:
        found: the cluster of each record, (n,) integers.
        y: the label of each record, (n,) integers.
    """
    table = torch.zeros(int(found.max()) + 1, int(y.max()) + 1).index_put_(
        (found, y), torch.ones(len(y)), accumulate=True
    )
    return float(table.max(dim=1).values.sum() / len(y))
