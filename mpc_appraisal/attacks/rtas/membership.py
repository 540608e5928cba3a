"""The membership attack on RTAS: a helper that knows the model finds out whether a given row is in the batch.

RTAS ("Private machine learning by random transformations") lets a helper apply functions to values in a random order.
The helper looks for the row's logits among the values that it has seen:

    rows, columns   d(x) = min over seen rows v of max_c |v_c - z_c(x)|     (v and z sorted where columns are hidden)
    entries         d(x) = max over c of min over seen values v of |v - z_c(x)|
    member          d(x) < tolerance

In go a `View`, which holds what the helper saw, and the C logits z(x) of each tried row, up to the precision of fixed
point. Out come the distances d, or a yes or no for each row, and the share that is right.

A row that is not in the batch is taken for a member by chance if C logits are each met within the tolerance. For ten
logits this is negligible. For one logit it has a probability of about 2 n tolerance p, where n values were seen and p
is their density at z(x). The attack fails where the helper does not know the model: with weights of another training,
the nearest row is almost as near for other rows as for members. Hiding the order of columns does not stop it.
`tolerance` may change; it has to stay above the rounding of fixed point.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpc_appraisal.attacks.rtas.view import View
from mpc_appraisal.common.errors import InputError

TOLERANCE = 2.0**-12  # sixteen times the precision of the ring


def distances(view: View, logits: Tensor) -> Tensor:
    """Return d (m,) of each tried row, from its logits (m, C). Raises InputError for rows of another width."""
    if logits.dim() != 2 or (view.hidden != "entries" and logits.shape[1] != view.values.shape[1]):
        raise InputError("logits", tuple(logits.shape), "one row a candidate, as many columns as were seen")
    logits = logits.to(torch.float64)
    if view.hidden != "entries":
        return torch.cdist(view.comparable(logits), view.rows, p=torch.inf).min(dim=1).values
    values = view.values.sort().values
    after = torch.searchsorted(values, logits.contiguous()).clamp(1, len(values) - 1)
    return torch.minimum((values[after] - logits).abs(), (values[after - 1] - logits).abs()).max(dim=1).values


def members(view: View, logits: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Say of each tried row whether it is a member, (m,) bool.

    Raises InputError as `distances` does, and for a tolerance that is not above 0.
    """
    if not tolerance > 0:
        raise InputError("tolerance", tolerance, "a number above 0")
    return distances(view, logits) < tolerance


def accuracy(inside: Tensor, outside: Tensor) -> float:
    """Return the balanced accuracy, which is 1/2 for a guess.

    Args:
        inside: What `members` says of rows that are in the batch, bool.
        outside: What `members` says of rows that are not, bool.
    """
    return (float(inside.double().mean()) + 1 - float(outside.double().mean())) / 2


def ranked(inside: Tensor, outside: Tensor) -> float:
    """Return the area under the ROC curve: how probably a member's d is the smaller one, where ties count half.

    Args:
        inside: The `distances` of rows that are in the batch.
        outside: The `distances` of rows that are not.
    """
    less = (inside[:, None] < outside).double() + 0.5 * (inside[:, None] == outside).double()
    return float(less.mean())
