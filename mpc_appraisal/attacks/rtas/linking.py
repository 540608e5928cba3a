"""Which row of one epoch is which row of the next? The helper matches permuted values by nearness.

    match     pi = arg min over permutations of sum_i || u_i - v_pi(i) ||_1        u, v: the rows seen in two epochs
    follow    M = arg min sum_i || [u_i, 1] M - v_pi(i) ||^2, and match [u, 1] M anew

A training step moves the model little, so an example's logits stay near themselves; what moves all of them together is
an affine map of the logits, and is fitted. Linked rows are pseudonyms: what is known of one sight holds for all, and
the path of an example through training tells hard ones from easy ones and members from newcomers.

It weakens with the distance between sights and with the number of rows, and is near to a guess for one logit a row.
It stops where the helper sees the rows once (inference), or none (the engine without a helper).
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import one_hot

from mpc_appraisal.attacks.rtas.view import View
from mpc_appraisal.common.errors import InputError

ROUNDS = 4


def link(before: View, after: View, rounds: int = ROUNDS) -> Tensor:
    """For each seen row of `before` the seen row of `after` that is taken for the same example (n,).

    rounds: matchings, each after the map fitted to the one before. Raises InputError for views of different shapes.
    """
    if before.values.shape != after.values.shape or rounds < 1:
        raise InputError("after", (tuple(after.values.shape), rounds), "as many rows and columns as before, a round")
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
    """Share of rows linked rightly; 1 / n for a guess."""
    return float((after.order[found] == before.order).double().mean())


def sights(x: Tensor, y: Tensor, classes: int, epochs: int, batch: int, rate: float, seed: int) -> Tensor:
    """The logits that a softmax regression has of each row when it is used, (epochs, n, C) float64: a helper's values.

    x: (n, d). SGD on the cross-entropy from zero weights, the rows in a fresh order each epoch. classes = 2: one logit
    through a sigmoid, C = 1.
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
