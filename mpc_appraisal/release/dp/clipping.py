"""Clipping: each owner bounds its own input, in the clear, so that one row can change an answer by only so much.

    x  <-  x * min(1, r / ||x||),    r = sqrt(R^2 - 1) - sqrt(d) 2^-17
    y  <-  max(-t, min(y, t)),       t = T - 2^-17            (a target that is a number)

Where noise protects persons, a row of a person with k rows has R_i = min(R, B / k) in place of R, so that the norms of
one person's rows add up to B at most (`row_norms`).

x is a row of d features, and R bounds its norm once the constant feature 1 is appended: `||[x, 1]|| <= R`. r leaves
room for the rounding of each entry to fixed point, which is 2^-17 at most, and so does t. R and T are public and have
to be chosen before anybody looks at the data, because a quantile of the candidate's own norms would tell of them. The
data owner clips its rows with `clipped`, and the model owner its influence direction, a matrix with a column for each
class, or with one column for a model without a softmax, with `clip_direction`.

What clipping does to a value, and which of the two is checked on shares, is in docs/protocols/releases.md. How the
norms are computed may change; the bounds R, T and `bound` have to hold after rounding, because noise is scaled to them.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from mpc_appraisal.common.checks import number
from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, StoredDataset, transformed
from mpc_appraisal.mpc.ring.fixed_point import MAX_ABS, PRECISION_BITS, check_range
from mpc_appraisal.release.description import GroupBound

ROUNDING = 2.0 ** -(PRECISION_BITS + 1)  # the largest rounding error of an entry


def check_norm(norm: float, name: str) -> float:
    """Return `norm` if it may bound rows that hold a constant feature 1. Raises InputError, under `name`, otherwise."""
    return number(name, norm, "a finite norm above 1, the constant feature of every row counted", above=1)


def radius(norm: float, features: int, name: str = "release.row_norm") -> float:
    """Return the largest norm r of a row of `features` entries, without the constant feature, that is left as it is.

    `norm` is R. Raises InputError, under `name`, for a norm that leaves nothing beside the rounding of the entries.
    """
    room = math.sqrt(check_norm(norm, name) ** 2 - 1) - math.sqrt(features) * ROUNDING
    if room <= 0:
        raise InputError(name, norm, f"a norm that leaves {features} features more than 16 fractional bits' rounding")
    return room


def clip_rows(x: torch.Tensor, norm: float | torch.Tensor, name: str = "release.row_norm") -> torch.Tensor:
    """Clip the rows of x (n, d), without the constant feature, to R = `norm`. Returns (n, d) in float64.

    A tensor of norms (n,) states one for each row.

    Raises InputError if x is not a floating-point matrix or holds NaN or infinity, and under `name` if `norm` is no
    finite number above 1 or leaves no room for rounding.
    """
    if x.dim() != 2 or not x.is_floating_point():
        raise InputError("x", f"{x.dtype} of shape {tuple(x.shape)}", "floating point of shape (rows, features)")
    if isinstance(norm, torch.Tensor):
        different, places = torch.unique(norm, return_inverse=True)
        radii = [radius(each, x.shape[1], name) for each in different.tolist()]
        limit = torch.tensor(radii, dtype=torch.float64)[places].unsqueeze(1)
    else:
        limit = radius(norm, x.shape[1], name)
    check_range(x, "x", math.inf)
    rows = x.to(torch.float64)
    # Rows are divided by their largest entry first, so that squares of huge entries do not overflow.
    largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    norms = torch.linalg.vector_norm(rows / largest, dim=1, keepdim=True)
    long = norms * largest > limit  # this is true, as it should be, if the product overflows
    return torch.where(long, rows / largest * (limit / norms), rows)


def check_target_norm(norm: float, name: str = "release.target_norm") -> float:
    """Return `norm` if it may bound targets that are numbers. Raises InputError, under `name`, otherwise."""
    expected = f"a public bound on the size of a target: a number above {4 * ROUNDING:.1e}, at most {MAX_ABS:g}"
    return number(name, norm, expected, above=4 * ROUNDING, most=MAX_ABS)


def clip_targets(y: torch.Tensor, norm: float, name: str = "release.target_norm") -> torch.Tensor:
    """Clip the numbers y (n,) to T = `norm`, such that they are within T once they are rounded; (n,) in float64.

    Raises InputError if y holds NaN or infinity, and under `name` for a bad `norm`.
    """
    limit = check_target_norm(norm, name) - ROUNDING
    check_range(y, "y", math.inf)
    return y.to(torch.float64).clamp(-limit, limit)


def row_norms(groups: torch.Tensor | None, bound: GroupBound, norm: float, name: str) -> torch.Tensor:
    """Return the norm R_i = min(R, B / k) of each group's rows, by the group's number; k is its number of rows.

    Args:
        groups: The group of each row of the candidate, (n,).
        bound: The bounds on one person's rows.
        norm: The public norm R.
        name: What errors call the candidate.

    Raises:
        InputError: The rows are of no stated persons, or a person has more rows than the bound says.
    """
    if groups is None:
        expected = f"rows that say whose they are, in the column {bound.column!r} (in Python, Dataset.grouped)"
        raise InputError("release.group", f"{name}, whose rows are of no stated persons", expected)
    sizes = torch.bincount(groups)
    if sizes.max() > bound.rows:
        row = int((sizes[groups] > bound.rows).nonzero()[0])
        found = f"{name}, in which the person of row {row} has {int(sizes[groups[row]])} rows"
        expected = f"at most {bound.rows} rows of each person, as release.group_rows says (rows count from 0)"
        raise InputError("release.group_rows", found, expected)
    return (bound.norm / sizes.clamp_min(1).to(torch.float64)).clamp_max(norm)


def clipped(
    data: Dataset | StoredDataset,
    norm: float | None,
    classes: int,
    target_norm: float | None = None,
    group: GroupBound | None = None,
) -> Dataset | StoredDataset:
    """Return the candidate as its owner shares it when rows are clipped to `norm`. None changes nothing.

    With `group`, the norms of each person's rows add up to its bound at most.

    A target that is a number is clipped to `target_norm`. A label that the model has no class for is taken for the last
    of the model's `classes`, because to refuse the data would tell of that row.
    """
    if norm is None:
        return data
    targets = None if target_norm is None else partial(clip_targets, norm=target_norm)
    if group is None:
        return transformed(data, partial(clip_rows, norm=norm), classes, targets)
    each = row_norms(data.groups, group, norm, data.name)
    radius(min(norm, group.norm / group.rows), data.features, "release.group_norm")
    return transformed(data, lambda x, groups: clip_rows(x, each[groups]), classes, targets, by_group=True)


def clipped_share(x: torch.Tensor, norm: float) -> float:
    """Return the fraction of the rows of x (n, d) that `clip_rows` changes. It is private to their owner."""
    return (clip_rows(x, norm) != x).any(1).double().mean().item()


def spread(direction: torch.Tensor) -> float:
    """Return the spread of a direction (d + 1, C): the largest distance of two columns, or the one column's norm."""
    columns = direction.to(torch.float64).t().contiguous()
    if len(columns) == 1:
        return torch.linalg.vector_norm(columns).item()
    return max(torch.linalg.vector_norm(columns - column, dim=1).max().item() for column in columns)


