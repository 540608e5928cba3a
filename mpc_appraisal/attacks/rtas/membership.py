"""Whether a given example is in the batch: a helper that knows the model looks for its logits among the values seen.

    rows, columns   d(x) = min over seen rows v of max_c |v_c - z_c(x)|      both sorted, where columns are hidden
    entries         d(x) = max over c of min over seen values v of |v - z_c(x)|
    member          d(x) < tolerance

z(x) are the model's logits of x, up to the fixed-point precision. A chance hit of a non-member takes C coincidences of
width 2 tolerance: it never happens for ten logits, and has the probability 2 n tolerance p(v) or so for one.

The attack stops where the helper does not know the model: with weights of another training the nearest row is almost as
near for non-members as for members. To hide the order of columns as well does not stop it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mpc_appraisal.attacks.rtas.view import View
from mpc_appraisal.common.errors import InputError

TOLERANCE = 2.0**-12  # sixteen times the precision of the ring


def distances(view: View, logits: Tensor) -> Tensor:
    """d (m,) of each candidate, from its logits (m, C). Raises InputError for rows of another width."""
    if logits.dim() != 2 or (view.hidden != "entries" and logits.shape[1] != view.values.shape[1]):
        raise InputError("logits", tuple(logits.shape), "one row a candidate, as many columns as were seen")
    logits = logits.to(torch.float64)
    if view.hidden != "entries":
        return torch.cdist(view.comparable(logits), view.rows, p=torch.inf).min(dim=1).values
    values = view.values.sort().values
    after = torch.searchsorted(values, logits.contiguous()).clamp(1, len(values) - 1)
    return torch.minimum((values[after] - logits).abs(), (values[after - 1] - logits).abs()).max(dim=1).values


def members(view: View, logits: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Whether each candidate is a member, (m,) bool.

    Raises InputError as `distances` does, and for a tolerance that is not above 0.
    """
    if not tolerance > 0:
        raise InputError("tolerance", tolerance, "a number above 0")
    return distances(view, logits) < tolerance


def accuracy(inside: Tensor, outside: Tensor) -> float:
    """The mean of the shares that are right among members and among non-members; 1/2 for a guess.

    inside, outside: what `members` says of members and of non-members.
    """
    return (float(inside.double().mean()) + 1 - float(outside.double().mean())) / 2


def ranked(inside: Tensor, outside: Tensor) -> float:
    """P(d of a member < d of a non-member), where ties count half: the area under the ROC curve; 1/2 for a guess."""
    less = (inside[:, None] < outside).double() + 0.5 * (inside[:, None] == outside).double()
    return float(less.mean())
