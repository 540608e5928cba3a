"""Clipping: what makes the change of one row bounded, done by each owner on its own input, in the clear.

    x  <-  x * min(1, r / ||x||),    r = sqrt(R^2 - 1) - sqrt(d) 2^-17

The methods add a constant feature 1 to every row, and R bounds the norm with it: ||[x, 1]|| <= R, so R is above 1. The
second term of r is what rounding to 16 fractional bits may add, so that no row of what is shared is longer than R.

R is public and chosen before anybody looks at the data: a quantile of the candidate's own norms would tell of them.

What clipping does to the value. The value is that of the clipped candidate. A row within r is not changed at all; a
longer one keeps its direction and label, weighs less in every gradient (the constant feature keeps its weight), and its
probabilities move towards those at the origin. Candidates with long rows therefore change most, and the order of
candidates may change: a model owner should train on rows clipped to the same R. How many rows were clipped is a fact of
the data, for their owner's eyes alone.

That the model owner's direction is no longer than told is checked on shares (`mpc.norm_check`). That the data owner's
rows are clipped is not: it has every reason to clip, for what clipping protects is its own rows. A data owner that does
not clip has its value blurred by less noise than R stands for, for which no guarantee is given to the model owner.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from mpc_appraisal.common.errors import InputError
from mpc_appraisal.data import Dataset, StoredDataset, transformed
from mpc_appraisal.mpc.ring.fixed_point import PRECISION_BITS, check_range

ROUNDING = 2.0 ** -(PRECISION_BITS + 1)  # of an entry, at most


def check_norm(norm: float, name: str) -> float:
    """Raises InputError unless `norm` may bound rows that hold a constant feature 1."""
    if isinstance(norm, bool) or not isinstance(norm, (int, float)) or not 1 < norm < math.inf:
        raise InputError(name, norm, "a finite norm above 1, the constant feature of every row counted")
    return float(norm)


def radius(norm: float, features: int, name: str = "release.row_norm") -> float:
    """r: the largest norm of a row of `features` entries, without the constant feature, that is left as it is."""
    room = math.sqrt(check_norm(norm, name) ** 2 - 1) - math.sqrt(features) * ROUNDING
    if room <= 0:
        raise InputError(name, norm, f"a norm that leaves {features} features more than 16 fractional bits' rounding")
    return room


def clip_rows(x: torch.Tensor, norm: float, name: str = "release.row_norm") -> torch.Tensor:
    """x (n, d) without the constant feature -> (n, d) float64, every row within R = `norm` as the methods count it.

    Raises InputError: x is not such a matrix, holds NaN or infinity, or `norm` (under `name`) is not above 1.
    """
    if x.dim() != 2 or not x.is_floating_point():
        raise InputError("x", f"{x.dtype} of shape {tuple(x.shape)}", "floating point of shape (rows, features)")
    limit = radius(norm, x.shape[1], name)
    check_range(x, "x", math.inf)
    rows = x.to(torch.float64)
    # The largest entry first, so that squares of huge entries do not overflow to an infinite norm.
    largest = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    norms = torch.linalg.vector_norm(rows / largest, dim=1, keepdim=True)
    long = norms * largest > limit  # true when the product overflows, as it should be
    return torch.where(long, rows / largest * (limit / norms), rows)


def clipped(data: Dataset | StoredDataset, norm: float | None, classes: int) -> Dataset | StoredDataset:
    """The candidate as its owner shares it under a release whose rows are clipped to `norm`; None changes nothing.

    A label that the model has no class for is taken for the last of the model's `classes`, because to refuse the data
    would tell of that row.
    """
    return data if norm is None else transformed(data, partial(clip_rows, norm=norm), classes)


def clipped_share(x: torch.Tensor, norm: float) -> float:
    """The part of the rows of x (n, d) that `clip_rows` changes; private to their owner."""
    return (clip_rows(x, norm) != x).any(1).double().mean().item()


def spread(direction: torch.Tensor) -> float:
    """The largest distance between two columns of (d + 1, C): max over c, k of ||v_c - v_k||."""
    columns = direction.to(torch.float64).t().contiguous()
    return max(torch.linalg.vector_norm(columns - column, dim=1).max().item() for column in columns)


def clip_direction(direction: torch.Tensor, bound: float, name: str = "release.direction_spread") -> torch.Tensor:
    """The model owner's influence direction V (d + 1, C), its spread at most `bound` once it is shared -> (d + 1, C).

    The mean of the columns is taken off, which no value sees: rows of softmax(X W) - Y sum to zero. If V is longer it
    is shrunk as a whole, which multiplies all values of that model owner by one factor and keeps their order.

    Raises InputError: V is no such matrix, holds NaN or infinity, or `bound` is not above rounding.
    """
    if direction.dim() != 2 or not direction.is_floating_point():
        got = f"{direction.dtype} of shape {tuple(direction.shape)}"
        raise InputError("direction", got, "floating point of shape (features + 1, classes)")
    margin = 2 * math.sqrt(len(direction)) * ROUNDING  # two columns, each rounded
    if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not margin < bound < math.inf:
        raise InputError(name, bound, f"a finite number above {margin:.1e}, which is rounding to 16 fractional bits")
    check_range(direction, "direction", math.inf)
    centred = direction.to(torch.float64) - direction.to(torch.float64).mean(1, keepdim=True)
    # Always below the margin, not only when it is shrunk: V is rounded either way.
    return centred * min(1.0, (bound - margin) / max(spread(centred), 1e-300))