def clip_direction(direction: torch.Tensor, bound: float, name: str = "release.spread") -> torch.Tensor:
    """Return the model owner's influence direction V (d + 1, C) with a spread of at most `bound` once it is shared.

    The mean of the columns is taken off. No value depends on that mean, since the rows of softmax(X W) - Y sum to zero,
    where X are a candidate's rows, Y its one-hot labels and W the weights. One column, of a model without a softmax, is
    not centred. A direction of a larger spread is shrunk as a whole, which multiplies all values of that model owner by
    one factor and keeps their order.

    Raises InputError if V is not a floating-point matrix or holds NaN or infinity, and under `name` if `bound` is not
    above the rounding of two columns.
    """
    if direction.dim() != 2 or not direction.is_floating_point():
        got = f"{direction.dtype} of shape {tuple(direction.shape)}"
        raise InputError("direction", got, "floating point of shape (features + 1, classes)")
    margin = 2 * math.sqrt(len(direction)) * ROUNDING  # two columns, each rounded
    expected = f"a finite number above {margin:.1e}, which is rounding to 16 fractional bits"
    number(name, bound, expected, above=margin)
    check_range(direction, "direction", math.inf)
    centred = direction.to(torch.float64)
    if direction.shape[1] > 1:
        centred = centred - centred.mean(1, keepdim=True)
    # V is rounded when it is shared, whether it is shrunk or not, so that the margin always applies.
    return centred * min(1.0, (bound - margin) / max(spread(centred), 1e-300))
