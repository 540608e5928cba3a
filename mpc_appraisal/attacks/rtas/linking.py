"""The attack that links rows across epochs: the helper finds which permuted row of one epoch is which row of the next.

    match     pi = arg min over permutations of sum_i || u_i - v_pi(i) ||_1        u, v: the rows seen in two epochs
    follow    M = arg min sum_i || [u_i, 1] M - v_pi(i) ||^2, and match [u, 1] M anew

In go two `View`s of the same rows; out comes the permutation pi. A training step changes the model little, so an
example's logits stay near their last place. What moves all of them together is an affine map M of the logits, and M is
fitted. Linked rows are pseudonyms: what is known of one sight holds for all, and the path of an example through
training distinguishes hard examples from easy ones, and members from newcomers.

The attack weakens with the distance between sights and with the number of rows, and it is near to a guess for one logit
in each row. It stops where the helper sees the rows once (inference), or not at all (the engine without a helper).
ROUNDS and the training that `sights` simulates may change.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import one_hot

from mpc_appraisal.attacks.rtas.view import View
from mpc_appraisal.common.checks import integer
from mpc_appraisal.common.errors import InputError

ROUNDS = 4


def link(before: View, after: View, rounds: int = ROUNDS) -> Tensor:
    """Return, for each seen row of `before`, the number of the seen row of `after` that seems to be the same, (n,).

    Args:
        before, after: the views of two epochs.
        rounds: the number of matchings; each follows the map that is fitted to the matching before.

    Raises InputError for views of different shapes, and for no rounds.
    """
    integer("rounds", rounds, 1)
    if before.values.shape != after.values.shape:
        raise InputError("after", f"shape {tuple(after.values.shape)}", f"{tuple(before.values.shape)}, as before")
    u, v = before.rows, after.rows
    if u.shape[1] == 1:  # on a line the nearest matching keeps the order, whatever moves all of them together
        found = torch.empty(len(u), dtype=torch.int64)
        found[u[:, 0].argsort()] = v[:, 0].argsort()
        return found
    affine = torch.cat([u, torch.ones(len(u), 1, dtype=u.dtype)], dim=1)
    moved = u
    for turn in range(rounds):
        found = torch.from_numpy(linear_sum_assignment(torch.cdist(moved, v, p=1).numpy())[1])
        if turn < rounds - 1:
            moved = affine @ torch.linalg.lstsq(affine, v[found], driver="gelsd").solution
    return found


def linked(found: Tensor, before: View, after: View) -> float:
    """Return the share of rows that are linked correctly, which is 1 / n for a guess."""
    return float((after.order[found] == before.order).double().mean())


def sights(x: Tensor, y: Tensor, classes: int, epochs: int, batch: int, rate: float, seed: int) -> Tensor:
    """Return the values that a helper sees in training: each row's logits when it is used, (epochs, n, C) float64.

    Args:
        x: the rows (n, d).
        y: the labels (n,).
        classes: the number of classes. Two classes have one logit, which goes through a sigmoid, and C = 1.
        epochs, batch, rate: the settings of SGD on the cross-entropy, from zero weights.
        seed: the seed of the order of rows, which is fresh each epoch.
    """
    x = torch.cat([x.to(torch.float64), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    target = y[:, None].to(torch.float64) if classes == 2 else one_hot(y, classes).to(torch.float64)
    draw = torch.Generator().manual_seed(seed)
    weights = torch.zeros(x.shape[1], target.shape[1], dtype=torch.float64)
    found = torch.empty(epochs, len(x), target.shape[1], dtype=torch.float64)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x), generator=draw).split(batch):
            z = x[rows] @ weights
            found[epoch, rows] = z
            p = z.sigmoid() if classes == 2 else z.softmax(1)
            weights -= rate * x[rows].t() @ (p - target[rows]) / len(rows)
    return found
